-- The oldest request key that must still be kept: day partitions older than the oldest one there is have been dropped.
SELECT coalesce(
    min((regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''([0-9a-f-]{36})''\)'))[1])::uuid,
    '00000000-0000-0000-0000-000000000000'
) AS since_key
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'betting.requests'::regclass
