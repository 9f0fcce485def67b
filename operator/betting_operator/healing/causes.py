"""What an action was about: the diagnosis that it answers, and its target. For people; nothing is decided by it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

from betting.life import Life
from betting_operator.healing.actions import (
    Action,
    Alert,
    Drain,
    ForceRelease,
    Freeze,
    Kill,
    MarkDead,
    MoveAway,
    Place,
    RollBack,
    Scale,
)
from betting_operator.healing.diagnoses import Diagnosis, Kind
from betting_operator.healing.redis_actions import Follow, MoveRecord, Promote
from betting_operator.healing.redis_signals import REDIS_WORKLOAD, FailoverPhase
from betting_operator.healing.signals import BET_SERVICE, Observation

_OF_REDIS = (Kind.REDIS_PRIMARY_GONE, Kind.REDIS_PRIMARY_HUNG, Kind.REDIS_REPLICA_AWAY, Kind.REDIS_BLOCKED)
# Nothing is done to a process for these.
_NOT_HEALED = (Kind.OVERLOADED, Kind.HOT_SHARD, Kind.HEALING_EXHAUSTED)
_NAMED_SHARDS = 8


@dataclass(frozen=True, slots=True)
class Target:
    """Whom something was done to; "" and (): not one of these. name: the same in a few words."""

    name: str
    workload: str = ""
    instance: str = ""
    boot_id: str = ""
    shards: tuple[int, ...] = ()


def target_of(action: Action) -> Target:
    """The target of an action."""
    match action:
        case MarkDead(owner=life) | Drain(owner=life) | Kill(life=life) | MoveAway(life=life):
            return of_life(life)
        case Promote(life=life) | Follow(life=life):
            return of_life(life)
        case Place(wanted=wanted):
            shards = tuple(sorted(shard for shard, _owner in wanted))
            return Target(_named(shards), BET_SERVICE, shards=shards)
        case ForceRelease(shard=shard, owner=life):
            return Target(_named((shard,)), life.workload, life.instance, life.boot_id, (shard,))
        case Freeze(shard=shard):
            return Target(_named((shard,)), shards=(shard,))
        case RollBack(workload=workload) | Scale(workload=workload):
            return Target(workload, workload)
        case MoveRecord(to=record):
            life = record.candidate_life if record.phase is FailoverPhase.PROMOTING else record.life
            return Target(life.instance or REDIS_WORKLOAD, *(life.workload, life.instance, life.boot_id))
        case Alert(target=target):
            return Target(target)
        case _:
            assert_never(action)


def of_life(life: Life) -> Target:
    """One life as a target."""
    return Target(life.instance, life.workload, life.instance, life.boot_id)


def cause_of(action: Action, diagnoses: Sequence[Diagnosis], seen: Observation) -> Diagnosis | None:
    """The confirmed diagnosis that an action answers, None where it answers none: shards that are given out first."""
    confirmed = [each for each in diagnoses if each.confirmed]
    match action:
        case Alert(about=about, target=target):
            return _first(each for each in confirmed if (each.kind, each.target) == (about, target))
        case Place(wanted=wanted):
            return _cause_of_placing({shard for shard, _owner in wanted}, confirmed, seen)
        case MoveRecord() | Promote() | Follow():
            return _first(each for kind in _OF_REDIS for each in confirmed if each.kind is kind)
        case RollBack(workload=workload) | Scale(workload=workload):
            kind = Kind.CRASH_LOOP if isinstance(action, RollBack) else Kind.MEMORY_SHORT
            return _first(e for e in confirmed if e.kind is kind and e.life is not None and e.life.workload == workload)
    whom = target_of(action)
    life = Life(whom.workload, whom.instance, whom.boot_id)
    healed = [each for each in confirmed if each.kind not in _NOT_HEALED]
    same_life = [each for each in healed if each.life == life]
    same_instance = [each for each in healed if each.life is not None and each.life.instance == life.instance]
    return _first((*same_life, *same_instance, *(each for each in healed if each.target == whom.name)))


def _cause_of_placing(shards: set[int], confirmed: Sequence[Diagnosis], seen: Observation) -> Diagnosis | None:
    """The end of who owned one of them, where there is one."""
    owners = {shard.owner for shard in seen.shards or () if shard.shard in shards}
    ended = (e for e in confirmed if e.kind in (Kind.OWNER_DIED, Kind.PROCESS_HUNG) and e.life in owners)
    stuck = (e for e in confirmed if e.kind is Kind.HANDOVER_STUCK and e.target in {f"shard {n}" for n in shards})
    return _first((*ended, *stuck, *(each for each in confirmed if each.kind is Kind.SHARDS_MISPLACED)))


def _first(found: Iterable[Diagnosis]) -> Diagnosis | None:
    return next(iter(found), None)


def _named(shards: Sequence[int]) -> str:
    word = "shard" if len(shards) == 1 else "shards"
    more = len(shards) - _NAMED_SHARDS
    return f"{word} {', '.join(map(str, shards[:_NAMED_SHARDS]))}{f' and {more} more' if more > 0 else ''}"
