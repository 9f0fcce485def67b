-- name: requests.complete
-- means: Every request key in the journal can be looked up, and leads to its entry (keys older than what is kept are left out).
-- examines: entry WHERE request_key IS NOT NULL
SELECT
    e.shard, e.sequence, e.account, e.bet, format('request key %s', e.request_key) AS subject,
    format('sequence %s', e.sequence) AS expected, coalesce(format('sequence %s', r.sequence), 'not found') AS found
FROM (
    SELECT DISTINCT ON (shard, request_key, account) shard, sequence, account, bet, request_key
    FROM entry
    WHERE request_key IS NOT NULL
    ORDER BY shard, request_key, account, sequence
) e
LEFT JOIN request r ON r.shard = e.shard AND r.request_key = e.request_key
    AND (r.account = e.account OR (r.account = '00000000-0000-0000-0000-000000000000' AND r.sequence = e.sequence))
WHERE r.sequence IS DISTINCT FROM e.sequence
    AND (r.sequence IS NOT NULL OR e.request_key >= (SELECT since_key FROM retained))
