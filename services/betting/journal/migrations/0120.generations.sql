-- An instance says which generation of its deployment it is of: shards go to the newest first.
-- depends: 0090.lives

ALTER TABLE betting.instances ADD COLUMN generation int NOT NULL DEFAULT 0 CHECK (generation >= 0);
