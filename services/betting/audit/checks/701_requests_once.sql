-- name: requests.once
-- means: A request key answered one request: no two entries of a shard share it.
-- examines: entry WHERE request_key IS NOT NULL
SELECT
    shard, sequence, account, bet, format('request key %s', request_key) AS subject,
    format('only at sequence %s', first_sequence) AS expected, format('again at sequence %s', sequence) AS found
FROM (
    SELECT *, min(sequence) OVER (PARTITION BY shard, request_key) AS first_sequence
    FROM entry
    WHERE request_key IS NOT NULL
)
WHERE sequence <> first_sequence
