"""What a healer may do. Every action is fenced: a healer that was paused may do it late, and harms nothing."""

from __future__ import annotations

from dataclasses import dataclass

from betting.life import Life
from betting_operator.healing import redis_actions
from betting_operator.healing.diagnoses import Severity
from betting_operator.healing.redis_actions import Follow, MoveRecord, Promote


@dataclass(frozen=True, slots=True)
class MarkDead:
    """Marks one life of a bet-service dead: others may take its shards, and if it wakes up it stops.

    Not disruptive: the journal's fence makes it safe even when the owner is only stopped. Fenced by the healer's term.
    """

    owner: Life
    term: int


@dataclass(frozen=True, slots=True)
class Place:
    """Sets where shards should be. Fenced by the healer's term. wanted: (shard, its owner)."""

    wanted: tuple[tuple[int, Life], ...]
    term: int


@dataclass(frozen=True, slots=True)
class ForceRelease:
    """Releases one shard in the name of an owner that does not hand it over: its desired owner takes it.

    Fenced by term and epoch.

    Not disruptive: the journal's fence refuses whatever the owner still appends, and it gives the shard up by that.
    """

    shard: int
    owner: Life
    epoch: int
    term: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Drains one life of a bet-service: it hands its shards on and is given none. Fenced by the term."""

    owner: Life
    term: int


@dataclass(frozen=True, slots=True)
class Freeze:
    """Stops a shard: nothing can be appended to it until a person unfreezes it. Fenced by the healer's term."""

    shard: int
    reason: str
    term: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Ends one life of a process; the platform starts the next. Fenced by the boot id."""

    life: Life


@dataclass(frozen=True, slots=True)
class MoveAway:
    """Runs an instance on another node. life: its present one, or its last where none runs. Fenced by the boot id."""

    life: Life


@dataclass(frozen=True, slots=True)
class RollBack:
    """Runs the version of a workload that worked last. template: of the pods that crash, "" where none is known.

    Fenced by the platform: only where that is still the template of the workload, and no format has moved.
    """

    workload: str
    template: str = ""


@dataclass(frozen=True, slots=True)
class Scale:
    """Runs so many instances of a workload. Doing it twice changes nothing."""

    workload: str
    replicas: int


@dataclass(frozen=True, slots=True)
class Alert:
    """Alerts a person. `about` is a diagnosis; repeated only when what it says changes."""

    about: str
    target: str
    severity: Severity
    text: str


Action = (
    MarkDead
    | Place
    | ForceRelease
    | Drain
    | Freeze
    | Kill
    | MoveAway
    | RollBack
    | Scale
    | MoveRecord
    | Promote
    | Follow
    | Alert
)


def describe(action: Action) -> str:
    """One line for a person."""
    match action:
        case MarkDead(owner=owner):
            return f"mark dead {owner}: others may take its shards"
        case Place(wanted=wanted):
            receivers = sorted({str(owner) for _shard, owner in wanted})
            shards = " ".join(str(shard) for shard, _owner in wanted)
            return f"place shards {shards} on {', '.join(receivers)}"
        case ForceRelease(shard=shard, owner=owner, epoch=epoch):
            return f"force release of shard {shard} from {owner} (epoch {epoch})"
        case Drain(owner=owner):
            return f"drain {owner}: it hands its shards on"
        case Freeze(shard=shard, reason=reason):
            return f"freeze shard {shard}: {reason}"
        case Kill(life=life):
            return f"kill {life.instance} (boot id {life.boot_id})"
        case MoveAway(life=life):
            return f"move {life.instance} to another node (boot id {life.boot_id})"
        case RollBack(workload=workload):
            return f"roll {workload} back to the version that worked last"
        case Scale(workload=workload, replicas=replicas):
            return f"scale {workload} to {replicas} instances"
        case MoveRecord() | Promote() | Follow():
            return redis_actions.describe(action)
        case Alert(severity=severity, text=text):
            return f"{severity}: {text}"
