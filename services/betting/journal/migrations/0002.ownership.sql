-- Who may write which shard, and who is alive.
-- depends: 0001.journal

-- Fixed when the platform is installed: the hash of a user id modulo this is the user's shard.
CREATE TABLE betting.install (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    shard_count int     NOT NULL CHECK (shard_count > 0)
);

-- Appends lock rows here FOR SHARE and an UPDATE waits for them: only acquire, release and the placement write this table.
CREATE TABLE betting.shards (
    shard_id      int    PRIMARY KEY CHECK (shard_id >= 0),
    owner         text,  -- instance name and boot id
    address       text,
    epoch         bigint NOT NULL DEFAULT 0,
    state         text   NOT NULL DEFAULT 'free' CHECK (state IN ('free', 'owned', 'frozen', 'quarantined')),
    desired_owner text,
    reason        text   NOT NULL DEFAULT '',  -- why it is frozen or quarantined, for a person
    CONSTRAINT shards_owner_reachable CHECK ((owner IS NULL) = (address IS NULL)),
    CONSTRAINT shards_owner_by_state CHECK (
        CASE state WHEN 'free' THEN owner IS NULL WHEN 'quarantined' THEN owner IS NULL ELSE owner IS NOT NULL END
    )
) WITH (fillfactor = 50);

CREATE FUNCTION betting.announce_shard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('betting_shards', NEW.shard_id::text);
    RETURN NULL;
END
$$;

CREATE TRIGGER announce AFTER UPDATE ON betting.shards FOR EACH ROW
WHEN ((OLD.owner, OLD.epoch, OLD.state, OLD.desired_owner) IS DISTINCT FROM (NEW.owner, NEW.epoch, NEW.state, NEW.desired_owner))
EXECUTE FUNCTION betting.announce_shard();

CREATE TABLE betting.instances (
    instance   text        PRIMARY KEY,  -- name and boot id
    name       text        NOT NULL,
    address    text        NOT NULL,
    formats    int[]       NOT NULL,
    beat_at    timestamptz NOT NULL,
    started_at timestamptz NOT NULL,
    draining   boolean     NOT NULL DEFAULT false,
    exited     boolean     NOT NULL DEFAULT false  -- somebody saw it end, or it started anew
) WITH (fillfactor = 50);

-- A seen exit frees shards at once: who watches the directory hears of it.
CREATE FUNCTION betting.announce_exit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('betting_shards', NEW.instance);
    RETURN NULL;
END
$$;

CREATE TRIGGER announce_exit AFTER UPDATE OF exited ON betting.instances FOR EACH ROW
WHEN (NEW.exited AND NOT OLD.exited) EXECUTE FUNCTION betting.announce_exit();

-- A healer acts under a term; placements of an older term are refused.
CREATE TABLE betting.healer_beat (
    only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    term     bigint      NOT NULL,
    beat_at  timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Who is replaying a shard, and which owners ended while they did: two, and the shard is quarantined.
CREATE TABLE betting.replays (
    shard      int    PRIMARY KEY,
    loading_by text   NOT NULL,
    epoch      bigint NOT NULL,
    deaths     text[] NOT NULL DEFAULT '{}'
);
