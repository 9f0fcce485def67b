-- name: read_models.strays
-- means: No balance is kept for an account that does not exist.
-- scope: platform
-- examines: betting.balances
SELECT
    NULL::int AS shard, b.sequence, b.account, NULL::uuid AS bet, 'balance' AS subject, 'no row' AS expected,
    format('cash %s, open stakes %s, receivable %s', b.cash_minor, b.open_stakes_minor, b.receivable_minor) AS found
FROM betting.balances b
LEFT JOIN betting.accounts a USING (account)
WHERE a.account IS NULL
