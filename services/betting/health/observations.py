"""The results of probes and reads, as values. Times are microseconds since 1970."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from betting.internal.v1 import owner_pb2
from betting.journal import redis_record
from betting.journal.healing_switch import Mode
from betting.life import Life
from betting.v1 import health_pb2, odds_pb2

BET_SERVICE = "bet-service"


@dataclass(frozen=True, slots=True)
class MonitoredInstance:
    """An instance to probe. life: the expected life; None: any life that answers at the address."""

    workload: str
    address: str
    life: Life | None = None


class ProbeResult(enum.Enum):
    """How a probe ended."""

    SERVING = "serving"
    NOT_SERVING = "not-serving"
    SILENT = "silent"  # connected or not: no answer in time
    REFUSED = "refused"  # nobody listens, or the connection broke


@dataclass(frozen=True, slots=True)
class Probe:
    """The result of one probe. Parts that the instance did not report are None."""

    result: ProbeResult
    diagnostics: health_pb2.InstanceStatus | None = None
    owner_status: owner_pb2.GetOwnerStatusResponse | None = None
    alerts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InstanceHealth:
    """The state of an instance after all probes so far."""

    watched: MonitoredInstance
    state: health_pb2.ServiceState
    silences: int = 0
    # Newest answers; of an unreachable instance they only tell who it was.
    diagnostics: health_pb2.InstanceStatus | None = None
    owner_status: owner_pb2.GetOwnerStatusResponse | None = None
    alerts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shard:
    """A row of the directory. reason: why it is frozen or quarantined."""

    shard_id: int
    owner: str
    epoch: int
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WaitingSettlement:
    """A market whose settlement waits for a person, and why."""

    market_id: int
    event_id: int
    version: int
    problem: str
    since_us: int


@dataclass(frozen=True, slots=True)
class PlatformSnapshot:
    """All results at one moment. `unknown` names the parts that are out of date or were never read."""

    at_us: int
    instance_healths: tuple[InstanceHealth, ...]
    shards: tuple[Shard, ...]
    producers: tuple[odds_pb2.Producer, ...]
    bets_accepted_total: int
    unknown: tuple[str, ...]
    redis: redis_record.Row | None = None
    settlements_waiting: tuple[WaitingSettlement, ...] = ()
    healing: tuple[Mode, ...] = ()
    attention: tuple[str, ...] = ()
