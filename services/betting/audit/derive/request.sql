-- The request keys of these shards that the platform answers repeats from.
SELECT request_key, shard, sequence, account
FROM betting.requests
WHERE shard = ANY (:shards)
