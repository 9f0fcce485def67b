-- An instance says which shard it could not load while another version could: it owns no shards until that is settled.
-- depends: 0131.compatible_migrations

ALTER TABLE betting.instances ADD COLUMN refused_shard int;

INSERT INTO betting.compatible_migrations (migration_id, oldest)
VALUES ('0133.refused_shards', '0131.compatible_migrations');
