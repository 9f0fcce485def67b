"""What there is to audit: the shards, how long their journals are, how far their read models are; cut into batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from betting.audit.catalogue import derived
from betting.audit.report import CannotAudit, ShardLag
from betting.audit.session import Batch, Session


@dataclass(frozen=True)
class Overview:
    """Every shard with entries or read models, and how many shards the platform has."""

    lags: tuple[ShardLag, ...]
    shard_count: int

    @property
    def entries(self) -> int:
        """Entries in all shards, by their heads."""
        return sum(lag.head for lag in self.lags)

    def batches(self, entries: int) -> list[Batch]:
        """The shards in groups of about so many entries; a longer shard is a group of its own."""
        return [Batch(group, self.shard_count) for group in _grouped(self.lags, entries)]

    def whole(self) -> Batch:
        """All shards at once, for what is not looked at shard by shard."""
        return Batch(tuple(lag.shard for lag in self.lags), self.shard_count)


def _grouped(lags: tuple[ShardLag, ...], entries: int) -> Iterator[tuple[int, ...]]:
    group: list[int] = []
    size = 0
    for lag in lags:
        if group and size + lag.head > entries:
            yield tuple(group)
            group, size = [], 0
        group.append(lag.shard)
        size += lag.head
    if group:
        yield tuple(group)


async def read_overview(session: Session) -> Overview:
    """Looks at the journal, the shards and the projector. Raises CannotAudit when the platform has no shards yet."""
    rows = await session.rows(derived("shards"))
    lags = tuple(ShardLag(shard, head, watermark) for shard, head, watermark, _count in rows)
    shard_count = rows[0][3] if rows else 0
    if not shard_count:
        raise CannotAudit("the table betting.install is empty: the platform has not been started on this database yet")
    return Overview(lags, shard_count)
