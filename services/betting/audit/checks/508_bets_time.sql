-- name: bets.time
-- means: The time inside a bet is the time of its entry.
-- examines: bet
SELECT
    shard, sequence, account, bet, 'placed at' AS subject, at_us::text AS expected, placed_at_us::text AS found
FROM bet
WHERE placed_at_us <> at_us
