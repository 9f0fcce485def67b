"""What a healer may do to Redis, each with its fence: the record's compare-and-set, or the life of the node."""

from __future__ import annotations

from dataclasses import dataclass

from betting.life import Life
from betting_operator.healing.redis_signals import FailoverPhase, RedisRecord


@dataclass(frozen=True, slots=True)
class MoveRecord:
    """Moves the record on. Fenced by the healer's term and by what the record must say until then."""

    expected: RedisRecord
    to: RedisRecord
    term: int


@dataclass(frozen=True, slots=True)
class Promote:
    """Makes this life the primary. Fenced: its identity is read and the command sent on one connection."""

    life: Life


@dataclass(frozen=True, slots=True)
class Follow:
    """Makes this life a replica of `primary`, "" of nobody: it keeps its data and waits. Fenced as Promote is."""

    life: Life
    primary: str


RedisAction = MoveRecord | Promote | Follow


def describe(action: RedisAction) -> str:
    """One line for a person."""
    match action:
        case MoveRecord(to=to):
            return f"write down: {_described(to)}"
        case Promote(life=life):
            return f"make {life.instance} the Redis primary (boot id {life.boot_id})"
        case Follow(life=life, primary=""):
            return f"detach {life.instance} from its primary"
        case Follow(life=life, primary=primary):
            return f"make {life.instance} a replica of {primary}"


def _described(record: RedisRecord) -> str:
    match record.phase:
        case FailoverPhase.STEADY:
            return f"{record.primary} is the Redis primary at epoch {record.epoch}"
        case FailoverPhase.FENCING:
            return f"{record.primary} is to be fenced as Redis primary of epoch {record.epoch}"
        case FailoverPhase.DETACHED:
            return f"{record.primary} has lost the replicas it needs to take writes"
        case FailoverPhase.PROMOTING:
            return f"{record.candidate} is to become Redis primary after epoch {record.epoch}"
