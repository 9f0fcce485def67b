-- name: read_models.legs
-- means: Every bet that was ever settled can be found by each of its markets, and no other bet.
-- examines: betting.bet_legs WHERE shard = ANY (:shards)
WITH said AS (
    SELECT DISTINCT l.market, l.shard, l.bet, l.account, l.sequence
    FROM leg l
    JOIN (
        SELECT DISTINCT x.shard, x.bet
        FROM settlement x
        JOIN mark m ON m.shard = x.shard AND x.sequence <= m.watermark
    ) settled USING (shard, bet)
), kept AS (
    SELECT market, shard, bet, true AS there FROM betting.bet_legs WHERE shard = ANY (:shards)
)
SELECT
    shard, s.sequence, s.account, bet, format('leg on market %s', market) AS subject,
    CASE WHEN s.sequence IS NULL THEN 'no row' ELSE 'a row' END AS expected,
    CASE WHEN k.there THEN 'a row' ELSE 'no row' END AS found
FROM said s
FULL JOIN kept k USING (market, shard, bet)
WHERE s.sequence IS NULL OR k.there IS NULL
