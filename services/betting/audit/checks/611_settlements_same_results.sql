-- name: settlements.same_results
-- means: A market version has the same result in every shard.
-- scope: platform
-- examines: betting.journal WHERE kind = 20
WITH results AS (
    SELECT
        shard, sequence, market, substr(body, 1, 4) AS version, substr(body, 5) AS outcomes,
        first_value(substr(body, 5)) OVER same AS first_outcomes,
        first_value(shard) OVER same AS first_shard
    FROM betting.journal
    WHERE kind = 20 AND format = 1 AND length(body) >= 4
    WINDOW same AS (PARTITION BY market, substr(body, 1, 4) ORDER BY shard, sequence)
)
SELECT
    shard, sequence, NULL::uuid AS account, NULL::uuid AS bet,
    format('result of market %s version %s', market, version::int) AS subject,
    format('0x%s as in shard %s', encode(first_outcomes, 'hex'), first_shard) AS expected,
    format('0x%s', encode(outcomes, 'hex')) AS found
FROM results
WHERE outcomes <> first_outcomes
