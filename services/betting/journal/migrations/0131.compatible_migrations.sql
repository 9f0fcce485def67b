-- Which migrations an older release may run with, that does not know them: see docs/operator/upgrade.md.
-- depends: 0130.projection_of_groups

-- oldest: the newest migration that a release must know to run with this one. A migration without a row keeps every
-- release out that does not know it.
CREATE TABLE betting.compatible_migrations (
    migration_id text PRIMARY KEY,
    oldest       text NOT NULL
);

INSERT INTO betting.compatible_migrations (migration_id, oldest) VALUES ('0131.compatible_migrations', '0001.journal');
