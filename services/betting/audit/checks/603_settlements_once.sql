-- name: settlements.once
-- means: A market version decides a bet at most once.
-- examines: settlement
SELECT
    shard, max(sequence) AS sequence, NULL::uuid AS account, bet,
    format('market %s version %s', market, version) AS subject,
    'one outcome' AS expected, format('%s outcomes', count(*)) AS found
FROM settlement
GROUP BY shard, bet, market, version
HAVING count(*) > 1
