-- name: accounts.opened
-- means: Every account was opened exactly once, before anything happened on it.
-- examines: (SELECT DISTINCT shard, account FROM posting)
SELECT
    shard, first_sequence AS sequence, account, NULL::uuid AS bet, 'openings' AS subject,
    '1, before anything else' AS expected,
    CASE WHEN openings = 1 THEN '1, later' ELSE openings::text END AS found
FROM (
    SELECT
        shard, account, min(sequence) AS first_sequence,
        count(*) FILTER (WHERE kind = 1) AS openings,
        min(sequence) FILTER (WHERE kind = 1) AS opened_sequence
    FROM posting
    GROUP BY shard, account
)
WHERE openings <> 1 OR opened_sequence <> first_sequence
