-- The projector: entries become rows of the read models, set by set. One statement for its caller, so a caller that hangs
-- keeps no lock.
-- depends: 0004.read_models

-- Numbers and identifiers inside a body; offsets count from 0, as in betting.engine.records.
CREATE FUNCTION betting.int8_at(body bytea, at int) RETURNS bigint IMMUTABLE PARALLEL SAFE LANGUAGE sql
RETURN substr(body, at + 1, 8)::bigint;

CREATE FUNCTION betting.int4_at(body bytea, at int) RETURNS int IMMUTABLE PARALLEL SAFE LANGUAGE sql
RETURN substr(body, at + 1, 4)::int;

CREATE FUNCTION betting.int2_at(body bytea, at int) RETURNS smallint IMMUTABLE PARALLEL SAFE LANGUAGE sql
RETURN substr(body, at + 1, 2)::smallint;

CREATE FUNCTION betting.uuid_at(body bytea, at int) RETURNS uuid IMMUTABLE PARALLEL SAFE LANGUAGE sql
RETURN encode(substr(body, at + 1, 16), 'hex')::uuid;

-- How many bytes a bet record has: a head of 33 and 26 for each leg.
CREATE FUNCTION betting.record_size(body bytea) RETURNS int IMMUTABLE PARALLEL SAFE LANGUAGE sql
RETURN 33 + 26 * get_byte(body, 32);

-- Takes at most `max_entries` entries of a shard further. Returns no row when another projector has the shard.
-- Everything it writes can be derived again and goes with the watermark: no need to wait for the disk.
-- Tables grow from nothing to millions of rows between two ANALYZEs, so plans are pinned to index look-ups.
CREATE FUNCTION betting.project(
    p_shard int, max_entries int, OUT from_sequence bigint, OUT to_sequence bigint, OUT head_sequence bigint
) RETURNS SETOF record LANGUAGE plpgsql
SET synchronous_commit = off
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    found_entries bigint;
    kinds int[];
BEGIN
    SELECT p.sequence INTO from_sequence FROM betting.projector p WHERE p.shard = p_shard FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT coalesce(max(j.sequence), 0) INTO head_sequence FROM betting.journal j WHERE j.shard = p_shard;
    to_sequence := least(from_sequence + max_entries, head_sequence);
    IF to_sequence <= from_sequence THEN
        to_sequence := from_sequence;
        RETURN NEXT;
        RETURN;
    END IF;

    SELECT count(*), array_agg(DISTINCT j.kind::int) INTO found_entries, kinds
    FROM betting.journal j WHERE j.shard = p_shard AND j.sequence > from_sequence AND j.sequence <= to_sequence;
    IF found_entries <> to_sequence - from_sequence THEN
        RAISE EXCEPTION 'shard % has % entries between % and %: the journal has a gap',
            p_shard, found_entries, from_sequence, to_sequence;
    END IF;

    IF kinds && '{1}' THEN
        PERFORM betting.project_accounts(p_shard, from_sequence, to_sequence);
    END IF;
    IF kinds && '{10}' THEN
        PERFORM betting.project_bets(p_shard, from_sequence, to_sequence);
    END IF;
    IF kinds && '{21,23,24}' THEN
        PERFORM betting.project_settlements(p_shard, from_sequence, to_sequence);
    END IF;
    IF kinds && '{25}' THEN
        PERFORM betting.project_closed_versions(p_shard, from_sequence, to_sequence);
    END IF;
    IF kinds && '{2,3,10,21,23,24}' THEN
        PERFORM betting.project_balances(p_shard, from_sequence, to_sequence);
    END IF;
    UPDATE betting.projector SET sequence = to_sequence WHERE shard = p_shard;
    RETURN NEXT;
END
$$;

CREATE FUNCTION betting.project_accounts(p_shard int, after bigint, upto bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO betting.accounts (account, user_id, currency, shard, opened_at_us)
    SELECT j.account, betting.uuid_at(j.body, 0), convert_from(substr(j.body, 17, 3), 'UTF8'), p_shard, j.at_us
    FROM betting.journal j WHERE j.shard = p_shard AND j.sequence > after AND j.sequence <= upto AND j.kind = 1;

    INSERT INTO betting.balances (account, cash_minor, open_stakes_minor, receivable_minor, sequence)
    SELECT j.account, 0, 0, 0, j.sequence
    FROM betting.journal j WHERE j.shard = p_shard AND j.sequence > after AND j.sequence <= upto AND j.kind = 1;
END
$$;

CREATE FUNCTION betting.project_bets(p_shard int, after bigint, upto bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO betting.bets (
        bet, account, request_key, shard, status, policy, placed_sequence, placed_at_us, stake_minor,
        potential_payout_minor, record
    )
    SELECT
        j.bet, j.account, j.request_key, p_shard, 1, get_byte(j.body, betting.record_size(j.body)), j.sequence, j.at_us,
        betting.int8_at(j.body, 16), betting.int8_at(j.body, betting.record_size(j.body) + 1),
        substr(j.body, 1, betting.record_size(j.body))
    FROM betting.journal j WHERE j.shard = p_shard AND j.sequence > after AND j.sequence <= upto AND j.kind = 10;
END
$$;

-- BET_SETTLED, BET_RESETTLED, BET_REOPENED. A bet may have several in one go: the last one decides how it stands.
CREATE FUNCTION betting.project_settlements(p_shard int, after bigint, upto bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO betting.bet_settlements (shard, sequence, kind, bet, account, number, version, market, payout_minor, at_us)
    SELECT
        p_shard, j.sequence, j.kind, j.bet, j.account, betting.int2_at(j.body, 4), betting.int4_at(j.body, 0), j.market,
        CASE j.kind WHEN 21 THEN betting.int8_at(j.body, 6) WHEN 23 THEN betting.int8_at(j.body, 14) ELSE 0 END, j.at_us
    FROM betting.journal j
    WHERE j.shard = p_shard AND j.sequence > after AND j.sequence <= upto AND j.kind IN (21, 23, 24);

    -- The legs go in with a bet's first settlement: once, so no row is looked for that might be there already.
    WITH stands AS (
        UPDATE betting.bets b SET
            status = CASE last.kind WHEN 24 THEN 1 ELSE 2 END,
            settlements = last.number,
            payout_minor = CASE WHEN last.kind <> 24 THEN last.payout_minor END,
            settled_sequence = CASE WHEN last.kind <> 24 THEN last.sequence END,
            settled_at_us = CASE WHEN last.kind <> 24 THEN last.at_us END
        FROM (
            SELECT DISTINCT ON (s.bet) s.bet, s.kind, s.number, s.payout_minor, s.sequence, s.at_us
            FROM betting.bet_settlements s
            WHERE s.shard = p_shard AND s.sequence > after AND s.sequence <= upto
            ORDER BY s.bet, s.sequence DESC
        ) last
        WHERE b.bet = last.bet
        RETURNING b.bet, b.record, old.settlements AS settlements_before
    )
    INSERT INTO betting.bet_legs (market, shard, bet)
    SELECT betting.int8_at(record, 41 + 26 * leg), p_shard, bet
    FROM (
        SELECT bet, record, generate_series(0, get_byte(record, 32) - 1) AS leg
        FROM stands WHERE settlements_before = 0
    ) each;

    INSERT INTO betting.market_settlements AS m (shard, market, version, bets, payout_minor)
    SELECT p_shard, s.market, s.version, count(*), sum(s.payout_minor)
    FROM betting.bet_settlements s WHERE s.shard = p_shard AND s.sequence > after AND s.sequence <= upto
    GROUP BY s.market, s.version
    ON CONFLICT (shard, market, version) DO UPDATE SET
        bets = m.bets + EXCLUDED.bets, payout_minor = m.payout_minor + EXCLUDED.payout_minor;
END
$$;

CREATE FUNCTION betting.project_closed_versions(p_shard int, after bigint, upto bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO betting.market_settlements (shard, market, version, bets, payout_minor, sequence)
    SELECT p_shard, j.market, betting.int4_at(j.body, 0), 0, 0, j.sequence
    FROM betting.journal j WHERE j.shard = p_shard AND j.sequence > after AND j.sequence <= upto AND j.kind = 25
    ON CONFLICT (shard, market, version) DO UPDATE SET sequence = EXCLUDED.sequence;
END
$$;

CREATE FUNCTION betting.project_balances(p_shard int, after bigint, upto bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO betting.ledger (account, sequence, shard, kind, cash_minor, receivable_minor, bet, at_us)
    SELECT j.account, j.sequence, p_shard, j.kind, j.cash_minor, j.receivable_minor, j.bet, j.at_us
    FROM betting.journal j
    WHERE j.shard = p_shard AND j.sequence > after AND j.sequence <= upto AND (j.cash_minor <> 0 OR j.receivable_minor <> 0);

    UPDATE betting.balances b SET
        cash_minor = b.cash_minor + moved.cash_minor,
        open_stakes_minor = b.open_stakes_minor + moved.stakes_minor,
        receivable_minor = b.receivable_minor + moved.receivable_minor,
        sequence = moved.sequence
    FROM (
        SELECT
            j.account, sum(j.cash_minor)::bigint AS cash_minor, sum(j.stakes_minor)::bigint AS stakes_minor,
            sum(j.receivable_minor)::bigint AS receivable_minor, max(j.sequence) AS sequence
        FROM betting.journal j
        WHERE j.shard = p_shard AND j.sequence > after AND j.sequence <= upto AND j.kind IN (2, 3, 10, 21, 23, 24)
        GROUP BY j.account
    ) moved
    WHERE b.account = moved.account;
END
$$;
