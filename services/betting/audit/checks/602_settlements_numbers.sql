-- name: settlements.numbers
-- means: A bet is settled, then corrected or reopened, and settled again only when reopened; its settlement numbers rise by one.
-- examines: settlement
SELECT
    shard, sequence, account, bet, 'settlement' AS subject,
    CASE
        WHEN before IS NULL THEN 'settled (21) as number 1'
        WHEN before = 24 THEN format('settled (21) as number %s', number_before + 1)
        ELSE format('corrected (23) as number %s or reopened (24) as number %s', number_before + 1, number_before)
    END AS expected,
    format('kind %s as number %s', kind, number) AS found
FROM (
    SELECT
        *,
        lag(kind) OVER of_bet AS before,
        lag(number) OVER of_bet AS number_before
    FROM settlement
    WINDOW of_bet AS (PARTITION BY shard, bet ORDER BY sequence)
)
WHERE NOT CASE
    WHEN before IS NULL THEN kind = 21 AND number = 1
    WHEN before = 24 THEN kind = 21 AND number = number_before + 1
    ELSE (kind = 23 AND number = number_before + 1) OR (kind = 24 AND number = number_before)
END
