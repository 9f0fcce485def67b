-- Every shard that has a row anywhere, with its journal's head, its projector's watermark and the number of shards.
WITH RECURSIVE in_journal AS (
    SELECT min(shard) AS shard FROM betting.journal
    UNION ALL
    SELECT (SELECT min(j.shard) FROM betting.journal j WHERE j.shard > i.shard) FROM in_journal i WHERE i.shard IS NOT NULL
), known AS (
    SELECT shard FROM in_journal WHERE shard IS NOT NULL
    UNION
    SELECT shard_id FROM betting.shards
    UNION
    SELECT shard FROM betting.projector
)
SELECT
    k.shard,
    coalesce((SELECT max(j.sequence) FROM betting.journal j WHERE j.shard = k.shard), 0) AS head,
    coalesce(p.sequence, 0) AS watermark,
    (SELECT shard_count FROM betting.install) AS shard_count
FROM known k
LEFT JOIN betting.projector p ON p.shard = k.shard
ORDER BY k.shard
