-- name: settlements.kept
-- means: A bet that a version looked at and left open was open, on that market, and not decided yet.
-- examines: kept
SELECT
    shard, sequence, account, bet, format('left open by market %s', market) AS subject,
    'an open bet on this market that is not decided' AS expected,
    CASE
        WHEN NOT placed THEN 'no such bet'
        WHEN NOT on_market THEN 'no leg on this market'
        WHEN NOT was_open THEN 'settled already'
        ELSE 'decided'
    END AS found
FROM kept
WHERE NOT (placed AND on_market AND was_open) OR decided
