-- name: bets.open_stakes
-- means: Every account's open stakes are the stakes of its open bets: placed, less settled, and again reopened.
-- examines: (SELECT DISTINCT shard, account FROM posting)
WITH ledger AS (
    SELECT shard, account, max(sequence) AS sequence, sum(stakes_minor) AS stakes_minor
    FROM posting
    GROUP BY shard, account
), bets AS (
    SELECT shard, account, sum(stake_minor) AS stakes_minor
    FROM standing
    WHERE is_open
    GROUP BY shard, account
)
SELECT
    shard, ledger.sequence, account, NULL::uuid AS bet, 'open stakes' AS subject,
    coalesce(bets.stakes_minor, 0)::text AS expected, coalesce(ledger.stakes_minor, 0)::text AS found
FROM ledger
FULL JOIN bets USING (shard, account)
WHERE coalesce(ledger.stakes_minor, 0) <> coalesce(bets.stakes_minor, 0)
