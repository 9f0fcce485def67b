-- name: accounts.withdrawals
-- means: Nobody withdrew while owing money.
-- examines: posting WHERE kind = 3
SELECT
    shard, sequence, account, bet, 'receivable before a withdrawal' AS subject,
    '0' AS expected, (receivable_after - receivable_minor)::text AS found
FROM posting
WHERE kind = 3 AND receivable_after - receivable_minor <> 0
