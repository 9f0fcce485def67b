"""Consumes the streams of the journal. After a crash the last half second is consumed again, which changes nothing.

Several notification-services share the shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import error as StructError

from betting.engine.entries import Entry
from betting.notifications.causes import Notice, notice_of
from betting.notifications.janitor import Janitor
from betting.notifications.store import Store
from betting.runtime import logs, metrics

_log = logs.get(__name__)


class Feed:
    """The handler of the consumer."""

    def __init__(self, store: Store, janitor: Janitor) -> None:
        self._store = store
        self._janitor = janitor
        self._added = metrics.counter("betting_notifications_total", "Notifications stored")
        self._unreadable = metrics.counter("betting_notifications_unreadable_total", "Entries that could not be read")

    async def take(self, shard: int, entries: Sequence[Entry]) -> None:
        """Stores the notifications of these entries before it returns. Raises ClaimLost: the shard is another's."""
        notices = [notice for entry in entries if (notice := self._notice(shard, entry)) is not None]
        if notices:
            self._added.inc(await self._store.add(notices, shard, entries[-1].sequence))
            self._janitor.touched(notice.account for notice in notices)

    def _notice(self, shard: int, entry: Entry) -> Notice | None:
        """The notification of an entry. An entry that cannot be read loses only its own notification, and is logged."""
        try:
            return notice_of(entry)
        except StructError as problem:
            _log.error("entry unreadable", shard=shard, sequence=entry.sequence, problem=str(problem))
            self._unreadable.inc()
            return None
