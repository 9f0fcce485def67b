-- What users are told. Derived from the journal: one row for each cause, whose place in the journal is its key.
-- depends: 0004.read_models

CREATE TABLE betting.notifications (
    account             uuid     NOT NULL,
    sequence            bigint   NOT NULL,  -- of the entry in the account's shard: all of a user's accounts are in one
    kind                smallint NOT NULL,  -- as in betting.v1.NotificationKind
    bet                 uuid,
    stake_minor         bigint   NOT NULL,
    amount_minor        bigint   NOT NULL,
    amount_before_minor bigint   NOT NULL,
    at_us               bigint   NOT NULL,
    read                boolean  NOT NULL DEFAULT false,
    PRIMARY KEY (account, sequence)
);

-- Reader: how many are unread, and which.
CREATE INDEX notifications_unread ON betting.notifications (account, sequence) WHERE NOT read;
