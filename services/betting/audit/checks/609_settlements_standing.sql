-- name: settlements.standing
-- means: Every bet is as the results in force say: settled with that payout when it is decided, open when it is not.
-- examines: standing
SELECT
    shard, coalesce(s.settled_sequence, s.sequence) AS sequence, s.account, bet, 'bet' AS subject,
    coalesce(format('settled, paying %s', v.due_minor), 'open') AS expected,
    CASE WHEN s.is_open THEN 'open' ELSE format('settled, paying %s', s.payout_minor) END AS found
FROM standing s
JOIN verdict v USING (shard, bet)
WHERE NOT v.waits AND v.due_minor IS DISTINCT FROM CASE WHEN NOT s.is_open THEN s.payout_minor END
