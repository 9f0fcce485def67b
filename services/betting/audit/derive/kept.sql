-- Every bet that a version looked at and left open, with what was true of it then.
WITH listed AS (
    SELECT
        e.shard, e.sequence, e.market,
        pg_temp.uuid_at(e.body, 22 + 16 * i) AS bet
    FROM entry e
    CROSS JOIN LATERAL generate_series(0, substr(e.body, 21, 2)::int - 1) AS i
    WHERE e.kind = 22 AND e.sound
), last_before AS (
    SELECT DISTINCT ON (k.shard, k.sequence, k.bet) k.shard, k.sequence, k.bet, s.kind
    FROM listed k
    JOIN settlement s ON s.shard = k.shard AND s.bet = k.bet AND s.sequence < k.sequence
    ORDER BY k.shard, k.sequence, k.bet, s.sequence DESC
), legs AS (
    SELECT
        k.shard, k.sequence, k.bet,
        bool_or(l.market = k.market) AS on_market,
        coalesce(bool_or(o.outcome = 1), false) OR count(o.outcome) = count(*) AS decided
    FROM listed k
    JOIN leg l ON l.shard = k.shard AND l.bet = k.bet AND l.sequence < k.sequence
    LEFT JOIN outcome o ON o.shard = l.shard AND o.market = l.market AND o.selection = l.selection
        AND o.from_sequence < k.sequence AND (o.until_sequence IS NULL OR o.until_sequence > k.sequence)
    GROUP BY k.shard, k.sequence, k.bet
)
SELECT
    k.shard, k.sequence, k.market, b.account, k.bet,
    b.bet IS NOT NULL AS placed,
    coalesce(l.on_market, false) AS on_market,
    coalesce(s.kind, 24) = 24 AS was_open,
    coalesce(l.decided, false) AS decided
FROM listed k
LEFT JOIN bet b ON b.shard = k.shard AND b.bet = k.bet AND b.sequence < k.sequence
LEFT JOIN last_before s ON s.shard = k.shard AND s.sequence = k.sequence AND s.bet = k.bet
LEFT JOIN legs l ON l.shard = k.shard AND l.sequence = k.sequence AND l.bet = k.bet
