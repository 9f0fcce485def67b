-- name: accounts.stakes
-- means: No account's open stakes are ever below zero, after any entry.
-- examines: posting
SELECT shard, sequence, account, bet, 'open stakes' AS subject, 'at least 0' AS expected, stakes_after::text AS found
FROM posting
WHERE stakes_after < 0
