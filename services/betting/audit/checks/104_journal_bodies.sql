-- name: journal.bodies
-- means: Every entry's body is as long as its kind says, and it names the account, bet, request key and market its kind needs.
-- examines: entry
SELECT
    shard, sequence, account, bet, format('body of kind %s', kind) AS subject,
    format(
        '%s bytes, with%s%s%s%s',
        coalesce(pg_temp.right_length(kind, body)::text, 'more'),
        CASE WHEN kind NOT IN (20, 22, 25) THEN ' account' END, CASE WHEN kind IN (10, 21, 23, 24) THEN ' bet' END,
        CASE WHEN kind IN (2, 3, 10, 11) THEN ' key' END, CASE WHEN kind >= 20 THEN ' market' END
    ) AS expected,
    format(
        '%s bytes, with%s%s%s%s', length(body),
        CASE WHEN account IS NOT NULL THEN ' account' END, CASE WHEN bet IS NOT NULL THEN ' bet' END,
        CASE WHEN request_key IS NOT NULL THEN ' key' END, CASE WHEN market IS NOT NULL THEN ' market' END
    ) AS found
FROM entry
WHERE sound IS NOT TRUE AND kind IN (1, 2, 3, 10, 11, 20, 21, 22, 23, 24, 25) AND format = 1
