-- What was offered is kept as it was offered: the season file may be another one at the next start.
-- depends: 0040.odds

ALTER TABLE odds.replay_matches
    -- betting.odds.replay.store writes and reads it; null where an earlier version offered the match.
    ADD COLUMN match     jsonb,
    -- Why a person has to look at this match; empty: nobody has to.
    ADD COLUMN attention text NOT NULL DEFAULT '';

CREATE INDEX replay_matches_for_a_person ON odds.replay_matches (event_id) WHERE attention <> '';
