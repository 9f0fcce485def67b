-- name: requests.complete
-- means: Every request key in the journal can be looked up, and leads to its entry (keys older than what is kept are left out).
-- examines: entry WHERE request_key IS NOT NULL
SELECT
    e.shard, e.sequence, e.account, e.bet, format('request key %s', e.request_key) AS subject,
    format('sequence %s', e.sequence) AS expected, coalesce(format('sequence %s', r.sequence), 'not found') AS found
FROM (
    SELECT DISTINCT ON (shard, request_key) shard, sequence, account, bet, request_key
    FROM entry
    WHERE request_key IS NOT NULL
    ORDER BY shard, request_key, sequence
) e
LEFT JOIN request r USING (shard, request_key)
WHERE r.sequence IS DISTINCT FROM e.sequence
    AND (r.sequence IS NOT NULL OR e.request_key >= (SELECT since_key FROM retained))
