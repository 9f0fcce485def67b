-- Networks from which somebody has logged in to an account before, as a hash of both: failed logins of others do not
-- count there. Times are microseconds since 1970.
-- depends: 0020.users

CREATE TABLE users.known_networks (
    subject    bytea  PRIMARY KEY CHECK (length(subject) = 32),
    seen_at_us bigint NOT NULL
);

CREATE INDEX known_networks_by_time ON users.known_networks (seen_at_us);
