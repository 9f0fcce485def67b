-- name: accounts.zero_sum
-- means: All accounts, the house and clearing sum to zero in every shard, and so in total.
-- examines: (SELECT DISTINCT shard FROM entry)
WITH users AS (
    SELECT shard, sum(cash_minor) + sum(stakes_minor) + sum(receivable_minor) AS total
    FROM posting
    GROUP BY shard
), platform AS (
    SELECT shard, max(sequence) AS head, sum(house_minor) + sum(clearing_minor) AS total
    FROM entry
    GROUP BY shard
)
SELECT
    shard, head AS sequence, NULL::uuid AS account, NULL::uuid AS bet, 'users + house + clearing' AS subject,
    '0' AS expected, format('%s + %s', coalesce(users.total, 0), platform.total) AS found
FROM platform
LEFT JOIN users USING (shard)
WHERE coalesce(users.total, 0) + platform.total <> 0
