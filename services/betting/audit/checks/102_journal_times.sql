-- name: journal.times
-- means: Time never runs backwards within a shard.
-- examines: entry
SELECT
    shard, sequence, account, bet, 'at_us' AS subject,
    'at least ' || before AS expected, at_us::text AS found
FROM (
    SELECT shard, sequence, account, bet, at_us, lag(at_us) OVER (PARTITION BY shard ORDER BY sequence) AS before
    FROM entry
)
WHERE at_us < before
