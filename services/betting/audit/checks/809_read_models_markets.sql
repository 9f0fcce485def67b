-- name: read_models.markets
-- means: What each market version settled, as counted for corrections, is what the journal's bets add up to.
-- examines: betting.market_settlements WHERE shard = ANY (:shards)
WITH decided AS (
    SELECT x.shard, x.market, x.version, count(*) AS bets, sum(x.payout_minor) AS payout_minor
    FROM settlement x
    JOIN mark m ON m.shard = x.shard AND x.sequence <= m.watermark
    GROUP BY x.shard, x.market, x.version
), closed AS (
    SELECT r.shard, r.market, r.version, r.done_sequence
    FROM result r
    JOIN mark m ON m.shard = r.shard AND r.done_sequence <= m.watermark
), said AS (
    SELECT
        shard, market, version, coalesce(bets, 0) AS bets, coalesce(payout_minor, 0) AS payout_minor, done_sequence
    FROM decided
    FULL JOIN closed USING (shard, market, version)
), kept AS (
    SELECT * FROM betting.market_settlements WHERE shard = ANY (:shards)
)
SELECT
    shard, coalesce(s.done_sequence, k.sequence) AS sequence, NULL::uuid AS account, NULL::uuid AS bet,
    format('market %s version %s', market, version) AS subject,
    CASE WHEN s.bets IS NULL THEN 'no row'
        ELSE format('%s bets paying %s, closed at %s', s.bets, s.payout_minor, s.done_sequence) END AS expected,
    CASE WHEN k.bets IS NULL THEN 'no row'
        ELSE format('%s bets paying %s, closed at %s', k.bets, k.payout_minor, k.sequence) END AS found
FROM said s
FULL JOIN kept k USING (shard, market, version)
WHERE (coalesce(s.bets, 0), coalesce(s.payout_minor, 0), s.done_sequence)
    IS DISTINCT FROM (coalesce(k.bets, 0), coalesce(k.payout_minor, 0), k.sequence)
