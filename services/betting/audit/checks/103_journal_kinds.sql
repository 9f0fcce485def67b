-- name: journal.kinds
-- means: Every entry is of a known kind, in a known format.
-- examines: entry
SELECT
    shard, sequence, account, bet, 'kind and format' AS subject,
    'a known kind in format 1' AS expected, format('kind %s in format %s', kind, format) AS found
FROM entry
WHERE kind NOT IN (1, 2, 3, 10, 11, 20, 21, 22, 23, 24, 25) OR format <> 1
