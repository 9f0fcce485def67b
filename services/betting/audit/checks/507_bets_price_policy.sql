-- name: bets.price_policy
-- means: The price taken fits what the bettor allowed: as seen (0), as seen or better (1), any (2).
-- examines: leg
SELECT
    shard, sequence, account, bet, format('price of leg %s, market %s', leg, market) AS subject,
    format(
        CASE policy WHEN 0 THEN 'exactly %s/%s' WHEN 1 THEN 'at least %s/%s' ELSE 'a policy of 0, 1 or 2, seen %s/%s' END,
        seen_numerator, seen_denominator
    ) AS expected,
    format('%s/%s under policy %s', numerator, denominator, policy) AS found
FROM leg
WHERE policy NOT IN (0, 1, 2)
    OR (policy = 0 AND (numerator, denominator) <> (seen_numerator, seen_denominator))
    OR (policy = 1 AND numerator * seen_denominator < seen_numerator * denominator)
