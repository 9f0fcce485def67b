-- The catalogue: sports, leagues, events and their markets. Times are microseconds since 1970; statuses are the numbers
-- of betting.v1.EventStatus and MarketStatus.
-- depends:

CREATE SCHEMA events;

CREATE TABLE events.sports (
    sport_id text PRIMARY KEY CHECK (length(sport_id) BETWEEN 1 AND 40),
    name     text NOT NULL CHECK (length(name) BETWEEN 1 AND 100)
);

CREATE TABLE events.leagues (
    league_id   text PRIMARY KEY CHECK (length(league_id) BETWEEN 1 AND 40),
    sport_id    text NOT NULL REFERENCES events.sports,
    name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    country     text NOT NULL CHECK (length(country) <= 100),
    -- Name folded for searching (case and accents gone); see betting.events.words.
    search_text text NOT NULL
);

CREATE INDEX leagues_of_sport ON events.leagues (sport_id);

CREATE TABLE events.events (
    event_id     bigint   PRIMARY KEY CHECK (event_id > 0),
    league_id    text     NOT NULL REFERENCES events.leagues,
    home         text     NOT NULL CHECK (length(home) BETWEEN 1 AND 100),
    away         text     NOT NULL CHECK (length(away) BETWEEN 1 AND 100),
    starts_at_us bigint   NOT NULL CHECK (starts_at_us > 0),
    status       smallint NOT NULL CHECK (status BETWEEN 1 AND 4),
    home_goals   int      NOT NULL DEFAULT 0 CHECK (home_goals BETWEEN 0 AND 999),
    away_goals   int      NOT NULL DEFAULT 0 CHECK (away_goals BETWEEN 0 AND 999),
    search_text  text     NOT NULL,
    -- A score means something once the event is finished (3), and only then.
    CHECK (status = 3 OR (home_goals = 0 AND away_goals = 0))
);

-- A search reads this index from the soonest event on and needs no row that does not match.
CREATE INDEX events_by_start ON events.events (starts_at_us, event_id) INCLUDE (league_id, search_text);
CREATE INDEX events_by_league ON events.events (league_id, starts_at_us, event_id);
CREATE INDEX events_by_status ON events.events (status, starts_at_us, event_id);

CREATE TABLE events.markets (
    market_id       bigint     PRIMARY KEY CHECK (market_id > 0),
    event_id        bigint     NOT NULL REFERENCES events.events,
    kind            smallint   NOT NULL CHECK (kind BETWEEN 1 AND 3),
    line_quarters   int        NOT NULL,
    status          smallint   NOT NULL CHECK (status BETWEEN 1 AND 5),
    closes_at_us    bigint     NOT NULL CHECK (closes_at_us > 0),
    -- In the order they are shown.
    selection_ids   smallint[] NOT NULL CHECK (array_length(selection_ids, 1) BETWEEN 1 AND 100),
    selection_names text[]     NOT NULL,
    -- The same question twice would split an event's bets.
    UNIQUE (event_id, kind, line_quarters),
    CHECK (array_length(selection_ids, 1) = array_length(selection_names, 1))
);
