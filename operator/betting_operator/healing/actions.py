"""What a healer may do. Every action is fenced: a healer that was paused may do it late, and harms nothing."""

from __future__ import annotations

from dataclasses import dataclass

from betting_operator.healing import redis_actions
from betting_operator.healing.diagnoses import Severity
from betting_operator.healing.redis_actions import Follow, Move, Promote


@dataclass(frozen=True, slots=True)
class Condemn:
    """Says of one life of a bet-service that it has ended: its shards may be stolen, and if it wakes up it stops.

    Cheap: the journal's fence makes it safe even when the owner is only frozen. Fenced by the healer's term.
    """

    owner: str  # instance name and boot id
    term: int


@dataclass(frozen=True, slots=True)
class Place:
    """Sets where shards should be. Fenced by the healer's term. wanted: (shard, instance name and boot id)."""

    wanted: tuple[tuple[int, str], ...]
    term: int


@dataclass(frozen=True, slots=True)
class Seize:
    """Takes one shard from an owner that does not hand it over, for whom it is meant for. Fenced by term and epoch.

    Cheap: the journal's fence refuses whatever the owner still appends, and it gives the shard up by that.
    """

    shard: int
    owner: str
    epoch: int
    term: int


@dataclass(frozen=True, slots=True)
class Eject:
    """Says of one life of a bet-service that it leaves: it hands its shards on, is given none. Fenced by the term."""

    owner: str
    term: int


@dataclass(frozen=True, slots=True)
class Freeze:
    """Stops a shard: nothing can be appended to it until a person thaws it. Fenced by the healer's term."""

    shard: int
    reason: str
    term: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Ends one life of a process; the platform starts the next. Fenced by the boot id."""

    service: str
    instance: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class Alert:
    """Tells a person. `about` is a diagnosis; repeated only when what it says changes."""

    about: str
    target: str
    severity: Severity
    text: str


Action = Condemn | Place | Seize | Eject | Freeze | Kill | Move | Promote | Follow | Alert


def describe(action: Action) -> str:
    """One line for a person."""
    match action:
        case Condemn(owner=owner):
            return f"condemn {owner}: others may take its shards"
        case Place(wanted=wanted):
            receivers = sorted({name for _shard, name in wanted})
            shards = " ".join(str(shard) for shard, _name in wanted)
            return f"place shards {shards} on {', '.join(receivers)}"
        case Seize(shard=shard, owner=owner, epoch=epoch):
            return f"seize shard {shard} from {owner} (epoch {epoch})"
        case Eject(owner=owner):
            return f"eject {owner}: it hands its shards on"
        case Freeze(shard=shard, reason=reason):
            return f"freeze shard {shard}: {reason}"
        case Kill(instance=instance, boot_id=boot_id):
            return f"kill {instance} (boot id {boot_id})"
        case Move() | Promote() | Follow():
            return redis_actions.describe(action)
        case Alert(severity=severity, text=text):
            return f"{severity}: {text}"
