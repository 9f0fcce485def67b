-- Who is the Redis primary, and how far a failover has come. Written by compare-and-set only.
-- depends: 0002.ownership

CREATE TABLE betting.redis_record (
    only_row          boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    primary_node      text        NOT NULL,
    boot_id           text        NOT NULL,  -- of the life that may serve
    epoch             bigint      NOT NULL,  -- goes up with every new primary
    phase             text        NOT NULL CHECK (phase IN ('steady', 'fencing', 'detached', 'promoting')),
    candidate         text        NOT NULL DEFAULT '',
    candidate_boot_id text        NOT NULL DEFAULT '',
    term              bigint      NOT NULL,  -- of the healer that wrote it; 0: the supervisor
    changed_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT redis_record_candidate_by_phase CHECK ((phase = 'promoting') = (candidate <> ''))
);
