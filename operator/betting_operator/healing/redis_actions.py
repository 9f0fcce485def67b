"""What a healer may do to Redis, each with its fence: the record's compare-and-set, or the life of the node."""

from __future__ import annotations

from dataclasses import dataclass

from betting_operator.healing.redis_signals import RedisPhase, RedisRecord


@dataclass(frozen=True, slots=True)
class Move:
    """Moves the record on. Fenced by the healer's term and by what the record must say until then."""

    expected: RedisRecord
    to: RedisRecord
    term: int


@dataclass(frozen=True, slots=True)
class Promote:
    """Makes this life the primary. Fenced: asked who it is and told on one connection, which ends with that life."""

    node: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class Follow:
    """Makes this life a replica of `primary`, "" of nobody: it keeps its data and waits. Fenced as Promote is."""

    node: str
    boot_id: str
    primary: str


RedisAction = Move | Promote | Follow


def describe(action: RedisAction) -> str:
    """One line for a person."""
    match action:
        case Move(to=to):
            return f"write down: {_said(to)}"
        case Promote(node=node, boot_id=boot_id):
            return f"make {node} the Redis primary (boot id {boot_id})"
        case Follow(node=node, primary=""):
            return f"detach {node} from its primary"
        case Follow(node=node, primary=primary):
            return f"make {node} a replica of {primary}"


def _said(record: RedisRecord) -> str:
    match record.phase:
        case RedisPhase.STEADY:
            return f"{record.primary} is the Redis primary at epoch {record.epoch}"
        case RedisPhase.FENCING:
            return f"{record.primary} is to be fenced as Redis primary of epoch {record.epoch}"
        case RedisPhase.DETACHED:
            return f"{record.primary} has lost the replicas it needs to take writes"
        case RedisPhase.PROMOTING:
            return f"{record.candidate} is to become Redis primary after epoch {record.epoch}"
