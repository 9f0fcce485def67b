-- Every bet as it was first placed. A bet placed twice is another check's problem: here it counts once.
SELECT DISTINCT ON (shard, bet)
    shard, sequence, at_us, account, bet, request_key,
    pg_temp.number_at(body, 16, 8) AS stake_minor,
    pg_temp.number_at(body, 24, 8) AS placed_at_us,
    get_byte(body, 32) AS legs,
    get_byte(body, 33 + 26 * get_byte(body, 32)) AS policy,
    pg_temp.number_at(body, 34 + 26 * get_byte(body, 32), 8) AS potential_payout_minor,
    body
FROM entry
WHERE kind = 10 AND sound
ORDER BY shard, bet, sequence
