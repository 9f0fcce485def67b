-- name: bets.evidence
-- means: Every leg was taken from a quote that was open (status 1) and had not reached its closing time.
-- examines: leg
SELECT
    shard, sequence, account, bet, format('quote of leg %s, market %s', leg, market) AS subject,
    format('status 1, closing after %s', at_us) AS expected,
    format('status %s, closing at %s', quote_status, quote_closes_at_us) AS found
FROM leg
WHERE quote_status <> 1 OR at_us >= quote_closes_at_us
