-- What each bet must be by the results in force at the end: due NULL means open. `waits`: a version is still being settled.
SELECT
    l.shard, l.bet,
    CASE
        WHEN coalesce(bool_or(o.outcome = 1), false) THEN 0
        WHEN count(o.outcome) = count(*) THEN div(
            min(l.stake_minor) * pg_temp.product(
                (o.wins * (l.numerator + l.denominator) + o.returns * l.denominator)::numeric
            ),
            nullif(pg_temp.product(2::numeric * l.denominator), 0)
        )
    END AS due_minor,
    coalesce(bool_or(o.done_sequence IS NULL) FILTER (WHERE o.outcome IS NOT NULL), false)
        AND NOT coalesce(bool_or(o.outcome = 1 AND o.done_sequence IS NOT NULL), false) AS waits
FROM leg l
LEFT JOIN outcome o ON o.shard = l.shard AND o.market = l.market AND o.selection = l.selection
    AND o.until_sequence IS NULL
GROUP BY l.shard, l.bet
