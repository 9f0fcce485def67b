-- name: entries.accounts
-- means: The account inside an entry's body is the account the entry is about.
-- examines: entry WHERE kind IN (2, 3, 10, 11, 24)
SELECT
    shard, sequence, account, bet, format('account in the body of kind %s', kind) AS subject,
    account::text AS expected, inside::text AS found
FROM (
    SELECT
        shard, sequence, account, bet, kind,
        pg_temp.uuid_at(body, CASE kind WHEN 24 THEN 14 ELSE 0 END) AS inside
    FROM entry
    WHERE sound AND kind IN (2, 3, 10, 11, 24)
)
WHERE inside IS DISTINCT FROM account
