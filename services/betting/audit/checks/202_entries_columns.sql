-- name: entries.columns
-- means: Every entry's ledger columns move exactly what its body says, and nothing where nothing moves.
-- examines: entry
-- own: cash and receivable together; how they share it is accounts.repayment.
WITH said AS (
    SELECT
        e.shard, e.sequence, e.account, e.bet, e.kind,
        e.cash_minor::numeric + e.receivable_minor AS own,
        e.receivable_minor, e.stakes_minor, e.house_minor, e.clearing_minor,
        CASE WHEN e.kind IN (2, 3) THEN pg_temp.number_at(e.body, 16, 8)::numeric ELSE 0 END AS amount,
        coalesce(
            CASE WHEN e.kind = 10 THEN pg_temp.number_at(e.body, 16, 8) END,
            CASE WHEN e.kind IN (21, 24) THEN b.stake_minor END,
            0
        )::numeric AS stake,
        coalesce(s.payout_minor, 0)::numeric - coalesce(s.payout_before_minor, 0) AS paid
    FROM entry e
    LEFT JOIN settlement s ON s.shard = e.shard AND s.sequence = e.sequence
    LEFT JOIN bet b ON e.kind IN (21, 24) AND b.shard = e.shard AND b.bet = e.bet
    WHERE e.sound AND (e.kind NOT IN (21, 24) OR b.bet IS NOT NULL)
), due AS (
    SELECT
        *,
        CASE kind WHEN 2 THEN amount WHEN 3 THEN -amount WHEN 10 THEN -stake ELSE paid END AS own_due,
        CASE WHEN kind IN (10, 24) THEN stake WHEN kind = 21 THEN -stake ELSE 0 END AS stakes_due,
        CASE kind WHEN 21 THEN stake - paid WHEN 23 THEN -paid WHEN 24 THEN -paid - stake ELSE 0 END AS house_due,
        CASE kind WHEN 2 THEN -amount WHEN 3 THEN amount ELSE 0 END AS clearing_due
    FROM said
)
SELECT
    shard, sequence, account, bet, format('ledger columns of kind %s', kind) AS subject,
    format('cash + receivable %s, stakes %s, house %s, clearing %s', own_due, stakes_due, house_due, clearing_due)
        || CASE WHEN kind IN (2, 21, 23, 24) THEN '' ELSE ', receivable 0' END AS expected,
    format('cash + receivable %s, stakes %s, house %s, clearing %s', own, stakes_minor, house_minor, clearing_minor)
        || CASE WHEN kind IN (2, 21, 23, 24) THEN '' ELSE format(', receivable %s', receivable_minor) END AS found
FROM due
WHERE (own, stakes_minor, house_minor, clearing_minor)
        IS DISTINCT FROM (own_due, stakes_due, house_due, clearing_due)
    OR (kind NOT IN (2, 21, 23, 24) AND receivable_minor <> 0)
