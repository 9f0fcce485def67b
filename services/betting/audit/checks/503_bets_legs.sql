-- name: bets.legs
-- means: A bet has 1 to 20 legs of distinct events, with ids above zero and prices whose parts are 1 to 1,000,000.
-- examines: leg
SELECT
    b.shard, b.sequence, b.account, b.bet, 'legs' AS subject,
    '1 to 20 of distinct events, ids above 0, price parts 1 to 1,000,000' AS expected,
    format('%s legs, %s events, %s of them malformed', b.legs, coalesce(l.events, 0), coalesce(l.malformed, 0)) AS found
FROM bet b
LEFT JOIN (
    SELECT
        shard, bet, count(DISTINCT event) AS events,
        count(*) FILTER (
            WHERE event <= 0 OR market <= 0 OR selection <= 0
                OR numerator NOT BETWEEN 1 AND 1000000 OR denominator NOT BETWEEN 1 AND 1000000
                OR seen_numerator NOT BETWEEN 1 AND 1000000 OR seen_denominator NOT BETWEEN 1 AND 1000000
        ) AS malformed
    FROM leg
    GROUP BY shard, bet
) l USING (shard, bet)
WHERE b.legs NOT BETWEEN 1 AND 20 OR l.events IS DISTINCT FROM b.legs OR l.malformed <> 0
