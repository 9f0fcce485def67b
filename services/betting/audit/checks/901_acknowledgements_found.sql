-- name: acknowledgements.found
-- means: Every bet, deposit and withdrawal that a client was told of is in the journal.
-- scope: acknowledgements
-- examines: answer WHERE told_kind <> 11
SELECT
    NULL::int AS shard, NULL::bigint AS sequence, told_account AS account, told_bet AS bet,
    format('line %s, request key %s', line, request_key) AS subject,
    format('an entry of kind %s', told_kind) AS expected, 'none' AS found
FROM answer
WHERE told_kind <> 11 AND sequence IS NULL
