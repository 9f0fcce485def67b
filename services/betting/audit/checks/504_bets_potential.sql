-- name: bets.potential
-- means: The potential payout is the stake times every price, exact, rounded once, down.
-- examines: bet
SELECT
    b.shard, b.sequence, b.account, b.bet, 'potential payout' AS subject,
    coalesce(l.due::text, 'a whole number') AS expected, b.potential_payout_minor::text AS found
FROM bet b
JOIN (
    SELECT
        shard, bet,
        div(
            min(stake_minor) * pg_temp.product((numerator + denominator)::numeric),
            nullif(pg_temp.product(denominator::numeric), 0)
        ) AS due
    FROM leg
    GROUP BY shard, bet
) l USING (shard, bet)
WHERE b.potential_payout_minor IS DISTINCT FROM l.due
