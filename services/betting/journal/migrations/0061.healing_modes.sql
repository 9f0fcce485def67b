-- Since when healing is paused, or a dry run: whoever finds it so wants to know.
-- depends: 0060.healing

ALTER TABLE betting.healing_switch
    ADD COLUMN paused_at  timestamptz,
    ADD COLUMN dry_run_at timestamptz;

UPDATE betting.healing_switch
SET paused_at = CASE WHEN paused <> '' THEN changed_at END, dry_run_at = CASE WHEN dry_run THEN changed_at END;
