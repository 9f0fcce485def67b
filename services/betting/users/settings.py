"""What user-service can be told beyond what every service is told."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, SecretStr

from betting.runtime.settings import Duration, ServiceSettings
from betting.users.issuing import Lifetimes
from betting.users.passwords import HashingPolicy
from betting.users.signing import KeyPolicy
from betting.users.throttle import ThrottlePolicy

_US = timedelta(microseconds=1)


class UserSettings(ServiceSettings):
    """Lifetimes, password hashing, login limits, and the operator that the platform starts with."""

    access_lifetime: timedelta = timedelta(minutes=10)
    # Each refresh starts it anew, up to the session's own end.
    refresh_lifetime: timedelta = timedelta(days=30)
    session_lifetime: timedelta = timedelta(days=180)
    # A used refresh token gets its successor again for so long; after that it ends its session. 0: never again.
    refresh_reuse_window: Duration = Field(default=timedelta(seconds=10), ge=timedelta(0), le=timedelta(seconds=60))

    key_rotation: timedelta = timedelta(days=30)
    key_publish_lead: timedelta = timedelta(minutes=5)
    key_slack: timedelta = timedelta(minutes=1)

    # argon2id, RFC 9106 section 4, second recommended option (low memory): 3 passes, 64 MiB, 4 lanes.
    argon2_time_cost: int = Field(default=3, ge=1, le=100)
    argon2_memory_kib: int = Field(default=65_536, ge=8, le=4_194_304)
    argon2_parallelism: int = Field(default=4, ge=1, le=64)
    # Threads for logging in; half as many, at least one, for registering, and one for operators.
    hash_workers: int = Field(default=2, ge=1, le=64)
    hash_waiting_max: int = Field(default=16, ge=1, le=10_000)

    login_window: timedelta = timedelta(minutes=15)
    # Of one account from one network; the same where it was logged in to before, network or device; and of one
    # account, and from one network, in all, from places not seen before. Each door (Login, OperatorLogin) counts alone.
    login_failures_per_place: int = Field(default=10, ge=1)
    login_failures_per_known_place: int = Field(default=30, ge=1)
    login_failures_per_account: int = Field(default=50, ge=1)
    login_failures_per_source: int = Field(default=300, ge=1)

    operator_email: str = ""
    operator_password: SecretStr = SecretStr("")

    def lifetimes(self) -> Lifetimes:
        """How long what a login gives is good for."""
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
