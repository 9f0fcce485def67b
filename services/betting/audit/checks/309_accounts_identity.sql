-- name: accounts.identity
-- means: An account's id is the UUIDv8 of its user and currency, and the currency is three capital letters.
-- examines: account
SELECT
    shard, sequence, account, NULL::uuid AS bet, 'account id' AS subject,
    format('%s in a currency of three capital letters', due) AS expected,
    format('%s in 0x%s', account, encode(currency_bytes, 'hex')) AS found
FROM (
    SELECT
        *, pg_temp.uuid8_of_hash(sha256(user_bytes || currency_bytes)) AS due,
        encode(currency_bytes, 'escape') ~ '^[A-Z]{3}$' AS is_currency
    FROM account
)
WHERE due IS DISTINCT FROM account OR NOT is_currency
