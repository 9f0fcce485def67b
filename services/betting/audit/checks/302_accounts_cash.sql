-- name: accounts.cash
-- means: No account's cash is ever below zero, after any entry.
-- examines: posting
SELECT shard, sequence, account, bet, 'cash' AS subject, 'at least 0' AS expected, cash_after::text AS found
FROM posting
WHERE cash_after < 0
