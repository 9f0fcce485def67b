-- name: journal.shards
-- means: Every entry is in one of the platform's shards.
-- examines: entry
SELECT
    shard, min(sequence) AS sequence, NULL::uuid AS account, NULL::uuid AS bet, 'shard' AS subject,
    format('0 to %s', :shard_count - 1) AS expected, format('%s, with %s entries', shard, count(*)) AS found
FROM entry
WHERE shard NOT BETWEEN 0 AND :shard_count - 1
GROUP BY shard
