-- The journal of the shards in this batch. Only sound entries can be decoded: known kind and format, right length,
-- and the ids and market that their kind needs (and no others).
SELECT
    shard, sequence, kind, format, at_us, account, bet, request_key, market,
    cash_minor, stakes_minor, house_minor, clearing_minor, receivable_minor, body,
    format = 1
        AND length(body) = pg_temp.right_length(kind, body)
        AND (account IS NOT NULL) = (kind NOT IN (20, 22, 25))
        AND (bet IS NOT NULL) = (kind IN (10, 21, 23, 24))
        AND (request_key IS NOT NULL) = (kind IN (2, 3, 10, 11))
        AND (market IS NOT NULL) = (kind BETWEEN 20 AND 25) IS TRUE AS sound
FROM betting.journal
WHERE shard = ANY (:shards)
