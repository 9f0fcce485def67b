"""Two Valkeys (or more) as a healer would see them, tick by tick."""

from __future__ import annotations

from dataclasses import replace

from healing_scenes import calm, ended, process

from betting_operator.healing.redis_signals import NOBODY, FailoverPhase, Redis, RedisNode, RedisRecord, RedisRole
from betting_operator.healing.signals import Observation, Phase

ONE, TWO, THREE = "valkey-1", "valkey-2", "valkey-3"


def replica(name: str, offset: int = 500, **more: object) -> RedisNode:
    """A replica in its life "1" that hears valkey-1."""
    told = {"follows": ONE, "heard_ms": 400, "offset": offset, **more}
    return RedisNode(name, "1", fresh=True, role=RedisRole.REPLICA, **told)  # type: ignore[arg-type]


def primary(name: str, boot_id: str = "1", offset: int = 500) -> RedisNode:
    """A primary."""
    return RedisNode(name, boot_id, fresh=True, role=RedisRole.PRIMARY, offset=offset)


def well(at_ms: int = 0, *, replicas: int = 1, min_replicas: int = 0) -> Observation:
    """valkey-1 is primary at epoch 1, the others follow; everything else is calm. min_replicas: of every node."""
    names = (ONE, TWO, THREE)[: replicas + 1]
    nodes = (primary(ONE), *(replica(name) for name in names[1:]))
    nodes = tuple(replace(each, min_replicas=min_replicas) for each in nodes)
    redis = Redis(RedisRecord(ONE, "1", 1, min_replicas=min_replicas), 60_000, nodes)
    seen = calm(at_ms)
    return replace(seen, processes=(*(seen.processes or ()), *map(process, names)), redis=redis)


def unrecorded(at_ms: int = 0) -> Observation:
    """Nobody was primary yet: valkey-1 and valkey-2 boot fenced, as replicas of nobody, and hold nothing."""
    seen = well(at_ms)
    nodes = (replica(name, offset=0, follows="", heard_ms=None) for name in (ONE, TWO))
    return replace(seen, redis=Redis(NOBODY, 0, tuple(nodes)))


def node(seen: Observation, name: str, **changes: object) -> Observation:
    """The node tells something else."""
    assert seen.redis is not None
    nodes = (replace(n, **changes) if n.name == name else n for n in seen.redis.nodes)  # type: ignore[arg-type]
    return replace(seen, redis=replace(seen.redis, nodes=tuple(nodes)))


def recorded(seen: Observation, phase: FailoverPhase, age_ms: int = 500, **changes: object) -> Observation:
    """The record says something else, for so long."""
    assert seen.redis is not None
    record = replace(seen.redis.record, phase=phase, **changes)  # type: ignore[arg-type]
    return replace(seen, redis=replace(seen.redis, record=record, phase_age_ms=age_ms))


def gone(seen: Observation, name: str = ONE) -> Observation:
    """Its exit was seen (add it to `exits`); its port refuses; who followed it lost its link."""
    seen = ended(seen, name)
    seen = node(seen, name, silent_ms=300, fresh=False)
    assert seen.redis is not None
    for other in seen.redis.nodes:
        if other.follows == name:
            seen = node(seen, other.name, heard_ms=3_000)
    return seen


def silent(seen: Observation, name: str, healer_ms: int, platform_ms: int = 0) -> Observation:
    """It has not answered the healer's ping, nor the platform's, for so long."""
    seen = node(seen, name, silent_ms=healer_ms, fresh=False)
    found = (replace(p, silent_ms=platform_ms) if p.instance == name else p for p in seen.processes or ())
    return replace(seen, processes=tuple(found))


def down(seen: Observation, name: str) -> Observation:
    """The platform has it between two lives."""
    found = (replace(p, phase=Phase.DOWN, boot_id="") if p.instance == name else p for p in seen.processes or ())
    return node(replace(seen, processes=tuple(found)), name, silent_ms=3_000, fresh=False)
