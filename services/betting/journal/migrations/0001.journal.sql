-- The journal: what happened, for ever. And the request keys of the last 31 days.
-- depends:

CREATE SCHEMA betting;

-- Columns in the order of betting.engine.entries.Entry. Amounts are signed changes in minor units.
CREATE TABLE betting.journal (
    shard            int      NOT NULL,
    sequence         bigint   NOT NULL CHECK (sequence > 0),
    kind             smallint NOT NULL,
    format           smallint NOT NULL,
    at_us            bigint   NOT NULL,
    account          uuid,
    bet              uuid,
    request_key      uuid,
    market           bigint,
    cash_minor       bigint   NOT NULL,
    stakes_minor     bigint   NOT NULL,
    house_minor      bigint   NOT NULL,
    clearing_minor   bigint   NOT NULL,
    receivable_minor bigint   NOT NULL,
    body             bytea    NOT NULL,
    PRIMARY KEY (shard, sequence),
    -- Double entry: what one ledger gains others lose.
    CONSTRAINT journal_balanced CHECK (cash_minor + stakes_minor + house_minor + clearing_minor + receivable_minor = 0)
) PARTITION BY HASH (shard);

-- A body of up to 8 kB stays in its row: no second table on the append path, nothing tries to compress identifiers.
CREATE TABLE betting.journal_0 PARTITION OF betting.journal FOR VALUES WITH (MODULUS 8, REMAINDER 0) WITH (toast_tuple_target = 8160);
CREATE TABLE betting.journal_1 PARTITION OF betting.journal FOR VALUES WITH (MODULUS 8, REMAINDER 1) WITH (toast_tuple_target = 8160);
CREATE TABLE betting.journal_2 PARTITION OF betting.journal FOR VALUES WITH (MODULUS 8, REMAINDER 2) WITH (toast_tuple_target = 8160);
CREATE TABLE betting.journal_3 PARTITION OF betting.journal FOR VALUES WITH (MODULUS 8, REMAINDER 3) WITH (toast_tuple_target = 8160);
CREATE TABLE betting.journal_4 PARTITION OF betting.journal FOR VALUES WITH (MODULUS 8, REMAINDER 4) WITH (toast_tuple_target = 8160);
CREATE TABLE betting.journal_5 PARTITION OF betting.journal FOR VALUES WITH (MODULUS 8, REMAINDER 5) WITH (toast_tuple_target = 8160);
CREATE TABLE betting.journal_6 PARTITION OF betting.journal FOR VALUES WITH (MODULUS 8, REMAINDER 6) WITH (toast_tuple_target = 8160);
CREATE TABLE betting.journal_7 PARTITION OF betting.journal FOR VALUES WITH (MODULUS 8, REMAINDER 7) WITH (toast_tuple_target = 8160);

CREATE FUNCTION betting.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the journal is append-only: % on %.% is refused', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'Correct money with new entries.';
END
$$;

-- Per statement, so inserts pay nothing. On each partition too: a statement that names one does not pass the parent's.
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON betting.journal FOR EACH STATEMENT EXECUTE FUNCTION betting.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON betting.journal_0 FOR EACH STATEMENT EXECUTE FUNCTION betting.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON betting.journal_1 FOR EACH STATEMENT EXECUTE FUNCTION betting.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON betting.journal_2 FOR EACH STATEMENT EXECUTE FUNCTION betting.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON betting.journal_3 FOR EACH STATEMENT EXECUTE FUNCTION betting.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON betting.journal_4 FOR EACH STATEMENT EXECUTE FUNCTION betting.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON betting.journal_5 FOR EACH STATEMENT EXECUTE FUNCTION betting.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON betting.journal_6 FOR EACH STATEMENT EXECUTE FUNCTION betting.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON betting.journal_7 FOR EACH STATEMENT EXECUTE FUNCTION betting.refuse_change();

-- Which entry answered a request key. The key comes first in index and partition bounds: UUIDv7 rises with time, so inserts
-- stay on few pages. One partition per day (betting.journal.partitions makes and drops them); strays go to the default.
CREATE TABLE betting.requests (
    request_key uuid   NOT NULL,
    shard       int    NOT NULL,
    sequence    bigint NOT NULL,
    PRIMARY KEY (request_key, shard)
) PARTITION BY RANGE (request_key);

CREATE TABLE betting.requests_default PARTITION OF betting.requests DEFAULT;
