-- Snapshots of shard states. Parts are written first; the row in `snapshots`, written under the fence, makes them count.
-- depends: 0002.ownership

CREATE TABLE betting.snapshots (
    shard      int         NOT NULL,
    sequence   bigint      NOT NULL,
    epoch      bigint      NOT NULL,
    format     smallint    NOT NULL,
    parts      int         NOT NULL,
    size_bytes bigint      NOT NULL,
    sha256     bytea       NOT NULL CHECK (length(sha256) = 32),
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shard, sequence, epoch)
);

CREATE TABLE betting.snapshot_parts (
    shard    int    NOT NULL,
    sequence bigint NOT NULL,
    epoch    bigint NOT NULL,
    part     int    NOT NULL,
    body     bytea  NOT NULL CHECK (length(body) <= 1048576),
    PRIMARY KEY (shard, sequence, epoch, part)
);

-- Identifiers do not compress; trying costs more than writing.
ALTER TABLE betting.snapshot_parts ALTER COLUMN body SET STORAGE EXTERNAL;
