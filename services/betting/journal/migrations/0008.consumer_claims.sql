-- Several processes of one consumer share its shards. A claim holds for as long as its holder is heard of.
-- depends: 0006.streams

ALTER TABLE betting.consumer_positions ADD COLUMN claimed_by text;

CREATE TABLE betting.consumer_members (
    consumer text        NOT NULL,
    -- Name and boot id of a process.
    member   text        NOT NULL,
    seen_at  timestamptz NOT NULL,
    PRIMARY KEY (consumer, member)
) WITH (fillfactor = 50);
