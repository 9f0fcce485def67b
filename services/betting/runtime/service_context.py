"""What the runtime gives to `compose`: settings, clock, log, and connections opened once, closed at exit."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, cast

import asyncpg
import prometheus_client
from structlog.typing import FilteringBoundLogger
from typing_extensions import TypeVar

from betting.life import Life
from betting.runtime import logs, metrics, postgres
from betting.runtime.client import Target, TargetStatistics
from betting.runtime.clock import US_PER_S, Clock, SystemClock
from betting.runtime.errors import ConfigurationError
from betting.runtime.outcomes import CallStatistics, PeerRecords
from betting.runtime.principal import SERVICE_TOKEN_LIFETIME_S, service_principal
from betting.runtime.settings import ServiceSettings, variable

if TYPE_CHECKING:
    import redis.asyncio

CLOSE_TIMEOUT_S = 2.0
# Of these several processes may run, of which one is active and says SERVING; only that one is called.
ELECTED_SERVICES = frozenset({"odds-service"})
# Interpreter, libraries and code, with what a busy process gathers.
PROCESS_BYTES = 160 * 1024 * 1024

S = TypeVar("S", bound=ServiceSettings, default=ServiceSettings)


class ServiceContext(Generic[S]):
    """One process's surroundings. Its `life` names it to others, as text ("bet-service-1@0f3c…") to databases."""

    def __init__(self, service: str, settings: S, *, boot_id: str, clock: Clock | None = None) -> None:
        self.settings = settings
        self.life = Life(service, settings.instance, boot_id)
        self.clock: Clock = clock or SystemClock()
        self.peer_records = PeerRecords()
        # Who keeps much in memory says how many bytes that should be.
        self.explanations: list[Callable[[], int]] = []
        self.alerts: tuple[str, ...] = ()  # what a person should know now; health-monitor shows it
        self.log: FilteringBoundLogger = logs.get(service)
        # What a signal breaks, where the setting fault_hooks allows it.
        self.fault_hooks: dict[signal.Signals, Callable[[], None]] = {}
        self._pool: asyncpg.Pool | None = None
        self._redis: redis.asyncio.Redis | None = None
        self._targets: dict[str, Target] = {}
        self._opening = asyncio.Lock()
        self._token = b""
        self._token_renewed_at_us = 0

    async def postgres(
        self,
        *,
        max_size: int = 8,
        command_timeout_s: float | None = postgres.COMMAND_TIMEOUT_S,
        init: Callable[[asyncpg.Connection], Awaitable[None]] | None = None,
    ) -> asyncpg.Pool:
        """The process's pool, opened by the first call (whose options count), closed at exit.

        Waits until Postgres is there and has the schema of this release. Raises ConfigurationError.
        """
        async with self._opening:
            if self._pool is None:
                dsn = self._required("postgres_dsn")
                pool = await postgres.open_pool(
                    dsn, str(self.life), max_size=max_size, command_timeout_s=command_timeout_s, init=init
                )
                try:
                    await postgres.until_current(pool)
                except BaseException:
                    pool.terminate()
                    raise
                self._pool = pool
        return self._pool

    async def redis(self) -> redis.asyncio.Redis:
        """The process's Redis client. It connects when first used: a service starts without Redis."""
        if self._redis is None:
            from betting.runtime import redis as redis_adapter  # a tenth of the start-up time: only for who uses it

            self._redis = redis_adapter.open_client(self._required("redis_url"), str(self.life))
        return self._redis

    def target(self, name: str, address: str, **options: Any) -> Target:
        """The peer of that name, made by the first call; options are those of `client.Target`.

        A second call with another address is a mistake: name instances, not services, where there are several. Raises
        ConfigurationError when the address is empty.
        """
        found = self._targets.get(name)
        if found is None:
            if not address:
                raise ConfigurationError(f"{variable(name.replace('-', '_'))} is not set: the address of {name}")
            options.setdefault("max_message_bytes", self.settings.max_message_bytes)
            options.setdefault("serving_only", name in ELECTED_SERVICES)
            found = self._targets[name] = Target(name, address, outcomes=self.peer_records.opened(address), **options)
            _watch(found)
        elif found.address != address:
            raise ValueError(f"target {name} is {found.address}, not {address}")
        return found

    async def forget_target(self, name: str) -> None:
        """Closes a peer that has gone for good (an instance with a new address gets a new target)."""
        found = self._targets.pop(name, None)
        if found is not None:
            _unwatch(found)
            self.peer_records.closed(found.outcomes)
            await found.close()

    def service_token(self) -> bytes:
        """This service's own principal (role SERVICE), renewed well before it expires."""
        now_us = self.clock.now_us()
        if now_us - self._token_renewed_at_us >= SERVICE_TOKEN_LIFETIME_S * US_PER_S // 2:
            self._token = service_principal(self.settings.instance, self.settings.internal_secret_bytes, now_us)
            self._token_renewed_at_us = now_us
        return self._token

    def target_statistics(self) -> list[TargetStatistics]:
        """The statistics of all peers, as of now."""
        return [target.statistics() for target in self._targets.values()]

    def call_statistics(self) -> list[CallStatistics]:
        """The statistics of all connections to other processes, as of now."""
        return self.peer_records.statistics(time.monotonic())

    def explained_bytes(self) -> int:
        """The memory that this process should need, by its own estimate, in bytes."""
        return PROCESS_BYTES + sum(explain() for explain in self.explanations)

    async def close(self) -> None:
        """Closes what was opened; each within two seconds, whatever the other side does."""
        for name in list(self._targets):
            await self.forget_target(name)
        if self._redis is not None:
            await self._closed("redis", self._redis.aclose)
            self._redis = None
        if self._pool is not None:
            if not await self._closed("postgres", self._pool.close):
                self._pool.terminate()
            self._pool = None

    async def _closed(self, what: str, close: Callable[[], Awaitable[None]]) -> bool:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await close()
        except Exception as error:  # nothing that closing meets may keep the process from ending
            self.log.warning("close failed", what=what, error=type(error).__name__)
            return False
        return True

    def _required(self, field: str) -> str:
        value = cast("str", getattr(self.settings, field))
        if not value:
            raise ConfigurationError(f"{variable(field)} is not set, and this service needs it")
        return value


_BREAKER_LABELS = ("target",)


def _open_gauge() -> prometheus_client.Gauge:
    return metrics.gauge(
        "betting_breaker_open", "Classes of a target's methods whose breaker is open or half-open", _BREAKER_LABELS
    )


def _watch(target: Target) -> None:
    _open_gauge().labels(target.name).set_function(lambda: float(target.open_breakers()))


def _unwatch(target: Target) -> None:
    _open_gauge().remove(target.name)


@asynccontextmanager
async def opened(
    service: str, settings: S, *, boot_id: str, clock: Clock | None = None
) -> AsyncIterator[ServiceContext[S]]:
    """A context for the length of a block."""
    context = ServiceContext(service, settings, boot_id=boot_id, clock=clock)
    try:
        yield context
    finally:
        await context.close()
