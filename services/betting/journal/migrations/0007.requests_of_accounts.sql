-- A request key belongs to its user: two users of a shard may use the same one. Instances of the release before, which
-- say nothing of the account, go on writing while this release is rolled out. Their rows, and those from before, have the
-- account of zeros; what an entry's account really is stands in the journal.
-- depends: 0001.journal

ALTER TABLE betting.requests ADD COLUMN account uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';

-- Appends wait while the index is built anew: about a second for a million keys of the last 31 days.
ALTER TABLE betting.requests DROP CONSTRAINT requests_pkey, ADD PRIMARY KEY (request_key, shard, account);
