"""From observations to the platform's status. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from betting.health.observations import (
    BET_SERVICE,
    InstanceHealth,
    MonitoredInstance,
    PlatformSnapshot,
    Probe,
    ProbeResult,
    Shard,
    WaitingSettlement,
)
from betting.internal.v1 import owner_pb2
from betting.journal.directory import Observed
from betting.journal.healing_switch import Mode, Switch
from betting.journal.redis_record import HEALER_GONE_AFTER_S, Row
from betting.life import Life
from betting.v1 import health_pb2, odds_pb2, settlement_pb2

# One late answer on a busy machine is no news; a refused connection is.
SILENCES_UNTIL_UNREACHABLE: Final = 2
# An instance that neither beats nor owns anything has left, and nobody saw it go.
GONE_AFTER_S: Final = 60.0

PRODUCERS: Final = "producers"
ABSENT: Final = "absent"

_SERVING = health_pb2.SERVICE_STATE_SERVING
_NOT_SERVING = health_pb2.SERVICE_STATE_NOT_SERVING
_UNREACHABLE = health_pb2.SERVICE_STATE_UNREACHABLE


def owners(directory: Observed) -> list[MonitoredInstance]:
    """The bet-service instances to ask: those that are alive or still own a shard."""
    owning = {shard.owner for shard in directory.shards}
    return [
        MonitoredInstance(BET_SERVICE, row.address, Life.parse(BET_SERVICE, row.life))
        for row in directory.instances
        if row.life in owning or (not row.exited and row.beat_age_s <= GONE_AFTER_S)
    ]


def shards_of(directory: Observed) -> tuple[Shard, ...]:
    """The directory as the status shows it."""
    return tuple(Shard(row.shard, row.owner or "", row.epoch, row.state, row.reason) for row in directory.shards)


def initial_health(watched: MonitoredInstance) -> InstanceHealth:
    """The state before the first probe."""
    return InstanceHealth(watched, health_pb2.SERVICE_STATE_UNSPECIFIED)


def after(before: InstanceHealth, probe: Probe) -> InstanceHealth:
    """The state after one more probe."""
    match probe.result:
        case ProbeResult.SILENT if before.silences + 1 < SILENCES_UNTIL_UNREACHABLE:
            return replace(before, silences=before.silences + 1)
        case ProbeResult.SILENT | ProbeResult.REFUSED:
            return replace(before, state=_UNREACHABLE, silences=before.silences + 1)
    if _is_somebody_else(before.watched, probe):
        return InstanceHealth(before.watched, _UNREACHABLE)
    return InstanceHealth(
        watched=before.watched,
        state=_SERVING if probe.result is ProbeResult.SERVING else _NOT_SERVING,
        diagnostics=probe.diagnostics if probe.diagnostics is not None else before.diagnostics,
        owner_status=probe.owner_status,
        alerts=probe.alerts if probe.diagnostics is not None else before.alerts,
    )


def status_of(snapshot: PlatformSnapshot) -> health_pb2.GetPlatformStatusResponse:
    """The answer to GetPlatformStatus."""
    return health_pb2.GetPlatformStatusResponse(
        at_us=snapshot.at_us,
        instances=[instance_status(instance_health) for instance_health in each_once(snapshot.instance_healths)],
        shards=shard_statuses(snapshot.shards, snapshot.instance_healths),
        producers=producer_statuses(snapshot.producers, known=PRODUCERS not in snapshot.unknown),
        bets_accepted_total=snapshot.bets_accepted_total,
        unknown=snapshot.unknown,
        redis=None if snapshot.redis is None else redis_status(snapshot.redis),
        attention=snapshot.attention,
        settlements_waiting=[waiting_market(each) for each in snapshot.settlements_waiting],
        healing_modes=[
            health_pb2.HealingMode(mode=m.name, reason=m.reason, since_us=m.since_us) for m in snapshot.healing
        ],
    )


def alerts(instance_healths: Iterable[InstanceHealth]) -> tuple[str, ...]:
    """What the instances report for a person, each once; nothing of one that cannot be reached."""
    reached = (each for each in instance_healths if each.state != _UNREACHABLE)
    return tuple(dict.fromkeys(alert for each in reached for alert in each.alerts))


def waiting_market(waiting: WaitingSettlement) -> settlement_pb2.WaitingMarket:
    """A market that a person has to decide."""
    return settlement_pb2.WaitingMarket(
        market_id=waiting.market_id,
        event_id=waiting.event_id,
        version=waiting.version,
        problem=waiting.problem,
        since_us=waiting.since_us,
    )


def healing_modes(switch: Switch, healer_beat_age_s: float | None, now_us: int) -> tuple[Mode, ...]:
    """The modes of the healer other than normal operation. In a dry run the healer sends no heartbeat."""
    if healer_beat_age_s is None:
        return (*switch.modes, Mode(ABSENT, "no healer has ever beaten", 0))
    if switch.dry_run or healer_beat_age_s <= HEALER_GONE_AFTER_S:
        return switch.modes
    return (*switch.modes, Mode(ABSENT, "no healer is alive", now_us - int(healer_beat_age_s * 1_000_000)))


def redis_status(row: Row) -> health_pb2.RedisStatus:
    """The Redis primary, and the phase of a failover."""
    return health_pb2.RedisStatus(primary=row.primary, epoch=row.epoch, phase=row.phase, candidate=row.candidate)


def each_once(instance_healths: Iterable[InstanceHealth]) -> list[InstanceHealth]:
    """By life: one that is reached at several addresses, or has moved, is shown once, where it answers."""
    instance_healths = list(instance_healths)
    best: dict[tuple[str, str, str], InstanceHealth] = {}
    for instance_health in instance_healths:
        life = _life(instance_health)
        if life is not None and (life not in best or best[life].state == _UNREACHABLE != instance_health.state):
            best[life] = instance_health
    return [each for each in instance_healths if (life := _life(each)) is None or best[life] is each]


def _life(instance_health: InstanceHealth) -> tuple[str, str, str] | None:
    """The life of an instance: from its own answer or, if it does not answer, from the directory."""
    reported, meant = instance_health.diagnostics, instance_health.watched.life
    if reported is not None and reported.boot_id:
        return reported.workload, reported.instance, reported.boot_id
    return None if meant is None else (meant.workload, meant.instance, meant.boot_id)


def instance_status(instance_health: InstanceHealth) -> health_pb2.InstanceStatus:
    """The status of an instance. If it cannot be reached: only its identity, and since when."""
    watched, reported = instance_health.watched, instance_health.diagnostics
    status = health_pb2.InstanceStatus(workload=watched.workload, address=watched.address, state=instance_health.state)
    if watched.life is not None:
        status.instance, status.boot_id = watched.life.instance, watched.life.boot_id
    if reported is None:
        return status
    status.instance, status.boot_id, status.started_at_us = reported.instance, reported.boot_id, reported.started_at_us
    if instance_health.state in {_SERVING, _NOT_SERVING}:
        status.resident_bytes = reported.resident_bytes
        status.breakers.extend(reported.breakers)
    return status


def shard_statuses(shards: Iterable[Shard], instance_healths: Iterable[InstanceHealth]) -> list[health_pb2.ShardStatus]:
    """The directory with the figures of those owners that answer, for the shards they own at the directory's epoch."""
    reported = _figures(instance_healths)
    return [_shard_status(shard, reported.get((shard.owner, shard.shard_id, shard.epoch))) for shard in shards]


def producer_statuses(producers: Iterable[odds_pb2.Producer], *, known: bool) -> list[odds_pb2.Producer]:
    """The producers. UNSPECIFIED while odds-service does not report them."""
    shown = []
    for producer in producers:
        copy = odds_pb2.Producer()
        copy.CopyFrom(producer)
        if not known:
            copy.status = odds_pb2.PRODUCER_STATUS_UNSPECIFIED
        shown.append(copy)
    return shown


def _is_somebody_else(watched: MonitoredInstance, probe: Probe) -> bool:
    """Whether another life of the instance, or another instance, has taken over the address."""
    reported = probe.diagnostics
    return watched.life is not None and reported is not None and reported.boot_id != watched.life.boot_id


def _figures(instance_healths: Iterable[InstanceHealth]) -> Mapping[tuple[str, int, int], owner_pb2.OwnedShard]:
    reports = [
        instance_health.owner_status for instance_health in instance_healths if instance_health.state != _UNREACHABLE
    ]
    return {
        (report.instance, owned.shard_id, owned.epoch): owned
        for report in reports
        if report is not None
        for owned in report.shards
    }


def _shard_status(shard: Shard, reported: owner_pb2.OwnedShard | None) -> health_pb2.ShardStatus:
    status = health_pb2.ShardStatus(
        shard_id=shard.shard_id, owner=shard.owner, epoch=shard.epoch, state=shard.state, reason=shard.reason
    )
    if reported is not None:
        status.reported = True
        for figure in ("head_sequence", "open_bets", "accounts", "projector_lag", "outbox_lag"):
            setattr(status, figure, getattr(reported, figure))
    return status
