"""Who owns which shard: the last known directory in memory, read again on demand, never more often than allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from betting.runtime import logs
from betting.runtime.errors import ServiceError
from betting.runtime.loops import FailureLog, woken_within

FROZEN_STATES = frozenset({"frozen", "quarantined"})

_log = logs.get(__name__)


class Route(NamedTuple):
    """A shard's row in the directory. owner: the life, as Life writes it ("bet-service-1@0f3c…")."""

    shard_id: int
    owner: str | None
    address: str | None
    epoch: int
    state: str


class RouteTable:
    """The newest row seen of each shard; pure."""

    def __init__(self) -> None:
        self._routes: dict[int, Route] = {}

    def get(self, shard_id: int) -> Route | None:
        """The shard's row, whether or not somebody owns it."""
        return self._routes.get(shard_id)

    def update(self, rows: Iterable[Route]) -> list[int]:
        """Takes rows in; returns the shards that changed. A lower epoch is an old reading and is ignored."""
        changed = []
        for row in rows:
            known = self._routes.get(row.shard_id)
            if known == row or (known is not None and row.epoch < known.epoch):
                continue
            self._routes[row.shard_id] = row
            changed.append(row.shard_id)
        return changed

    def __len__(self) -> int:
        return len(self._routes)


class Directory:
    """The directory with its reader.

    fetch: reads all rows (one query for everybody who waits); min_interval_s: pause between two readings;
    poll_interval_s: a reading happens at least this often, in case a notification was lost.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[list[Route]]],
        *,
        min_interval_s: float = 0.05,
        poll_interval_s: float = 2.0,
    ) -> None:
        self._fetch = fetch
        self._min_interval_s = min_interval_s
        self._poll_interval_s = poll_interval_s
        self._table = RouteTable()
        self._wanted = asyncio.Event()
        self._listeners: list[Callable[[list[int]], None]] = []
        self._unread = FailureLog(_log, "directory not read")
        self.readings_total = 0
        self.failures_total = 0

    @property
    def known_shards(self) -> int:
        """How many shards the directory has named so far."""
        return len(self._table)

    def route(self, shard_id: int) -> Route | None:
        """The newest row known of this shard."""
        return self._table.get(shard_id)

    def want(self) -> None:
        """Asks for a reading soon; any number of askers share one."""
        self._wanted.set()

    def on_change(self, listener: Callable[[list[int]], None]) -> None:
        """Calls the listener with the shards that changed, after each reading that changed any."""
        self._listeners.append(listener)

    async def refresh(self) -> None:
        """One reading now; a database that does not answer leaves the last known routes in place."""
        self._wanted.clear()
        try:
            rows = await self._fetch()
        except ServiceError as error:
            self.failures_total += 1
            self._unread.failed(error)
            return
        self.readings_total += 1
        self._unread.worked()
        changed = self._table.update(rows)
        if changed:
            for listener in self._listeners:
                listener(changed)

    async def run(self) -> None:
        """Reads whenever somebody wants it, and from time to time; runs for the life of the process."""
        while True:
            await self.refresh()
            await asyncio.sleep(self._min_interval_s)
            await woken_within(self._wanted, self._poll_interval_s)
