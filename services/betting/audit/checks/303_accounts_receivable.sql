-- name: accounts.receivable
-- means: What an account owes is a receivable of zero or below, never a claim on the house, after any entry.
-- examines: posting
SELECT shard, sequence, account, bet, 'receivable' AS subject, 'at most 0' AS expected, receivable_after::text AS found
FROM posting
WHERE receivable_after > 0
