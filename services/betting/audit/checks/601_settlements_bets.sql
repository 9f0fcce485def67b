-- name: settlements.bets
-- means: Every settlement is of a bet placed before, on its account, with a leg on the market; a reopened bet comes back unchanged.
-- examines: settlement
SELECT
    s.shard, s.sequence, s.account, s.bet, format('bet settled by market %s', s.market) AS subject,
    CASE
        WHEN b.bet IS NULL THEN 'a bet of this shard'
        WHEN b.sequence > s.sequence THEN 'placed before'
        WHEN b.account <> s.account THEN format('account %s', b.account)
        WHEN s.record IS NOT NULL AND s.record <> substr(b.body, 1, 33 + 26 * b.legs) THEN 'the record it was placed with'
        ELSE 'a leg on this market'
    END AS expected,
    CASE
        WHEN b.bet IS NULL THEN 'none'
        WHEN b.sequence > s.sequence THEN format('placed at sequence %s', b.sequence)
        WHEN b.account <> s.account THEN format('account %s', s.account)
        WHEN s.record IS NOT NULL AND s.record <> substr(b.body, 1, 33 + 26 * b.legs) THEN 'another record'
        ELSE 'none'
    END AS found
FROM settlement s
LEFT JOIN bet b ON b.shard = s.shard AND b.bet = s.bet
LEFT JOIN (SELECT DISTINCT shard, bet, market FROM leg) l ON l.shard = s.shard AND l.bet = s.bet AND l.market = s.market
WHERE b.bet IS NULL OR b.sequence > s.sequence OR b.account <> s.account OR l.bet IS NULL
    OR s.record <> substr(b.body, 1, 33 + 26 * b.legs)
