-- Tables that the projector derives from the journal. Everything here can be thrown away and derived again.
-- depends: 0002.ownership

-- Up to which entry of a shard the tables below are derived.
CREATE TABLE betting.projector (
    shard    int    PRIMARY KEY,
    sequence bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE betting.accounts (
    account      uuid   PRIMARY KEY,
    user_id      uuid   NOT NULL,
    currency     text   NOT NULL,
    shard        int    NOT NULL,
    opened_at_us bigint NOT NULL
);

-- Reader: the accounts of a user.
CREATE INDEX accounts_of_user ON betting.accounts (user_id);

-- Changes in place (HOT): no index but the key, room on each page.
CREATE TABLE betting.balances (
    account           uuid   PRIMARY KEY,
    cash_minor        bigint NOT NULL,
    open_stakes_minor bigint NOT NULL,
    receivable_minor  bigint NOT NULL,
    sequence          bigint NOT NULL
) WITH (fillfactor = 50);

-- Settling a bet changes columns that no index covers, and every bet is settled once, mostly with its neighbours: half of
-- each page is left for that, so that they stay on it (HOT). "The settled bets of an account" is an index of
-- bet_settlements.
CREATE TABLE betting.bets (
    bet                    uuid     PRIMARY KEY,
    account                uuid     NOT NULL,
    request_key            uuid     NOT NULL,
    shard                  int      NOT NULL,
    status                 smallint NOT NULL,  -- 1 open, 2 settled
    policy                 smallint NOT NULL,
    settlements            smallint NOT NULL DEFAULT 0,
    placed_sequence        bigint   NOT NULL,
    placed_at_us           bigint   NOT NULL,
    stake_minor            bigint   NOT NULL,
    potential_payout_minor bigint   NOT NULL,
    payout_minor           bigint,  -- this and the next two: while settled
    settled_sequence       bigint,
    settled_at_us          bigint,
    record                 bytea    NOT NULL
) WITH (fillfactor = 50);

-- The legs of every bet that was ever settled: a corrected result finds them by market.
CREATE TABLE betting.bet_legs (
    market bigint NOT NULL,
    shard  int    NOT NULL,
    bet    uuid   NOT NULL,
    PRIMARY KEY (market, shard, bet)
);

-- Every settlement, correction and reopening of a bet. Append-only.
CREATE TABLE betting.bet_settlements (
    shard        int      NOT NULL,
    sequence     bigint   NOT NULL,
    kind         smallint NOT NULL,
    bet          uuid     NOT NULL,
    account      uuid     NOT NULL,
    number       smallint NOT NULL,
    version      int      NOT NULL,
    market       bigint   NOT NULL,
    payout_minor bigint   NOT NULL,  -- 0 for a reopening
    at_us        bigint   NOT NULL,
    PRIMARY KEY (shard, sequence)
);

-- Reader: settled bets of an account, newest first.
CREATE INDEX bet_settlements_of_account ON betting.bet_settlements (account, sequence);

-- Movements of cash and of what is owed. Append-only.
CREATE TABLE betting.ledger (
    account          uuid     NOT NULL,
    sequence         bigint   NOT NULL,
    shard            int      NOT NULL,
    kind             smallint NOT NULL,
    cash_minor       bigint   NOT NULL,
    receivable_minor bigint   NOT NULL,
    bet              uuid,
    at_us            bigint   NOT NULL,
    PRIMARY KEY (account, sequence)
);

-- Counted from the bets' own entries, never copied from the entry that closes a version: the two are compared.
CREATE TABLE betting.market_settlements (
    shard        int    NOT NULL,
    market       bigint NOT NULL,
    version      int    NOT NULL,
    bets         bigint NOT NULL,
    payout_minor bigint NOT NULL,
    sequence     bigint,  -- of the entry that closed the version
    PRIMARY KEY (shard, market, version)
) WITH (fillfactor = 50);
