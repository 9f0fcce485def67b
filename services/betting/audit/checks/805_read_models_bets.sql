-- name: read_models.bets
-- means: The table of bets is what the journal placed, settled, corrected and reopened.
-- examines: betting.bets WHERE shard = ANY (:shards)
WITH kept AS (
    SELECT * FROM betting.bets WHERE shard = ANY (:shards)
)
SELECT
    coalesce(s.shard, k.shard) AS shard, coalesce(s.sequence, k.placed_sequence) AS sequence,
    coalesce(s.account, k.account) AS account, bet, 'bet' AS subject,
    CASE WHEN s.shard IS NULL THEN 'no row' ELSE format(
        'status %s after %s settlements, payout %s, settled by %s at %s; stake %s, up to %s, policy %s, placed by %s at %s',
        s.status, s.settlements, s.payout_minor, s.settled_sequence, s.settled_at_us,
        s.stake_minor, s.potential_payout_minor, s.policy, s.sequence, s.placed_at_us
    ) || format(', key %s, record %s', s.request_key, md5(s.record)) END AS expected,
    CASE WHEN k.shard IS NULL THEN 'no row' ELSE format(
        'status %s after %s settlements, payout %s, settled by %s at %s; stake %s, up to %s, policy %s, placed by %s at %s',
        k.status, k.settlements, k.payout_minor, k.settled_sequence, k.settled_at_us,
        k.stake_minor, k.potential_payout_minor, k.policy, k.placed_sequence, k.placed_at_us
    ) || format(', key %s, record %s', k.request_key, md5(k.record)) END AS found
FROM projected s
FULL JOIN kept k USING (bet)
WHERE (
    s.shard, s.account, s.request_key, s.policy, s.status, s.settlements, s.sequence, s.placed_at_us, s.stake_minor,
    s.potential_payout_minor, s.payout_minor, s.settled_sequence, s.settled_at_us, s.record
) IS DISTINCT FROM (
    k.shard, k.account, k.request_key, k.policy, k.status, k.settlements, k.placed_sequence, k.placed_at_us, k.stake_minor,
    k.potential_payout_minor, k.payout_minor, k.settled_sequence, k.settled_at_us, k.record
)
