"""Which shard a user is in, and which instance should own a shard. Shared by instances, healer and router."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from zlib import crc32


def shard_of(user: bytes, shard_count: int) -> int:
    """The shard of a user (16-byte id): CRC-32 (ISO 3309), like `crc32(bytea)` of Postgres, modulo the count."""
    return crc32(user) % shard_count


def place(
    shard_count: int,
    instances: Sequence[str],
    owners: Mapping[int, str],
    keep_first: Sequence[int] = (),
) -> dict[int, str]:
    """The owner every shard should have: nobody over the fair share, and as few moves as that allows.

    owners: today's owner per shard; shards of absent or unknown owners are given out. keep_first: where an owner must
    give some up, these are the last to go, the first of them last of all. Deterministic in its arguments.
    """
    names = sorted(set(instances))
    if not names:
        return {}
    wanted: dict[int, str] = {}
    load = dict.fromkeys(names, 0)
    base, extra = divmod(shard_count, len(names))
    # Who holds most today keeps the larger shares: that moves least.
    held = Counter(owners.get(shard) for shard in range(shard_count))
    by_load = sorted(names, key=lambda name: (-held[name], name))
    quota = {name: base + (1 if rank < extra else 0) for rank, name in enumerate(by_load)}
    for shard in (*keep_first, *range(shard_count)):
        owner = owners.get(shard)
        if shard not in wanted and owner in load and load[owner] < quota[owner]:
            wanted[shard] = owner
            load[owner] += 1
    for shard in range(shard_count):
        if shard not in wanted:
            owner = min(names, key=lambda name: (load[name] - quota[name], name))
            wanted[shard] = owner
            load[owner] += 1
    return wanted
