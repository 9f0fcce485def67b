-- name: settlements.totals
-- means: A version closes with the number of bets it decided and the sum of their payouts (reopened ones count, with 0).
-- examines: entry WHERE kind = 25
WITH closed AS (
    SELECT
        shard, sequence, market,
        pg_temp.number_at(body, 0, 4) AS version,
        pg_temp.number_at(body, 4, 8) AS bets,
        pg_temp.number_at(body, 12, 8) AS payout_minor
    FROM entry
    WHERE kind = 25 AND sound
), decided AS (
    SELECT shard, market, version, count(*) AS bets, sum(payout_minor) AS payout_minor
    FROM settlement
    GROUP BY shard, market, version
)
SELECT
    shard, c.sequence, NULL::uuid AS account, NULL::uuid AS bet,
    format('market %s version %s', market, version) AS subject,
    format('%s bets paying %s', coalesce(d.bets, 0), coalesce(d.payout_minor, 0)) AS expected,
    format('%s bets paying %s', c.bets, c.payout_minor) AS found
FROM closed c
LEFT JOIN decided d USING (shard, market, version)
WHERE (c.bets, c.payout_minor) IS DISTINCT FROM (coalesce(d.bets, 0), coalesce(d.payout_minor, 0))
