-- name: accounts.repayment
-- means: What comes in repays the receivable first; what is taken back takes the cash there is and posts the rest as owed.
-- examines: posting WHERE kind IN (2, 21, 23, 24)
SELECT
    shard, sequence, account, bet, 'share of the receivable' AS subject,
    due::text AS expected, receivable_minor::text AS found
FROM (
    SELECT
        *,
        CASE
            WHEN moved >= 0 THEN least(moved, -(receivable_after - receivable_minor))
            ELSE moved + least(-moved, cash_after - cash_minor)
        END AS due
    FROM (
        SELECT *, cash_minor::numeric + receivable_minor AS moved
        FROM posting
        WHERE kind IN (2, 21, 23, 24)
    )
)
WHERE receivable_minor <> due
