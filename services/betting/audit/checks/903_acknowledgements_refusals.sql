-- name: acknowledgements.refusals
-- means: Every final refusal that a client was told of is in the journal, for that account and that reason.
-- scope: acknowledgements
-- examines: answer WHERE told_kind = 11
SELECT
    shard, sequence, told_account AS account, NULL::uuid AS bet,
    format('line %s, request key %s', line, request_key) AS subject,
    format('refused for account %s with code %s', told_account, told_code) AS expected,
    CASE
        WHEN sequence IS NULL THEN 'no entry'
        WHEN kind <> 11 THEN format('kind %s for account %s', kind, account)
        ELSE format('refused for account %s with code %s', account, code)
    END AS found
FROM (
    SELECT *, CASE WHEN sound AND kind = 11 THEN pg_temp.number_at(body, 16, 2) END AS code
    FROM answer
    WHERE told_kind = 11
)
WHERE kind IS DISTINCT FROM 11 OR account IS DISTINCT FROM told_account OR code IS DISTINCT FROM told_code
