-- name: entries.amounts
-- means: Amounts moved and stakes are positive, payouts are not negative.
-- examines: entry WHERE kind IN (2, 3, 10, 21, 23, 24)
SELECT
    shard, sequence, account, bet, format('amounts of kind %s', kind) AS subject,
    CASE WHEN kind IN (2, 3, 10) THEN 'above 0' ELSE 'at least 0' END AS expected, least(first, second)::text AS found
FROM (
    SELECT
        shard, sequence, account, bet, kind,
        pg_temp.number_at(body, CASE WHEN kind IN (2, 3, 10) THEN 16 ELSE 6 END, 8) AS first,
        CASE WHEN kind = 23 THEN pg_temp.number_at(body, 14, 8) END AS second
    FROM entry
    WHERE sound AND kind IN (2, 3, 10, 21, 23, 24)
)
WHERE least(first, second) < CASE WHEN kind IN (2, 3, 10) THEN 1 ELSE 0 END
