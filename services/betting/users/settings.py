"""Settings of user-service."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, SecretStr, model_validator

from betting.runtime.settings import Duration, ServiceSettings, disagreement, variable
from betting.users.issuing import Lifetimes
from betting.users.passwords import HashingPolicy
from betting.users.signing import KeyPolicy
from betting.users.throttle import ThrottlePolicy

LIFETIME_MAX = timedelta(days=3_650)
# What argon2id needs for each lane (RFC 9106, 3.1).
LANE_MIN_KIB = 8
_US = timedelta(microseconds=1)


class UserSettings(ServiceSettings):
    """Lifetimes, password hashing, login limits, and the operator that the platform starts with."""

    # Lifetime of access tokens.
    access_lifetime: timedelta = Field(default=timedelta(minutes=10), gt=timedelta(0), le=LIFETIME_MAX)
    # Restarted by each refresh, up to the end of the session.
    refresh_lifetime: timedelta = Field(default=timedelta(days=30), gt=timedelta(0), le=LIFETIME_MAX)
    # Maximum lifetime of a session.
    session_lifetime: timedelta = Field(default=timedelta(days=180), gt=timedelta(0), le=LIFETIME_MAX)
    # A used refresh token gets the same successor again for this time; later it ends its session. 0: not at all.
    refresh_reuse_window: Duration = Field(default=timedelta(seconds=10), ge=timedelta(0), le=timedelta(seconds=60))

    # How often a new signing key is made.
    key_rotation: timedelta = Field(default=timedelta(days=30), gt=timedelta(0), le=LIFETIME_MAX)
    # How long a signing key is published before it is used.
    key_publish_lead: timedelta = Field(default=timedelta(minutes=5), gt=timedelta(0), le=LIFETIME_MAX)
    # Allowance for clock differences and late readers of keys.
    key_slack: timedelta = Field(default=timedelta(minutes=1), ge=timedelta(0), le=timedelta(days=1))

    # argon2id, RFC 9106 section 4, second recommended option (low memory): 3 passes, 64 MiB, 4 lanes.
    argon2_time_cost: int = Field(default=3, ge=1, le=100)
    argon2_memory_kib: int = Field(default=65_536, ge=8, le=4_194_304)
    argon2_parallelism: int = Field(default=4, ge=1, le=64)
    # Threads that hash passwords for logins; half as many, at least one, for registrations, and one for operators.
    hash_workers: int = Field(default=2, ge=1, le=64)
    # Queued hashes for each purpose; further calls are refused.
    hash_waiting_max: int = Field(default=16, ge=1, le=10_000)

    # Window in which failed logins are counted.
    login_window: timedelta = Field(default=timedelta(minutes=15), gt=timedelta(0), le=LIFETIME_MAX)
    # Failed logins in a window: of one account from one network; from a network or device that has logged in to it
    # before; of one account, and from one network, in all from new places. Login and OperatorLogin count separately.
    login_failures_per_place: int = Field(default=10, ge=1, le=1_000_000)
    login_failures_per_known_place: int = Field(default=30, ge=1, le=1_000_000)
    login_failures_per_account: int = Field(default=50, ge=1, le=1_000_000)
    login_failures_per_source: int = Field(default=300, ge=1, le=1_000_000)

    # Email of the operator that is created at the start; unset: none.
    operator_email: str = ""
    # Password of that operator.
    operator_password: SecretStr = SecretStr("")

    @model_validator(mode="after")
    def _times_go_together(self) -> UserSettings:
        for shorter, longer in (
            ("access_lifetime", "refresh_lifetime"),
            ("refresh_lifetime", "session_lifetime"),
        ):
            self._require(getattr(self, shorter) <= getattr(self, longer), shorter, "at most", longer)
        for shorter in ("key_publish_lead", "access_lifetime"):
            self._require(getattr(self, shorter) < self.key_rotation, shorter, "less than", "key_rotation")
        return self

    @model_validator(mode="after")
    def _every_lane_has_memory(self) -> UserSettings:
        least_kib = LANE_MIN_KIB * self.argon2_parallelism
        if self.argon2_memory_kib < least_kib:
            raise disagreement(self, "argon2_memory_kib", f"BETTING_ARGON2_PARALLELISM needs at least {least_kib} KiB")
        return self

    def _require(self, holds: bool, field: str, how: str, other: str) -> None:
        if not holds:
            limit_s = getattr(self, other).total_seconds()
            raise disagreement(self, field, f"give {how} {variable(other)} ({limit_s:.15g} s)")

    def lifetimes(self) -> Lifetimes:
        """The lifetimes of sessions and tokens."""
        return Lifetimes(
            access_us=self.access_lifetime // _US,
            refresh_us=self.refresh_lifetime // _US,
            session_us=self.session_lifetime // _US,
        )

    def hashing(self) -> HashingPolicy:
        """argon2id's parameters, and how many hashes run and wait at once."""
        return HashingPolicy(
            time_cost=self.argon2_time_cost,
            memory_kib=self.argon2_memory_kib,
            parallelism=self.argon2_parallelism,
            workers=self.hash_workers,
            waiting_max=self.hash_waiting_max,
        )

    def keys(self) -> KeyPolicy:
        """Rotation and publication times of signing keys, in microseconds."""
        return KeyPolicy(
            rotation_us=self.key_rotation // _US,
            publish_lead_us=self.key_publish_lead // _US,
            token_lifetime_us=self.access_lifetime // _US,
            slack_us=self.key_slack // _US,
        )

    def throttle(self) -> ThrottlePolicy:
        """How many failed logins are let through per window, in which they count."""
        return ThrottlePolicy(
            window_us=self.login_window // _US,
            per_place=self.login_failures_per_place,
            per_known_place=self.login_failures_per_known_place,
            per_account=self.login_failures_per_account,
            per_source=self.login_failures_per_source,
        )
