-- Every change to an account, with the account's running balance right after it.
SELECT
    shard, sequence, kind, account, bet, cash_minor, stakes_minor, receivable_minor,
    sum(cash_minor) OVER running AS cash_after,
    sum(stakes_minor) OVER running AS stakes_after,
    sum(receivable_minor) OVER running AS receivable_after
FROM entry
WHERE account IS NOT NULL AND kind <> 11
WINDOW running AS (PARTITION BY shard, account ORDER BY sequence ROWS UNBOUNDED PRECEDING)
