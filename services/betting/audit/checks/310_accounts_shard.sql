-- name: accounts.shard
-- means: Every account is in its user's shard: CRC-32 of the user id, modulo the number of shards.
-- examines: account
SELECT
    shard, sequence, account, NULL::uuid AS bet, 'shard' AS subject,
    (crc32(user_bytes) % :shard_count)::text AS expected, shard::text AS found
FROM account
WHERE crc32(user_bytes) % :shard_count <> shard
