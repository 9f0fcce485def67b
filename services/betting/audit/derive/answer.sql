-- What the journal holds for everything that clients were told, by shard and request key; no entry: NULLs. Where several
-- users used the same key, each is answered by the own entry.
SELECT DISTINCT ON (a.line)
    a.line, a.kind AS told_kind, a.request_key, a.currency, a.bet AS told_bet, a.amount_minor AS told_minor,
    a.legs AS told_legs, a.code AS told_code, a.account AS told_account,
    j.shard, j.sequence, j.kind, j.account, j.bet, j.body,
    j.format = 1 AND length(j.body) = pg_temp.right_length(j.kind, j.body) AS sound
FROM (
    SELECT *, pg_temp.uuid8_of_hash(sha256(uuid_send(user_id) || convert_to(currency, 'UTF8'))) AS account
    FROM acknowledged
) a
LEFT JOIN betting.journal j ON j.request_key = a.request_key AND j.kind IN (2, 3, 10, 11)
    AND j.shard = crc32(uuid_send(a.user_id)) % :shard_count
WHERE a.request_key IS NOT NULL
ORDER BY a.line, j.account IS DISTINCT FROM a.account, j.sequence
