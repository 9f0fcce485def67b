-- The directory names lives by their parts: a workload has instances, an instance has one life after the other.
-- depends: 0002.ownership

DROP TRIGGER announce_exit ON betting.instances;

ALTER TABLE betting.instances RENAME COLUMN instance TO life;  -- instance@boot_id, as in shards.owner
ALTER TABLE betting.instances RENAME COLUMN name TO instance;
ALTER TABLE betting.instances ADD COLUMN workload text NOT NULL DEFAULT 'bet-service';
ALTER TABLE betting.instances ALTER COLUMN workload DROP DEFAULT;
ALTER TABLE betting.instances ADD COLUMN boot_id text NOT NULL DEFAULT '';
UPDATE betting.instances SET boot_id = split_part(life, '@', 2);
ALTER TABLE betting.instances ALTER COLUMN boot_id DROP DEFAULT;

CREATE OR REPLACE FUNCTION betting.announce_exit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('betting_shards', NEW.life);
    RETURN NULL;
END
$$;

CREATE TRIGGER announce_exit AFTER UPDATE OF exited ON betting.instances FOR EACH ROW
WHEN (NEW.exited AND NOT OLD.exited) EXECUTE FUNCTION betting.announce_exit();
