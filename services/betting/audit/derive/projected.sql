-- How each bet stood at its shard's watermark.
SELECT
    b.shard, b.sequence, b.account, b.bet, b.request_key, b.policy, b.at_us AS placed_at_us, b.stake_minor, b.potential_payout_minor,
    substr(b.body, 1, 33 + 26 * b.legs) AS record,
    CASE WHEN s.kind IN (21, 23) THEN 2 ELSE 1 END AS status,
    coalesce(s.number, 0) AS settlements,
    CASE WHEN s.kind IN (21, 23) THEN s.payout_minor END AS payout_minor,
    CASE WHEN s.kind IN (21, 23) THEN s.sequence END AS settled_sequence,
    CASE WHEN s.kind IN (21, 23) THEN s.at_us END AS settled_at_us
FROM bet b
JOIN mark m ON m.shard = b.shard AND b.sequence <= m.watermark
LEFT JOIN (
    SELECT DISTINCT ON (x.shard, x.bet) x.*
    FROM settlement x
    JOIN mark ON mark.shard = x.shard AND x.sequence <= mark.watermark
    ORDER BY x.shard, x.bet, x.sequence DESC
) s ON s.shard = b.shard AND s.bet = b.bet
