-- How many replicas the recorded life of the Redis primary waits for before it takes a write, by its configuration: what
-- it takes to keep a primary from writing that cannot be reached.
-- depends: 0133.refused_shards

-- configured_boot_id: the life that min_replicas is true of. A release that does not know these columns names another
-- life and leaves them as they are: then nothing is known of that one.
ALTER TABLE betting.redis_record
    ADD COLUMN min_replicas       int  NOT NULL DEFAULT 0 CHECK (min_replicas >= 0),
    ADD COLUMN configured_boot_id text NOT NULL DEFAULT '';

INSERT INTO betting.compatible_migrations (migration_id, oldest)
VALUES ('0140.redis_min_replicas', '0131.compatible_migrations');
