-- Of several processes of one kind (odds-service, one feed) only one acts: the holder of the lease of its name. It was
-- odds-service's alone (odds.writer) and keeps its number, so that a process of the release before cannot write any more.
-- depends: 0040.odds

ALTER TABLE odds.writer RENAME TO leases;
ALTER TABLE odds.leases RENAME COLUMN epoch TO term;
ALTER TABLE odds.leases ADD COLUMN name text NOT NULL DEFAULT 'odds-service';
ALTER TABLE odds.leases ALTER COLUMN name DROP DEFAULT;
ALTER TABLE odds.leases DROP COLUMN only_row;
ALTER TABLE odds.leases ADD PRIMARY KEY (name);

-- The term of the process that published last, where several may run.
ALTER TABLE odds.producers ADD COLUMN term bigint NOT NULL DEFAULT 0;

-- term goes up with every change of hands; a write that names an older one writes nothing.
-- process is "instance@boot id" of the holder, empty when nobody holds it. beat_at is when the holder last said it lives.
