"""Planned moves of shards, as a `ShardRebalance` has them: which are needed, and which begin now.

What is needed follows the rule by which the healer places shards too (`betting.placement`), so that it does not move
back what a plan has moved. Each receiver takes one shard at a time: bettors of one shard wait for one hand-over, and a
plan that is stopped leaves nothing half moved. A move is only made while its shard is where the plan found it: what the
healer has placed meanwhile, because an owner died, stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from betting.life import Life
from betting.placement import Candidate, place
from betting_operator.healing.signals import Move, Rebalance, Shard


def needed(
    shard_count: int,
    candidates: Iterable[Candidate],
    owners: Mapping[int, str],
    emptied: Collection[str] = (),
    givers: Collection[str] | None = None,
) -> tuple[Move, ...]:
    """The fewest moves after which nobody has more than the fair share, and `emptied` nothing.

    candidates: who can own shards, by the name of the instance. owners: of each shard that can be moved. givers: only
    these give shards away, None: everybody. Deterministic in its arguments; none where nobody could take them.
    """
    takers = [each for each in candidates if each.name not in emptied]
    wanted = place(shard_count, takers, owners)
    return tuple(
        Move(shard, owner, wanted[shard])
        for shard, owner in sorted(owners.items())
        if wanted.get(shard, owner) != owner and (givers is None or owner in givers)
    )


def waiting(rebalance: Rebalance, shards: Iterable[Shard]) -> tuple[Move, ...]:
    """Those of its moves whose shard is still where the plan found it."""
    origins = {shard.shard: shard.owner.instance for shard in shards if shard.owner is not None}
    return tuple(move for move in rebalance.moves if origins.get(move.shard) == move.origin)


def begin(
    moves: Iterable[Move], shards: Collection[Shard], givers: Collection[Life], takers: Collection[Life]
) -> tuple[tuple[int, Life], ...]:
    """The hand-overs to begin now, at most one for each receiver, and none for one that has to take a shard already.

    moves: of `waiting`. shards: those that can be moved. givers, takers: who can hand shards over, and who can own. A
    hand-over to who is neither is none: its receiver has died since.
    """
    rows = {shard.shard: shard for shard in shards}
    lives = {life.instance: life for life in takers}
    busy = {shard.desired_owner for shard in shards if shard.desired_owner != shard.owner}
    begun = []
    for move in moves:
        row, to = rows.get(move.shard), lives.get(move.to)
        if row is None or row.owner not in givers or (row.desired_owner != row.owner and row.desired_owner in givers):
            continue
        if to is not None and to != row.owner and to not in busy:
            busy.add(to)
            begun.append((move.shard, to))
    return tuple(begun)
