-- name: settlements.versions
-- means: A market's versions count 1, 2, 3, … in every shard, each starting only after the one before was settled.
-- examines: result
SELECT
    shard, sequence, NULL::uuid AS account, NULL::uuid AS bet, format('market %s', market) AS subject,
    CASE
        WHEN version <> before + 1 THEN format('version %s', before + 1)
        ELSE format('version %s settled before', before)
    END AS expected,
    CASE
        WHEN version <> before + 1 THEN format('version %s', version)
        ELSE coalesce(format('settled at sequence %s', done_before), 'not settled')
    END AS found
FROM (
    SELECT
        shard, sequence, market, version,
        lag(version, 1, 0::bigint) OVER of_market AS before,
        lag(done_sequence) OVER of_market AS done_before
    FROM result
    WINDOW of_market AS (PARTITION BY shard, market ORDER BY sequence)
)
WHERE version <> before + 1 OR (before > 0 AND (done_before IS NULL OR done_before > sequence))
