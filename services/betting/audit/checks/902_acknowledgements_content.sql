-- name: acknowledgements.content
-- means: What a client was told is what the journal says: account, bet, stake or amount, and every leg at the price taken.
-- scope: acknowledgements
-- examines: answer WHERE told_kind <> 11
WITH said AS (
    SELECT
        *,
        CASE WHEN sound AND kind IN (2, 3, 10) THEN pg_temp.number_at(body, 16, 8) END AS minor,
        CASE WHEN sound AND kind = 10 THEN (
            SELECT string_agg(substr(body, 42 + 26 * i, 18), ''::bytea ORDER BY i)
            FROM generate_series(0, get_byte(body, 32) - 1) AS i
        ) END AS legs
    FROM answer
    WHERE told_kind <> 11 AND sequence IS NOT NULL
)
SELECT
    shard, sequence, told_account AS account, coalesce(told_bet, bet) AS bet,
    format('line %s, request key %s', line, request_key) AS subject,
    format(
        'kind %s, account %s, bet %s, amount %s, legs %s',
        told_kind, told_account, coalesce(told_bet, bet), told_minor, encode(told_legs, 'hex')
    ) AS expected,
    format('kind %s, account %s, bet %s, amount %s, legs %s', kind, account, bet, minor, encode(legs, 'hex')) AS found
FROM said
WHERE kind <> told_kind
    OR account IS DISTINCT FROM told_account
    OR (told_bet IS NOT NULL AND bet IS DISTINCT FROM told_bet)
    OR minor IS DISTINCT FROM told_minor
    OR legs IS DISTINCT FROM told_legs
