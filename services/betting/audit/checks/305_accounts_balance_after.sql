-- name: accounts.balance_after
-- means: The balance that a deposit or withdrawal told the user is the balance right after it.
-- examines: entry WHERE kind IN (2, 3)
SELECT
    shard, sequence, account, bet, 'balance after' AS subject,
    format('cash %s, open stakes %s, receivable %s', cash_after, stakes_after, receivable_after) AS expected,
    format('cash %s, open stakes %s, receivable %s', cash, stakes, receivable) AS found
FROM (
    SELECT
        p.*,
        pg_temp.number_at(e.body, 24, 8) AS cash,
        pg_temp.number_at(e.body, 32, 8) AS stakes,
        pg_temp.number_at(e.body, 40, 8) AS receivable
    FROM posting p
    JOIN entry e USING (shard, sequence)
    WHERE e.sound AND e.kind IN (2, 3)
)
WHERE (cash, stakes, receivable) IS DISTINCT FROM (cash_after, stakes_after, receivable_after)
