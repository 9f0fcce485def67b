-- name: settlements.before
-- means: A correction starts from what the bet was paid before, and changes it.
-- examines: settlement WHERE kind IN (23, 24)
SELECT
    shard, sequence, account, bet, 'payout before' AS subject,
    CASE
        WHEN paid_before IS DISTINCT FROM payout_before_minor THEN coalesce(paid_before::text, 'a payout before')
        ELSE format('a payout other than %s', payout_before_minor)
    END AS expected,
    CASE
        WHEN paid_before IS DISTINCT FROM payout_before_minor THEN payout_before_minor::text
        ELSE payout_minor::text
    END AS found
FROM (
    SELECT *, lag(payout_minor) OVER (PARTITION BY shard, bet ORDER BY sequence) AS paid_before
    FROM settlement
)
WHERE kind IN (23, 24)
    AND (paid_before IS DISTINCT FROM payout_before_minor OR (kind = 23 AND payout_minor = payout_before_minor))
