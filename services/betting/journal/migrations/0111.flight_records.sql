-- What the healer concluded, did and did not do, whenever that changed: for people and tools without its data folder.
-- The healer deletes the oldest rows as it adds new ones.
-- depends: 0060.healing

CREATE TABLE betting.flight_records (
    number      bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    recorded_at timestamptz NOT NULL,
    term        bigint      NOT NULL,  -- of the healer that wrote it
    lines       text[]      NOT NULL,  -- news of this tick, as `betting heal log` prints it
    format      int         NOT NULL,  -- version of `record`
    record      text                   -- the whole tick as JSON; null where it was too large to be kept here
);
