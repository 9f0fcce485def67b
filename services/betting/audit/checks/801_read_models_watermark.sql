-- name: read_models.watermark
-- means: Read models are not ahead of the journal they are derived from.
-- examines: mark
SELECT
    m.shard, m.watermark AS sequence, NULL::uuid AS account, NULL::uuid AS bet, 'watermark' AS subject,
    format('at most %s', coalesce(e.head, 0)) AS expected, m.watermark::text AS found
FROM mark m
LEFT JOIN (SELECT shard, max(sequence) AS head FROM entry GROUP BY shard) e USING (shard)
WHERE m.watermark > coalesce(e.head, 0)
