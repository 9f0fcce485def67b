-- name: requests.once
-- means: A request key answered one request of its user: no two entries of a user share it.
-- examines: entry WHERE request_key IS NOT NULL
SELECT
    shard, sequence, account, bet, format('request key %s', request_key) AS subject,
    format('only at sequence %s', first_sequence) AS expected, format('again at sequence %s', sequence) AS found
FROM (
    SELECT e.*, min(e.sequence) OVER (PARTITION BY e.shard, coalesce(a.user_bytes, uuid_send(e.account)), e.request_key)
        AS first_sequence
    FROM entry e
    -- Except for a deposit that is refused: it may be the first, and opens no account that names its user.
    LEFT JOIN account a ON a.shard = e.shard AND a.account = e.account AND (e.kind <> 11 OR NOT e.sound OR pg_temp.number_at(e.body, 16, 2) <> 22)
    WHERE e.request_key IS NOT NULL
)
WHERE sequence <> first_sequence
