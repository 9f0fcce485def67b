-- depends:

CREATE SCHEMA settlement;

-- One row per result of a market. Version 1 is the first result, each correction one more.
CREATE TABLE settlement.settlements (
    market_id       bigint NOT NULL CHECK (market_id > 0),
    version         int NOT NULL CHECK (version > 0),
    event_id        bigint NOT NULL,
    -- selection id -> betting.v1.Outcome
    outcomes        jsonb NOT NULL,
    -- betting.v1.SettlementStatus
    status          smallint NOT NULL CHECK (status BETWEEN 1 AND 4),
    voids           boolean NOT NULL,
    shards_total    int NOT NULL CHECK (shards_total > 0),
    requested_at_us bigint NOT NULL,
    finished_at_us  bigint,
    problem         text NOT NULL DEFAULT '',
    PRIMARY KEY (market_id, version)
);

CREATE INDEX settlements_unfinished ON settlement.settlements (requested_at_us, market_id, version) WHERE status <> 3;

-- A row appears when a shard has finished a version.
CREATE TABLE settlement.shards_done (
    market_id    bigint NOT NULL,
    version      int NOT NULL,
    shard_id     int NOT NULL,
    settled_bets bigint NOT NULL,
    payout_minor bigint NOT NULL,
    PRIMARY KEY (market_id, version, shard_id),
    FOREIGN KEY (market_id, version) REFERENCES settlement.settlements
);
