-- Every installation has an id: the operator on Kubernetes tells the platform's database from another one by it.
-- depends: 0131.compatible_migrations

-- Made with the row. It is data: a backup that is restored, and a replica, have the same.
ALTER TABLE betting.install ADD COLUMN installation uuid NOT NULL DEFAULT gen_random_uuid();

INSERT INTO betting.compatible_migrations (migration_id, oldest) VALUES ('0132.installation', '0001.journal');
