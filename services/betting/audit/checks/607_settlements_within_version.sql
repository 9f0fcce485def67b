-- name: settlements.within_version
-- means: Everything a market version does lies between its result and its end, which comes once.
-- examines: entry WHERE kind BETWEEN 21 AND 25
SELECT
    e.shard, e.sequence, e.account, e.bet, format('kind %s of market %s version %s', e.kind, e.market, e.version) AS subject,
    CASE
        WHEN r.sequence IS NULL THEN 'a result of this version'
        WHEN e.kind = 25 THEN format('at sequence %s only', r.done_sequence)
        ELSE format('from sequence %s to %s', r.sequence, coalesce(r.done_sequence, r.until_sequence))
    END AS expected,
    CASE WHEN r.sequence IS NULL THEN 'none' ELSE format('sequence %s', e.sequence) END AS found
FROM (
    SELECT shard, sequence, account, bet, kind, market, pg_temp.number_at(body, 0, 4) AS version
    FROM entry
    WHERE kind BETWEEN 21 AND 25 AND sound
) e
LEFT JOIN (
    SELECT DISTINCT ON (shard, market, version) shard, market, version, sequence, until_sequence, done_sequence
    FROM result
    ORDER BY shard, market, version, sequence
) r ON r.shard = e.shard AND r.market = e.market AND r.version = e.version
WHERE r.sequence IS NULL
    OR e.sequence < r.sequence
    OR e.sequence > coalesce(r.done_sequence, r.until_sequence, e.sequence)
    OR (e.kind = 25 AND e.sequence <> r.done_sequence)
