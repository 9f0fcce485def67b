-- name: settlements.payout
-- means: Every payout is what the results in force at that moment make of the bet, exact, rounded once, down; only a bet still uncertain is reopened.
-- examines: settlement
SELECT
    s.shard, s.sequence, s.account, s.bet, format('payout by market %s version %s', s.market, s.version) AS subject,
    CASE WHEN d.payout_minor IS NULL THEN 'none: the bet is not decided' ELSE d.payout_minor::text END AS expected,
    CASE WHEN s.kind = 24 THEN 'reopened' ELSE s.payout_minor::text END AS found
FROM settlement s
JOIN due d USING (shard, sequence)
WHERE CASE WHEN s.kind = 24 THEN d.payout_minor IS NOT NULL ELSE d.payout_minor IS DISTINCT FROM s.payout_minor END
