-- Every market version: when its result came into force, when the next one did, when its settlement ended.
SELECT
    r.shard, r.sequence, r.market,
    pg_temp.number_at(r.body, 0, 4) AS version,
    lead(r.sequence) OVER (PARTITION BY r.shard, r.market ORDER BY r.sequence) AS until_sequence,
    done.sequence AS done_sequence,
    r.body
FROM entry r
LEFT JOIN (
    SELECT shard, market, substr(body, 1, 4) AS version, min(sequence) AS sequence
    FROM entry
    WHERE kind = 25 AND sound
    GROUP BY shard, market, substr(body, 1, 4)
) done ON done.shard = r.shard AND done.market = r.market AND done.version = substr(r.body, 1, 4)
WHERE r.kind = 20 AND r.sound
