-- name: read_models.balances
-- means: The table of balances is the sum of every account's entries.
-- examines: betting.balances JOIN betting.accounts USING (account) WHERE shard = ANY (:shards)
WITH said AS (
    SELECT
        p.shard, p.account, max(p.sequence) AS sequence,
        sum(p.cash_minor) AS cash, sum(p.stakes_minor) AS stakes, sum(p.receivable_minor) AS receivable
    FROM posting p
    JOIN mark m ON m.shard = p.shard AND p.sequence <= m.watermark
    GROUP BY p.shard, p.account
)
SELECT
    s.shard, s.sequence, account, NULL::uuid AS bet, 'balance' AS subject,
    format('cash %s, open stakes %s, receivable %s', s.cash, s.stakes, s.receivable) AS expected,
    CASE WHEN b.cash_minor IS NULL THEN 'no row'
        ELSE format('cash %s, open stakes %s, receivable %s', b.cash_minor, b.open_stakes_minor, b.receivable_minor)
    END AS found
FROM said s
LEFT JOIN betting.balances b USING (account)
WHERE (coalesce(b.cash_minor, 0), coalesce(b.open_stakes_minor, 0), coalesce(b.receivable_minor, 0))
    IS DISTINCT FROM (s.cash, s.stakes, s.receivable)
