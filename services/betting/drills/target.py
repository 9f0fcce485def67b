"""What a drill needs of the platform under test: one interface, implemented once for each way to run the platform.

| implementation    | runs on                                         |
| ----------------- | ----------------------------------------------- |
| `embedded_target` | this machine: processes under our own supervisor |

An implementation is right when the tests in `tests/integration/drills/test_target.py` pass with it. What only some
targets can do is a Capability: a drill that needs one which the target lacks is skipped, and its report says so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from betting.life import Life
from betting.supervision.errors import PlatformError

# Workloads have the same names on every platform.
BET_SERVICE = "bet-service"
GATEWAY = "api-gateway"
HEALER = "healer"
FEED = "season-replay"
FEEDS = (FEED, "the-odds-api")
POSTGRES = "postgres"
REDIS = "valkey"
DATABASES = (POSTGRES, REDIS)


class Capability(StrEnum):
    """What only some targets can do. The value completes "this platform cannot …"."""

    PAUSE = "pause a process from outside"
    PAUSE_DATABASE = "pause the database"
    CRASH_DATABASE = "crash the database"
    POISON = "write to the journal as a superuser"
    STICK = "make the database connections of a process hang"
    SILENCE = "silence a feed"
    STEP_CLOCKS = "step a service's clock"
    LOSE_PACKETS = "lose the healer's packets"
    SAME_MACHINE = "be starved from here: it runs on another machine"


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance that should run now.

    life: its present one, None while there is none. ready: it serves, as its platform says. paused: by a drill, and not
    continued yet.
    """

    workload: str
    name: str
    life: Life | None
    ready: bool
    paused: bool = False


class Tick(NamedTuple):
    """One tick of the healer, as far as drills ask. wall_us: microseconds since 1970.

    confirmed: (diagnosis, target) of what was confirmed, moves for balance left out: they go on long after whatever
    made them necessary. diagnoses: certainty and kind, in words. destructive: actions that harm what is well, in words.
    """

    wall_us: int
    confirmed: frozenset[tuple[str, str]]
    diagnoses: tuple[str, ...]
    destructive: tuple[str, ...]


# Every tick so far, oldest first. Given by who knows the healer: drills only break things and measure.
ReadTicks = Callable[[], Iterable[Tick]]


class Target(ABC):
    """A running platform. Instances come and go and change their names: nothing is a fixed list.

    Everything that acts raises PlatformError when it cannot be done; then nothing was done.
    """

    @property
    @abstractmethod
    def gateway_url(self) -> str:
        """Where bettors call the gateway, like "http://127.0.0.1:8080"."""

    @property
    @abstractmethod
    def postgres_dsn(self) -> str:
        """The database with directory and journal."""

    @property
    @abstractmethod
    def redis_url(self) -> str:
        """Every Redis node; which is primary stands in the database (journal.redis_record)."""

    @property
    @abstractmethod
    def shard_count(self) -> int:
        """How many shards the platform has."""

    @abstractmethod
    def address(self, workload: str) -> str:
        """host:port of the gRPC of a workload, one of its instances where there are several. Raises PlatformError."""

    @abstractmethod
    def credentials(self, caller: str) -> Sequence[tuple[str, bytes]]:
        """gRPC metadata by which a call is taken for one of the platform's own services, made anew for each call."""

    @abstractmethod
    def where_logs(self, workload: str) -> str:
        """Where a person finds the log of a workload, in words."""

    @abstractmethod
    def instances(self) -> Sequence[Instance]:
        """Everything that should run now, databases included; in an order that does not change."""

    @abstractmethod
    def ticks(self) -> Iterable[Tick]:
        """The healer's record so far, oldest first. Reads files: may take a moment."""

    @abstractmethod
    async def end(self, life: Life) -> None:
        """kill -9 of this life and no other; the platform starts the next. Raises PlatformError if it is over."""

    @abstractmethod
    async def stop(self, workloads: Collection[str]) -> None:
        """Ends all instances of these workloads in order, and runs none until `start`."""

    @abstractmethod
    async def start(self, workloads: Collection[str]) -> None:
        """Runs stopped workloads again; returns once they are ready."""

    def lacks(self, needed: Capability | None) -> str:
        """Why something that needs this cannot be done here, in words; "" if it can, or needs nothing."""
        return "" if needed is None else f"this platform cannot {needed}"

    async def pause(self, life: Life) -> None:
        """SIGSTOP of the process of this life. Raises PlatformError, also when it is over."""
        raise PlatformError(self._cannot(Capability.PAUSE))

    async def unpause(self, life: Life) -> None:
        """SIGCONT of the process of this life. Raises PlatformError, also when it is over."""
        raise PlatformError(self._cannot(Capability.PAUSE))

    async def crash_database(self) -> None:
        """Postgres ends at once, without a checkpoint, and recovers from its log at its next start."""
        raise PlatformError(self._cannot(Capability.CRASH_DATABASE))

    async def stick(self, life: Life, for_s: float) -> None:
        """The connections of this process to Postgres return nothing, until its life ends or for this time."""
        raise PlatformError(self._cannot(Capability.STICK))

    async def silence(self, life: Life) -> None:
        """A feed stays alive and sends no prices, until its life ends. Raises PlatformError for other workloads."""
        raise PlatformError(self._cannot(Capability.SILENCE))

    async def step_clock(self, life: Life) -> None:
        """A service's wall clock goes forward by 5 s, or back where it was. Raises PlatformError for a database."""
        raise PlatformError(self._cannot(Capability.STEP_CLOCKS))

    def losing_packets(self) -> AbstractAsyncContextManager[None]:
        """Three in ten packets between the healer and everybody else are lost, for the length of a block."""
        raise PlatformError(self._cannot(Capability.LOSE_PACKETS))

    def _cannot(self, needed: Capability) -> str:
        return f"{self.lacks(needed)}: nothing was done."

    def named(self, name: str) -> Instance:
        """The instance of this name. Raises PlatformError when there is none."""
        instances = self.instances()
        found = next((each for each in instances if each.name == name), None)
        if found is None:
            raise PlatformError(f"There is no process {name}: there are {', '.join(each.name for each in instances)}.")
        return found

    def life(self, name: str) -> Life:
        """The present life of the instance of this name. Raises PlatformError when there is none."""
        found = self.named(name).life
        if found is None:
            raise PlatformError(f"{name} is not running.")
        return found

    def lives_of(self, workload: str) -> list[Life]:
        """The present lives of a workload's instances."""
        return [each.life for each in self.instances() if each.workload == workload and each.life is not None]


# Runs the platform for the length of a block. Given: what a drill will need; it is prepared where that is possible.
# Raises PlatformError when the platform cannot run.
RunTarget = Callable[[Collection[Capability]], AbstractAsyncContextManager[Target]]
