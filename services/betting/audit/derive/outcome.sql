-- What each result says of each selection: of two half stakes, how many win and how many come back.
SELECT
    r.shard, r.market, r.version, r.sequence AS from_sequence, r.until_sequence, r.done_sequence,
    pg_temp.number_at(r.body, 5 + 3 * i, 2)::int AS selection,
    get_byte(r.body, 7 + 3 * i) AS outcome,
    CASE get_byte(r.body, 7 + 3 * i) WHEN 4 THEN 1 WHEN 5 THEN 2 ELSE 0 END AS wins,
    CASE get_byte(r.body, 7 + 3 * i) WHEN 2 THEN 1 WHEN 3 THEN 2 WHEN 4 THEN 1 ELSE 0 END AS returns
FROM result r
CROSS JOIN LATERAL generate_series(0, get_byte(r.body, 4) - 1) AS i
