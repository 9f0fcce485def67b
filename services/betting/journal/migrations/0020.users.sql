-- People, their sessions and the keys that sign their access tokens. Times are microseconds since 1970.
-- depends:

CREATE SCHEMA users;

CREATE TABLE users.users (
    user_id       uuid   PRIMARY KEY,
    -- Normalised (see betting.users.inputs): two spellings of one address are one row.
    email         text   NOT NULL UNIQUE CHECK (length(email) BETWEEN 3 AND 254),
    -- argon2id in PHC string format: the parameters travel with the hash.
    password_hash text   NOT NULL,
    display_name  text   NOT NULL CHECK (length(display_name) BETWEEN 1 AND 60),
    role          text   NOT NULL CHECK (role IN ('bettor', 'operator')),
    created_at_us bigint NOT NULL
);

-- One login, and every token pair that grew from it.
CREATE TABLE users.sessions (
    session_id    uuid   PRIMARY KEY,
    user_id       uuid   NOT NULL REFERENCES users.users,
    created_at_us bigint NOT NULL,
    expires_at_us bigint NOT NULL,
    ended_at_us   bigint,
    ended_reason  text   CHECK (ended_reason IN ('logout', 'logout-all', 'token-reused', 'password-changed')),
    CHECK ((ended_at_us IS NULL) = (ended_reason IS NULL))
);

CREATE INDEX sessions_of_user ON users.sessions (user_id) WHERE ended_at_us IS NULL;
CREATE INDEX sessions_by_end ON users.sessions (expires_at_us);

-- Only the hash of a token is kept; a used token stays until it would have expired, so that a second use is noticed.
CREATE TABLE users.refresh_tokens (
    token_sha256  bytea  PRIMARY KEY CHECK (length(token_sha256) = 32),
    session_id    uuid   NOT NULL REFERENCES users.sessions ON DELETE CASCADE,
    issued_at_us  bigint NOT NULL,
    expires_at_us bigint NOT NULL,
    used_at_us    bigint
);

CREATE INDEX refresh_tokens_of_session ON users.refresh_tokens (session_id);
CREATE INDEX refresh_tokens_by_end ON users.refresh_tokens (expires_at_us);

-- Outbox: sessions that ended while an access token of theirs may still be valid (until relevant_until_us).
CREATE TABLE users.revocations (
    session_id        uuid   PRIMARY KEY,
    relevant_until_us bigint NOT NULL,
    announced_at_us   bigint
);

CREATE INDEX revocations_to_announce ON users.revocations (session_id) WHERE announced_at_us IS NULL;
CREATE INDEX revocations_by_end ON users.revocations (relevant_until_us);

CREATE TABLE users.signing_keys (
    key_id             text   PRIMARY KEY,
    public_key         bytea  NOT NULL CHECK (length(public_key) = 32),
    -- AES-256-GCM under a key derived from the platform's internal secret.
    sealed_private_key bytea  NOT NULL,
    created_at_us      bigint NOT NULL,
    -- Published before it signs, so that whoever checks tokens has it in time.
    signs_from_us      bigint NOT NULL,
    -- No token signed with it lives longer.
    not_after_us       bigint NOT NULL CHECK (not_after_us > signs_from_us)
);

-- Failed logins per subject (a hash of an email or of a network address) in a fixed window.
CREATE TABLE users.login_failures (
    subject              bytea  PRIMARY KEY CHECK (length(subject) = 32),
    failures             int    NOT NULL CHECK (failures >= 0),
    window_started_at_us bigint NOT NULL
);

CREATE INDEX login_failures_by_window ON users.login_failures (window_started_at_us);
