-- name: journal.sequences
-- means: In every shard the sequences run 1, 2, 3, … without a gap and without a repeat.
-- examines: entry
SELECT
    shard, sequence, account, bet, 'sequence' AS subject,
    (before + 1)::text AS expected, sequence::text AS found
FROM (
    SELECT shard, sequence, account, bet, lag(sequence, 1, 0::bigint) OVER (PARTITION BY shard ORDER BY sequence) AS before
    FROM entry
)
WHERE sequence <> before + 1
