"""What a healer sees in one tick: values, with nothing concluded yet.

A part that could not be looked at is None: that is "cannot tell", never "all is well". Times are milliseconds of the
healer's own monotonic clock unless a name says otherwise; ages are as the source reported them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from betting.life import Life
from betting_operator.healing.redis_signals import Redis

BET_SERVICE = "bet-service"


class Capability(StrEnum):
    """What only some platforms can do, beyond killing one life. A plan asks for it before it relies on it."""

    MOVE_AWAY = "move-away"  # run an instance on another node
    SCALE = "scale"  # run more or fewer instances of a workload
    ROLL_BACK = "roll-back"  # run the version that worked last


class Phase(StrEnum):
    """Where a process is in its life, as the platform underneath it knows."""

    STARTING = "starting"
    RUNNING = "running"
    DOWN = "down"  # exited; the platform starts it again after a pause
    STOPPING = "stopping"  # on purpose


class Answer(StrEnum):
    """How the healer's own probe of an instance ended."""

    SERVING = "serving"
    NOT_SERVING = "not-serving"
    SILENT = "silent"  # no answer in time
    REFUSED = "refused"  # no listener, another life listens, or the connection broke


class Database(StrEnum):
    """How Postgres answered the healer."""

    OK = "ok"
    AWAY = "away"  # no connection, or no answer in time
    RECOVERING = "recovering"  # starting up, shutting down
    READ_ONLY = "read-only"  # it can be read; what is written is refused
    FULL = "out-of-connections"


@dataclass(frozen=True, slots=True)
class Process:
    """One process, as the platform underneath sees it (vantage point: platform).

    boot_id: of its present life, "" while there is none. silent_ms: how long the platform's own probe has had no answer
    that reports progress; 0 when the last one did. node: the machine it runs on, "" where there is only one.
    """

    workload: str
    instance: str
    boot_id: str
    phase: Phase
    restarts: int
    silent_ms: int = 0
    node: str = ""

    @property
    def life(self) -> Life | None:
        """Its present life, None while there is none."""
        return Life(self.workload, self.instance, self.boot_id) if self.boot_id else None


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of one life, seen by who waits for it. ordered: the platform was told to end it (a roll-out, a drain)."""

    life: Life
    at_ms: int
    how: str
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """The healer's own questions to one life of an instance (vantage point: healer).

    The health port answers independently of the main loop, and reports whether that makes progress. silent_ms: since
    the last known progress, while later probes are open or failed, or the loop stands; 0: it makes progress. lag_ms:
    how late its loop was, by its last answer. busy: its loop stands and uses processor time.
    """

    life: Life
    answer: Answer
    silent_ms: int
    lag_ms: int = 0
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """The statistics of one process about the calls to one life of an instance (vantage point: its callers).

    unanswered: calls asked since the last answer; silent_ms: since the first of these was asked. answered_ms_ago: since
    the last answer, None: never. calls, failures, p90_us: of the last ten seconds.
    """

    caller: str
    life: Life
    unanswered: int
    silent_ms: int
    answered_ms_ago: int | None
    calls: int = 0
    failures: int = 0
    p90_us: int = 0


@dataclass(frozen=True, slots=True)
class Size:
    """How large one life is. explained_bytes: what its work explains, by its own count of open bets and accounts."""

    life: Life
    resident_bytes: int
    explained_bytes: int


@dataclass(frozen=True, slots=True)
class Owner:
    """One life of a bet-service in the directory. Its heartbeat, a vantage point, comes from its commit loop.

    generation: of its deployment, increasing; age_ms: since it registered.
    """

    life: Life
    beat_age_ms: int
    draining: bool
    exited: bool
    generation: int = 0
    age_ms: int = 0


@dataclass(frozen=True, slots=True)
class Shard:
    """A row of the directory. owner and desired_owner: lives of a bet-service."""

    shard: int
    owner: Life | None
    epoch: int
    state: str  # free, owned, frozen, quarantined
    desired_owner: Life | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Audit:
    """A shard that is served and whose books did not balance when they were looked at last. failures: in a row."""

    shard: int
    failures: int
    problem: str


@dataclass(frozen=True, slots=True)
class Feed:
    """A producer of prices. alive_us: its last sign of life, by odds-service's clock: only that it changes counts.

    instance: the process that is this producer, "" where it is not one of ours. suspended: its markets take no bets.
    """

    producer: str
    instance: str
    alive_us: int
    suspended: bool


@dataclass(frozen=True, slots=True)
class Consumer:
    """Something that follows the journal of a shard. It is stuck if it stands still while there is more to take in.

    holder: the life that consumes it, None: not known.
    """

    name: str
    shard: int
    position: int
    head: int
    holder: Life | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """A shard that should be handed over. origin, to: instances of bet-service, by name, whatever their boot id."""

    shard: int
    origin: str
    to: str


@dataclass(frozen=True, slots=True)
class Rebalance:
    """Which planned moves are under way, by what people asked for or approved: `ShardRebalance` on Kubernetes.

    name: of the plan that is carried out, "" for none. moves: all of it, also what is done already. emptied: instances
    of bet-service that are given no shards, because somebody wanted them empty.
    """

    name: str = ""
    moves: tuple[Move, ...] = ()
    emptied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Host:
    """The machine the healer runs on. clock_offset_ms: its wall clock against the database's, None: not known."""

    disk_free_bytes: int
    clock_offset_ms: int | None


@dataclass(frozen=True)  # no slots: what is looked up by life is worked out once, when it is first asked for
class Observation:
    """Everything of one tick. late_ms: by how much the tick itself was late. term: under which the healer acts.

    capabilities: of the platform. database: whether it can be read and written; while it cannot be written, what was
    read is there all the same.
    rebalance: what people asked for; None: not known now.
    record_problem: why the healer's own record cannot be written, "" while it can.
    """

    at_ms: int
    late_ms: int = 0
    term: int = 0
    capabilities: tuple[Capability, ...] = ()
    processes: tuple[Process, ...] | None = None
    exits: tuple[Exit, ...] = ()
    probes: tuple[Probe, ...] = ()
    reports: tuple[Report, ...] = ()
    sizes: tuple[Size, ...] = ()
    database: Database = Database.AWAY
    owners: tuple[Owner, ...] | None = None
    shards: tuple[Shard, ...] | None = None
    audits: tuple[Audit, ...] = ()
    feeds: tuple[Feed, ...] | None = None
    consumers: tuple[Consumer, ...] | None = None
    redis: Redis | None = None
    host: Host | None = None
    rebalance: Rebalance | None = Rebalance()
    record_problem: str = ""

    @cached_property
    def probe_of(self) -> Mapping[Life, Probe]:
        """The healer's own word on each life that it asks."""
        return {each.life: each for each in reversed(self.probes)}

    @cached_property
    def reports_on(self) -> Mapping[Life, tuple[Report, ...]]:
        """What callers say of each life, in the order of `reports`."""
        found: dict[Life, list[Report]] = {}
        for each in self.reports:
            found.setdefault(each.life, []).append(each)
        return {life: tuple(reports) for life, reports in found.items()}

    @cached_property
    def owner_of(self) -> Mapping[Life, Owner]:
        """The row of each life of a bet-service in the directory."""
        return {each.life: each for each in reversed(self.owners or ())}
