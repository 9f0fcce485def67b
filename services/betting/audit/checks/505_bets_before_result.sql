-- name: bets.before_result
-- means: No bet was placed on a market after its first result in that shard.
-- examines: leg
SELECT
    l.shard, l.sequence, l.account, l.bet, format('market %s', l.market) AS subject,
    format('placed before sequence %s', r.sequence) AS expected, format('placed at sequence %s', l.sequence) AS found
FROM leg l
JOIN (SELECT shard, market, min(sequence) AS sequence FROM result GROUP BY shard, market) r
    ON r.shard = l.shard AND r.market = l.market AND r.sequence < l.sequence
