-- Several settlement-services share the work by claims; what they cannot decide waits for a person.
-- depends: 0050.settlement

ALTER TABLE settlement.settlements
    -- The process that carries it now, by name and boot id.
    ADD COLUMN claimed_by text,
    -- From when on anybody may carry it: a claim ends then, a failed try is repeated then.
    ADD COLUMN due_at timestamptz NOT NULL DEFAULT '-infinity';

-- PENDING and RUNNING.
CREATE INDEX settlements_due ON settlement.settlements (due_at) WHERE status IN (1, 2);

-- A result that came and was not taken over.
CREATE TABLE settlement.refused_results (
    market_id     bigint PRIMARY KEY CHECK (market_id > 0),
    event_id      bigint NOT NULL,
    version       int    NOT NULL CHECK (version > 0),
    -- selection id -> betting.v1.Outcome; empty where the result does not tell
    outcomes      jsonb  NOT NULL,
    problem       text   NOT NULL,
    since_us      bigint NOT NULL,
    -- When it was settled, or what is in force was confirmed; the same result does not come up again after that.
    decided_at_us bigint
);

CREATE INDEX refused_results_open ON settlement.refused_results (since_us) WHERE decided_at_us IS NULL;

CREATE VIEW settlement.waiting AS
SELECT market_id, event_id, version, outcomes, problem, since_us
FROM settlement.refused_results WHERE decided_at_us IS NULL
UNION ALL
SELECT market_id, event_id, version, outcomes, problem, requested_at_us
FROM settlement.settlements WHERE status <> 3 AND status = 4;
