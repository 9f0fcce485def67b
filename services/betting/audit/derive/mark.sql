-- Up to which entry the read models of each shard were derived.
SELECT shard, sequence AS watermark
FROM betting.projector
WHERE shard = ANY (:shards)
