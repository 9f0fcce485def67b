-- name: bets.once
-- means: Every bet was placed once.
-- examines: entry WHERE kind = 10
SELECT
    shard, sequence, account, bet, 'placed' AS subject, 'once' AS expected,
    format('again, first at sequence %s', first_sequence) AS found
FROM (
    SELECT shard, sequence, account, bet, min(sequence) OVER (PARTITION BY shard, bet) AS first_sequence
    FROM entry
    WHERE kind = 10 AND bet IS NOT NULL
)
WHERE sequence <> first_sequence
