"""Which shard a user is in, and which instance should own a shard. Shared by instances, healer and router."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple
from zlib import crc32

# How long after the start of an instance of a newer generation the older ones are expected to be stopped. Longer than a
# deployment waits between a pod that became ready and the stop of the pod that it replaces.
ROLL_LASTS_S = 120.0


class Candidate(NamedTuple):
    """An instance that can own shards. age_s: since it started."""

    name: str
    generation: int = 0
    age_s: float = 0.0


def shard_of(user: bytes, shard_count: int) -> int:
    """The shard of a user (16-byte id): CRC-32 (ISO 3309), like `crc32(bytea)` of Postgres, modulo the count."""
    return crc32(user) % shard_count


def rolling(candidates: Collection[Candidate]) -> bool:
    """Whether a newer generation is replacing an older one: an instance of it has started a short time ago."""
    newest = max((each.generation for each in candidates), default=0)
    older = any(each.generation < newest for each in candidates)
    return older and any(each.generation == newest and each.age_s < ROLL_LASTS_S for each in candidates)


def place(
    shard_count: int,
    candidates: Collection[Candidate],
    owners: Mapping[int, str],
    keep_first: Sequence[int] = (),
) -> dict[int, str]:
    """The owner every shard should have: nobody over the fair share, and as few moves as that allows.

    owners: today's owner per shard; shards of absent or unknown owners are given out, to the newest generation first.
    While a newer generation replaces an older one (`rolling`) everybody keeps what they own: the instances that will be
    stopped are not known, and what is moved between the others would move again. keep_first: where an owner must give
    some up, these are the last to go, the first of them last of all. Deterministic in its arguments.
    """
    if not candidates:
        return {}
    newest = max(each.generation for each in candidates)
    older = {each.name: each.generation < newest for each in candidates}
    keep_all = rolling(candidates)
    wanted: dict[int, str] = {}
    load = dict.fromkeys(sorted(older), 0)
    base, extra = divmod(shard_count, len(load))
    # The newest get the larger shares, then who holds most today: that moves least.
    held = Counter(owners.get(shard) for shard in range(shard_count))
    ranked = sorted(load, key=lambda name: (older[name], -held[name], name))
    quota = {name: base + (1 if rank < extra else 0) for rank, name in enumerate(ranked)}
    for shard in (*keep_first, *range(shard_count)):
        owner = owners.get(shard)
        if shard not in wanted and owner in load and (keep_all or load[owner] < quota[owner]):
            wanted[shard] = owner
            load[owner] += 1
    room = [(load[name] >= quota[name], older[name], load[name] - quota[name], name) for name in load]
    heapq.heapify(room)
    for shard in range(shard_count):
        if shard not in wanted:
            _full, is_older, over, name = room[0]
            wanted[shard] = name
            heapq.heapreplace(room, (over + 1 >= 0, is_older, over + 1, name))
    return wanted
