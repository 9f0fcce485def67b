-- name: read_models.ledger
-- means: The ledger that users see is every movement of their cash and of what they owe.
-- examines: betting.ledger WHERE shard = ANY (:shards)
WITH said AS (
    SELECT e.shard, e.sequence, e.account, e.kind, e.cash_minor, e.receivable_minor, e.bet, e.at_us
    FROM entry e
    JOIN mark m ON m.shard = e.shard AND e.sequence <= m.watermark
    WHERE e.account IS NOT NULL AND (e.cash_minor <> 0 OR e.receivable_minor <> 0)
), kept AS (
    SELECT * FROM betting.ledger WHERE shard = ANY (:shards)
)
SELECT
    coalesce(s.shard, k.shard) AS shard, sequence, account, coalesce(s.bet, k.bet) AS bet, 'movement' AS subject,
    CASE WHEN s.shard IS NULL THEN 'no row'
        ELSE format('kind %s, cash %s, receivable %s', s.kind, s.cash_minor, s.receivable_minor) END AS expected,
    CASE WHEN k.shard IS NULL THEN 'no row'
        ELSE format('kind %s, cash %s, receivable %s', k.kind, k.cash_minor, k.receivable_minor) END AS found
FROM said s
FULL JOIN kept k USING (account, sequence)
WHERE (s.shard, s.kind, s.cash_minor, s.receivable_minor, s.bet, s.at_us)
    IS DISTINCT FROM (k.shard, k.kind, k.cash_minor, k.receivable_minor, k.bet, k.at_us)
