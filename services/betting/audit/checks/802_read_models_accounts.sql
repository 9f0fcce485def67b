-- name: read_models.accounts
-- means: The table of accounts is what the journal opened.
-- examines: betting.accounts WHERE shard = ANY (:shards)
WITH said AS (
    SELECT a.shard, a.sequence, a.account, e.at_us,
        encode(a.user_bytes, 'hex')::uuid AS user_id, encode(a.currency_bytes, 'escape') AS currency
    FROM account a
    JOIN mark m ON m.shard = a.shard AND a.sequence <= m.watermark
    JOIN entry e ON e.shard = a.shard AND e.sequence = a.sequence
), kept AS (
    SELECT * FROM betting.accounts WHERE shard = ANY (:shards)
)
SELECT
    coalesce(s.shard, k.shard) AS shard, s.sequence, account, NULL::uuid AS bet, 'account' AS subject,
    CASE WHEN s.shard IS NULL THEN 'no row'
        ELSE format('user %s, %s, shard %s, opened at %s', s.user_id, s.currency, s.shard, s.at_us) END AS expected,
    CASE WHEN k.shard IS NULL THEN 'no row'
        ELSE format('user %s, %s, shard %s, opened at %s', k.user_id, k.currency, k.shard, k.opened_at_us) END AS found
FROM said s
FULL JOIN kept k USING (account)
WHERE (s.user_id, s.currency, s.shard, s.at_us) IS DISTINCT FROM (k.user_id, k.currency, k.shard, k.opened_at_us)
