-- How far each consumer of the journal's streams has come.
-- depends: 0002.ownership

CREATE TABLE betting.consumer_positions (
    consumer text   NOT NULL,
    shard    int    NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (consumer, shard)
) WITH (fillfactor = 50);
