-- What people tell the healer. It survives every restart: a pause is over when somebody ends it.
-- depends: 0002.ownership

CREATE TABLE betting.healing_switch (
    only_row   boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    paused     text        NOT NULL DEFAULT '',  -- why; empty: it is not
    dry_run    boolean     NOT NULL DEFAULT false,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

INSERT INTO betting.healing_switch DEFAULT VALUES;
