-- What each settlement had to pay by the results in force at that moment; NULL: not certain yet, the bet had to be open.
SELECT
    s.shard, s.sequence,
    CASE
        WHEN coalesce(bool_or(o.outcome = 1), false) THEN 0
        WHEN count(o.outcome) = count(*) THEN div(
            min(l.stake_minor) * pg_temp.product(
                (o.wins * (l.numerator + l.denominator) + o.returns * l.denominator)::numeric
            ),
            nullif(pg_temp.product(2::numeric * l.denominator), 0)
        )
    END AS payout_minor
FROM settlement s
JOIN leg l ON l.shard = s.shard AND l.bet = s.bet
LEFT JOIN outcome o ON o.shard = l.shard AND o.market = l.market AND o.selection = l.selection
    AND o.from_sequence < s.sequence AND (o.until_sequence IS NULL OR o.until_sequence > s.sequence)
GROUP BY s.shard, s.sequence
