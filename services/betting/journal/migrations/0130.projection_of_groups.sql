-- The projector takes many shards at once: one statement and one transaction for a group of them, whatever their number.
-- depends: 0120.generations

DROP FUNCTION betting.project(int, int);
DROP FUNCTION betting.project_accounts(int, bigint, bigint);
DROP FUNCTION betting.project_bets(int, bigint, bigint);
DROP FUNCTION betting.project_settlements(int, bigint, bigint);
DROP FUNCTION betting.project_closed_versions(int, bigint, bigint);
DROP FUNCTION betting.project_balances(int, bigint, bigint);

-- Takes shards further by at most `max_entries` entries in all: as far as their journals go, or each by a fair share of
-- that. A row for each shard, also for one with nothing to do; none for a shard that another projector has.
-- The first statement locks each shard's watermark until the end, so two projectors never write rows of the same shard.
-- Everything it writes can be derived again and goes with the watermarks: no need to wait for the disk. The setting must
-- last until the commit, so it is made inside: one in the head of a function ends with the function.
-- Tables grow from nothing to millions of rows between two ANALYZEs, so plans are pinned to index look-ups.
CREATE FUNCTION betting.project_group(
    p_shards int[], max_entries int,
    OUT shard int, OUT from_sequence bigint, OUT to_sequence bigint, OUT head_sequence bigint
) RETURNS SETOF record LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    shards int[];  -- by how much they have to take in, least first; the other arrays in the same order
    afters bigint[];
    heads bigint[];
    uptos bigint[];
    room bigint := max_entries;
    left_over int;
    found_entries bigint;
    kinds int[];
    gap record;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT array_agg(p.shard), array_agg(p.sequence) INTO shards, afters FROM (
        SELECT p.shard, p.sequence FROM betting.projector p
        WHERE p.shard = ANY (p_shards) ORDER BY p.shard FOR UPDATE SKIP LOCKED
    ) p;
    IF shards IS NULL THEN
        RETURN;
    END IF;
    -- A later statement than the one that locks: it sees all that is committed now.
    SELECT array_agg(f.shard), array_agg(f.after), array_agg(f.head) INTO shards, afters, heads FROM (
        SELECT p.shard, p.after, coalesce(j.head, 0) AS head
        FROM unnest(shards, afters) AS p (shard, after)
        CROSS JOIN LATERAL (SELECT max(j.sequence) AS head FROM betting.journal j WHERE j.shard = p.shard) j
        ORDER BY coalesce(j.head, 0) - p.after, p.shard
    ) f;

    uptos := afters;
    left_over := cardinality(shards);
    FOR n IN 1 .. cardinality(shards) LOOP
        uptos[n] := afters[n] + greatest(0, least(heads[n] - afters[n], room / left_over));
        room := room - (uptos[n] - afters[n]);
        left_over := left_over - 1;
    END LOOP;
    RETURN QUERY SELECT * FROM unnest(shards, afters, uptos, heads);

    SELECT array_agg(f.shard), array_agg(f.after), array_agg(f.upto) INTO shards, afters, uptos
    FROM unnest(shards, afters, uptos) AS f (shard, after, upto) WHERE f.upto > f.after;
    IF shards IS NULL THEN
        RETURN;
    END IF;
    SELECT count(*), array_agg(DISTINCT j.kind::int) INTO found_entries, kinds
    FROM unnest(shards, afters, uptos) AS f (shard, after, upto)
    JOIN betting.journal j ON j.shard = f.shard AND j.sequence > f.after AND j.sequence <= f.upto;
    IF found_entries <> (SELECT sum(f.upto - f.after) FROM unnest(afters, uptos) AS f (after, upto)) THEN
        SELECT f.shard, f.after, f.upto, j.found INTO gap FROM unnest(shards, afters, uptos) AS f (shard, after, upto)
        CROSS JOIN LATERAL (
            SELECT count(*) AS found FROM betting.journal j
            WHERE j.shard = f.shard AND j.sequence > f.after AND j.sequence <= f.upto
        ) j
        WHERE j.found <> f.upto - f.after LIMIT 1;
        RAISE EXCEPTION 'shard % has % entries between % and %: the journal has a gap',
            gap.shard, gap.found, gap.after, gap.upto;
    END IF;

    IF kinds && '{1}' THEN
        PERFORM betting.project_accounts(shards, afters, uptos);
    END IF;
    IF kinds && '{10}' THEN
        PERFORM betting.project_bets(shards, afters, uptos);
    END IF;
    IF kinds && '{21,23,24}' THEN
        PERFORM betting.project_settlements(shards, afters, uptos);
    END IF;
    IF kinds && '{25}' THEN
        PERFORM betting.project_closed_versions(shards, afters, uptos);
    END IF;
    IF kinds && '{2,3,10,21,23,24}' THEN
        PERFORM betting.project_balances(shards, afters, uptos);
    END IF;
    UPDATE betting.projector p SET sequence = f.upto
    FROM unnest(shards, afters, uptos) AS f (shard, after, upto) WHERE p.shard = f.shard;
END
$$;

-- One shard by itself.
CREATE FUNCTION betting.project(
    p_shard int, max_entries int, OUT from_sequence bigint, OUT to_sequence bigint, OUT head_sequence bigint
) RETURNS SETOF record LANGUAGE sql
AS $$
    SELECT from_sequence, to_sequence, head_sequence FROM betting.project_group(ARRAY[p_shard], max_entries)
$$;

-- What follows is called by `project_group` alone. The arrays: shards, and of each the entries after one sequence up to
-- another.

CREATE FUNCTION betting.project_accounts(shards int[], afters bigint[], uptos bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO betting.accounts (account, user_id, currency, shard, opened_at_us)
    SELECT j.account, betting.uuid_at(j.body, 0), convert_from(substr(j.body, 17, 3), 'UTF8'), j.shard, j.at_us
    FROM unnest(shards, afters, uptos) AS f (shard, after, upto)
    JOIN betting.journal j ON j.shard = f.shard AND j.sequence > f.after AND j.sequence <= f.upto
    WHERE j.kind = 1;

    INSERT INTO betting.balances (account, cash_minor, open_stakes_minor, receivable_minor, sequence)
    SELECT j.account, 0, 0, 0, j.sequence
    FROM unnest(shards, afters, uptos) AS f (shard, after, upto)
    JOIN betting.journal j ON j.shard = f.shard AND j.sequence > f.after AND j.sequence <= f.upto
    WHERE j.kind = 1;
END
$$;

CREATE FUNCTION betting.project_bets(shards int[], afters bigint[], uptos bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO betting.bets (
        bet, account, request_key, shard, status, policy, placed_sequence, placed_at_us, stake_minor,
        potential_payout_minor, record
    )
    SELECT
        j.bet, j.account, j.request_key, j.shard, 1, get_byte(j.body, betting.record_size(j.body)), j.sequence, j.at_us,
        betting.int8_at(j.body, 16), betting.int8_at(j.body, betting.record_size(j.body) + 1),
        substr(j.body, 1, betting.record_size(j.body))
    FROM unnest(shards, afters, uptos) AS f (shard, after, upto)
    JOIN betting.journal j ON j.shard = f.shard AND j.sequence > f.after AND j.sequence <= f.upto
    WHERE j.kind = 10;
END
$$;

-- BET_SETTLED, BET_RESETTLED, BET_REOPENED. A bet may have several in one go: the last one decides how it stands.
CREATE FUNCTION betting.project_settlements(shards int[], afters bigint[], uptos bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO betting.bet_settlements (shard, sequence, kind, bet, account, number, version, market, payout_minor, at_us)
    SELECT
        j.shard, j.sequence, j.kind, j.bet, j.account, betting.int2_at(j.body, 4), betting.int4_at(j.body, 0), j.market,
        CASE j.kind WHEN 21 THEN betting.int8_at(j.body, 6) WHEN 23 THEN betting.int8_at(j.body, 14) ELSE 0 END, j.at_us
    FROM unnest(shards, afters, uptos) AS f (shard, after, upto)
    JOIN betting.journal j ON j.shard = f.shard AND j.sequence > f.after AND j.sequence <= f.upto
    WHERE j.kind IN (21, 23, 24);

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
            FROM unnest(shards, afters, uptos) AS f (shard, after, upto)
            JOIN betting.bet_settlements s ON s.shard = f.shard AND s.sequence > f.after AND s.sequence <= f.upto
            ORDER BY s.bet, s.sequence DESC
        ) last
        WHERE b.bet = last.bet
        RETURNING b.bet, b.shard, b.record, old.settlements AS settlements_before
    )
    INSERT INTO betting.bet_legs (market, shard, bet)
    SELECT betting.int8_at(record, 41 + 26 * leg), shard, bet
    FROM (
        SELECT bet, shard, record, generate_series(0, get_byte(record, 32) - 1) AS leg
        FROM stands WHERE settlements_before = 0
    ) each;

    INSERT INTO betting.market_settlements AS m (shard, market, version, bets, payout_minor)
    SELECT s.shard, s.market, s.version, count(*), sum(s.payout_minor)
    FROM unnest(shards, afters, uptos) AS f (shard, after, upto)
    JOIN betting.bet_settlements s ON s.shard = f.shard AND s.sequence > f.after AND s.sequence <= f.upto
    GROUP BY s.shard, s.market, s.version
    ON CONFLICT (shard, market, version) DO UPDATE SET
        bets = m.bets + EXCLUDED.bets, payout_minor = m.payout_minor + EXCLUDED.payout_minor;
END
$$;

CREATE FUNCTION betting.project_closed_versions(shards int[], afters bigint[], uptos bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO betting.market_settlements (shard, market, version, bets, payout_minor, sequence)
    SELECT j.shard, j.market, betting.int4_at(j.body, 0), 0, 0, j.sequence
    FROM unnest(shards, afters, uptos) AS f (shard, after, upto)
    JOIN betting.journal j ON j.shard = f.shard AND j.sequence > f.after AND j.sequence <= f.upto
    WHERE j.kind = 25
    ON CONFLICT (shard, market, version) DO UPDATE SET sequence = EXCLUDED.sequence;
END
$$;

CREATE FUNCTION betting.project_balances(shards int[], afters bigint[], uptos bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO betting.ledger (account, sequence, shard, kind, cash_minor, receivable_minor, bet, at_us)
    SELECT j.account, j.sequence, j.shard, j.kind, j.cash_minor, j.receivable_minor, j.bet, j.at_us
    FROM unnest(shards, afters, uptos) AS f (shard, after, upto)
    JOIN betting.journal j ON j.shard = f.shard AND j.sequence > f.after AND j.sequence <= f.upto
    WHERE j.cash_minor <> 0 OR j.receivable_minor <> 0;

    UPDATE betting.balances b SET
        cash_minor = b.cash_minor + moved.cash_minor,
        open_stakes_minor = b.open_stakes_minor + moved.stakes_minor,
        receivable_minor = b.receivable_minor + moved.receivable_minor,
        sequence = moved.sequence
    FROM (
        SELECT
            j.account, sum(j.cash_minor)::bigint AS cash_minor, sum(j.stakes_minor)::bigint AS stakes_minor,
            sum(j.receivable_minor)::bigint AS receivable_minor, max(j.sequence) AS sequence
        FROM unnest(shards, afters, uptos) AS f (shard, after, upto)
        JOIN betting.journal j ON j.shard = f.shard AND j.sequence > f.after AND j.sequence <= f.upto
        WHERE j.kind IN (2, 3, 10, 21, 23, 24)
        GROUP BY j.account
    ) moved
    WHERE b.account = moved.account;
END
$$;
