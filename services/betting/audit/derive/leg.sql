-- Every leg of every bet, with the evidence of its price.
SELECT
    b.shard, b.sequence, b.at_us, b.account, b.bet, b.policy, b.stake_minor, i AS leg,
    pg_temp.number_at(b.body, 33 + 26 * i, 8) AS event,
    pg_temp.number_at(b.body, 41 + 26 * i, 8) AS market,
    pg_temp.number_at(b.body, 49 + 26 * i, 2)::int AS selection,
    pg_temp.number_at(b.body, 51 + 26 * i, 4) AS numerator,
    pg_temp.number_at(b.body, 55 + 26 * i, 4) AS denominator,
    pg_temp.number_at(b.body, 42 + 26 * b.legs + 29 * i, 4) AS seen_numerator,
    pg_temp.number_at(b.body, 46 + 26 * b.legs + 29 * i, 4) AS seen_denominator,
    pg_temp.number_at(b.body, 50 + 26 * b.legs + 29 * i, 8) AS quote_version,
    pg_temp.number_at(b.body, 58 + 26 * b.legs + 29 * i, 8) AS quote_closes_at_us,
    pg_temp.number_at(b.body, 66 + 26 * b.legs + 29 * i, 4) AS quote_age_ms,
    get_byte(b.body, 70 + 26 * b.legs + 29 * i) AS quote_status
FROM bet b
CROSS JOIN LATERAL generate_series(0, b.legs - 1) AS i
