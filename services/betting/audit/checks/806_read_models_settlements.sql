-- name: read_models.settlements
-- means: The table of settlements is every settlement, correction and reopening in the journal.
-- examines: betting.bet_settlements WHERE shard = ANY (:shards)
WITH said AS (
    SELECT x.*
    FROM settlement x
    JOIN mark m ON m.shard = x.shard AND x.sequence <= m.watermark
), kept AS (
    SELECT * FROM betting.bet_settlements WHERE shard = ANY (:shards)
)
SELECT
    shard, sequence, coalesce(s.account, k.account) AS account, coalesce(s.bet, k.bet) AS bet, 'settlement' AS subject,
    CASE WHEN s.kind IS NULL THEN 'no row' ELSE format(
        'kind %s, number %s, market %s version %s, payout %s', s.kind, s.number, s.market, s.version, s.payout_minor
    ) END AS expected,
    CASE WHEN k.kind IS NULL THEN 'no row' ELSE format(
        'kind %s, number %s, market %s version %s, payout %s', k.kind, k.number, k.market, k.version, k.payout_minor
    ) END AS found
FROM said s
FULL JOIN kept k USING (shard, sequence)
WHERE (s.kind, s.bet, s.account, s.number, s.version, s.market, s.payout_minor, s.at_us)
    IS DISTINCT FROM (k.kind, k.bet, k.account, k.number, k.version, k.market, k.payout_minor, k.at_us)
