"""The plan of a ShardRebalance, purely: the fewest moves to what it asks for, and what they cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from betting.placement import Candidate, rolling
from betting_operator.healing import rebalancing
from betting_operator.healing.signals import Move
from betting_operator.kubernetes.crd_shard_rebalances import MOVES_MAX
from betting_operator.kubernetes.manifests import digest

# Estimates of one hand-over: bets wait while the owner writes its snapshot and the receiver loads it. See
# docs/architecture/performance.md.
PAUSE_MS = 100
PAUSE_MS_PER_MIB = 20
# The healer begins the next hand-over of a receiver at its next tick.
TICK_MS = 500
NAMED_MAX = 5


@dataclass(frozen=True)
class Plan:
    """moves: in the order of their shards. size_bytes, pause_ms, duration_s: what they cost, as estimated."""

    moves: tuple[Move, ...]
    size_bytes: int = 0
    pause_ms: int = 0
    duration_s: int = 0

    @property
    def hash(self) -> str:
        """Of the moves alone: what they cost changes with every bet."""
        return digest([[move.shard, move.origin, move.to] for move in self.moves])


@dataclass(frozen=True)
class Place:
    """Where a shard is. owner, to: instances. owner: None where nobody who lives has it; to: who is to take it, None
    where that is nobody else."""

    owner: str | None
    to: str | None
    state: str


@dataclass(frozen=True)
class Directory:
    """Who owns shards, as the database says.

    able: who can take shards now. present: who is expected to be able again, if it is not now. sizes: of the newest
    snapshots, in bytes.
    """

    able: tuple[Candidate, ...]
    present: frozenset[str]
    shards: Mapping[int, Place]
    sizes: Mapping[int, int] = field(default_factory=dict)


def plan(directory: Directory, drain: Collection[str] = (), emptied: Collection[str] = ()) -> Plan:
    """The fewest moves to what is asked for: balance, or nothing on the pods of `drain`, which others may already keep
    `emptied`. At most MOVES_MAX of them: the rest is another plan."""
    owners = {shard: place.owner for shard, place in directory.shards.items() if place.owner is not None}
    count = len(directory.shards)
    all_moves = rebalancing.needed(count, directory.able, owners, {*drain, *emptied}, drain or None)
    moves = tuple(move for move in all_moves if directory.shards[move.shard].state == "owned")[:MOVES_MAX]
    sizes = [directory.sizes.get(move.shard, 0) for move in moves]
    pauses = {move.shard: _pause_ms(directory.sizes.get(move.shard, 0)) for move in moves}
    of_receiver: Counter[str] = Counter()
    for move in moves:
        of_receiver[move.to] += TICK_MS + pauses[move.shard]
    duration_s = math.ceil(max(of_receiver.values(), default=0) / 1_000)
    return Plan(moves, sum(sizes), max(pauses.values(), default=0), duration_s)


def unsettled(directory: Directory) -> str:
    """Why no plan can be made from this now: what is on its way anyhow would be in it; "" when one can."""
    if not directory.shards:
        return "the database has no shards yet"
    if rolling(directory.able):
        return "a new version is being rolled out, which moves shards by itself"
    able = {each.name for each in directory.able}
    unready = [
        shard
        for shard, place in directory.shards.items()
        if place.state == "free" or (place.state == "owned" and (place.owner not in able or place.to is not None))
    ]
    return f"{named(unready)} without a live owner, or being handed over" if unready else ""


def named(shards: Collection[int]) -> str:
    """As "3 shards (1, 5, 9)"."""
    shown = ", ".join(map(str, sorted(shards)[:NAMED_MAX])) + (" …" if len(shards) > NAMED_MAX else "")
    return f"{len(shards)} shard{'s' if len(shards) > 1 else ''} ({shown})"


def _pause_ms(size_bytes: int) -> int:
    return PAUSE_MS + math.ceil(PAUSE_MS_PER_MIB * size_bytes / (1 << 20))
