-- Prices, the feeds they come from, and how far a season's replay is. Times are microseconds since 1970; statuses are the
-- numbers of betting.v1.MarketStatus and ProducerStatus.
-- depends:

CREATE SCHEMA odds;

-- The one process that counts. Every write of prices checks its epoch; taking over raises it.
CREATE TABLE odds.writer (
    only_row  boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch     bigint      NOT NULL,
    process   text        NOT NULL,
    beat_at   timestamptz NOT NULL
);

CREATE TABLE odds.producers (
    producer_id      text     PRIMARY KEY,
    name             text     NOT NULL,
    status           smallint NOT NULL CHECK (status BETWEEN 1 AND 3),
    last_alive_at_us bigint   NOT NULL
);

CREATE TABLE odds.current (
    market_id     bigint   PRIMARY KEY CHECK (market_id > 0),
    event_id      bigint   NOT NULL CHECK (event_id > 0),
    status        smallint NOT NULL CHECK (status BETWEEN 1 AND 5),
    version       bigint   NOT NULL CHECK (version > 0),
    closes_at_us  bigint   NOT NULL,
    -- [[selection_id, numerator, denominator], …]
    prices        jsonb    NOT NULL,
    changed_at_us bigint   NOT NULL,
    producer_id   text     NOT NULL,
    stale         boolean  NOT NULL
);

CREATE INDEX current_by_change ON odds.current (changed_at_us);

-- Every version a market ever had.
CREATE TABLE odds.history (
    market_id     bigint   NOT NULL,
    version       bigint   NOT NULL,
    event_id      bigint   NOT NULL,
    status        smallint NOT NULL,
    closes_at_us  bigint   NOT NULL,
    prices        jsonb    NOT NULL,
    changed_at_us bigint   NOT NULL,
    producer_id   text     NOT NULL,
    stale         boolean  NOT NULL,
    PRIMARY KEY (market_id, version)
);

CREATE INDEX history_by_change ON odds.history USING brin (changed_at_us);

-- How a season's time runs in wall time: made once, so that a restarted replay goes on where it was.
CREATE TABLE odds.replays (
    replay            text   PRIMARY KEY,
    season_begin_us   bigint NOT NULL,
    wall_begin_us     bigint NOT NULL,
    -- Season seconds per wall second, in thousandths.
    speed_thousandths bigint NOT NULL CHECK (speed_thousandths > 0),
    open_ahead_us     bigint NOT NULL CHECK (open_ahead_us > 0)
);

-- The last step of each match that is known to be done (betting.odds.replay.schedule.Stage).
CREATE TABLE odds.replay_matches (
    replay   text     NOT NULL REFERENCES odds.replays ON DELETE CASCADE,
    event_id bigint   NOT NULL,
    stage    smallint NOT NULL CHECK (stage BETWEEN 1 AND 4),
    PRIMARY KEY (replay, event_id)
);
