-- How each bet stands at the end of the journal: open, or settled with a payout, by its last settlement.
SELECT
    b.shard, b.sequence, b.account, b.bet, b.stake_minor,
    s.sequence AS settled_sequence, s.number, s.payout_minor,
    s.kind IS NULL OR s.kind = 24 AS is_open
FROM bet b
LEFT JOIN (
    SELECT DISTINCT ON (shard, bet) shard, bet, sequence, kind, number, payout_minor
    FROM settlement
    ORDER BY shard, bet, sequence DESC
) s ON s.shard = b.shard AND s.bet = b.bet
