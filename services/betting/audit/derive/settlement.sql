-- Every settlement, correction and reopening of a bet.
SELECT
    shard, sequence, at_us, kind, account, bet, market,
    pg_temp.number_at(body, 0, 4) AS version,
    pg_temp.number_at(body, 4, 2) AS number,
    CASE WHEN kind IN (23, 24) THEN pg_temp.number_at(body, 6, 8) END AS payout_before_minor,
    CASE kind
        WHEN 21 THEN pg_temp.number_at(body, 6, 8)
        WHEN 23 THEN pg_temp.number_at(body, 14, 8)
        ELSE 0
    END AS payout_minor,
    CASE WHEN kind = 24 THEN substr(body, 15) END AS record
FROM entry
WHERE kind IN (21, 23, 24) AND sound
