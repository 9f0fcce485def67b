-- name: requests.real
-- means: Every request key that can be looked up leads to an entry of the journal with that key.
-- examines: request
SELECT
    r.shard, r.sequence, e.account, e.bet, format('request key %s', r.request_key) AS subject,
    'an entry with this key' AS expected,
    CASE WHEN e.sequence IS NULL THEN 'no entry' ELSE format('an entry with key %s', e.request_key) END AS found
FROM request r
LEFT JOIN entry e ON e.shard = r.shard AND e.sequence = r.sequence
WHERE e.request_key IS DISTINCT FROM r.request_key
