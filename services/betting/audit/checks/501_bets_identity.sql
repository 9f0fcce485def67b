-- name: bets.identity
-- means: A bet's id is the UUIDv8 of its account and request key.
-- examines: bet
SELECT
    shard, sequence, account, bet, 'bet id' AS subject, due::text AS expected, bet::text AS found
FROM (
    SELECT *, pg_temp.uuid8_of_hash(sha256(uuid_send(account) || uuid_send(request_key))) AS due
    FROM bet
)
WHERE due IS DISTINCT FROM bet
