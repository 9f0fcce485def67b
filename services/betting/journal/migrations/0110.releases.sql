-- Which release migrated this database, and when: an older release that meets it can name the one to use.
-- depends: 0001.journal

CREATE TABLE betting.releases (
    release     text        PRIMARY KEY,
    migrated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
