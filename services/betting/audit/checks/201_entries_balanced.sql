-- name: entries.balanced
-- means: The five ledger columns of every entry sum to zero.
-- examines: entry
SELECT shard, sequence, account, bet, 'sum of the ledger columns' AS subject, '0' AS expected, total::text AS found
FROM (
    SELECT
        shard, sequence, account, bet,
        cash_minor::numeric + stakes_minor + house_minor + clearing_minor + receivable_minor AS total
    FROM entry
)
WHERE total <> 0
