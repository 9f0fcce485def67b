"""Keeps the newest notifications of an account. Only accounts that got one since the last sweep are looked at."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

from betting.notifications.store import Store
from betting.runtime import logs
from betting.runtime.loops import forever

KEPT_PER_ACCOUNT: Final = 1_000
SWEEP_EVERY_S: Final = 30.0
BATCH_ACCOUNTS: Final = 500
# Beyond this many, some are looked at only when they get their next one.
REMEMBERED_ACCOUNTS_MAX: Final = 1_000_000

_log = logs.get(__name__)


class Janitor:
    """`run` is a background task."""

    def __init__(self, store: Store, *, keep: int = KEPT_PER_ACCOUNT) -> None:
        self._store = store
        self._keep = keep
        self._touched: set[bytes] = set()

    def touched(self, accounts: Iterable[bytes]) -> None:
        """Records that these accounts got notifications."""
        if len(self._touched) < REMEMBERED_ACCOUNTS_MAX:
            self._touched.update(accounts)

    async def sweep(self) -> int:
        """Trims the recorded accounts, a limited number at a time; returns how many notifications were deleted.

        Raises ServiceError.
        """
        gone = 0
        while self._touched:
            batch = list(islice(self._touched, BATCH_ACCOUNTS))
            gone += await self._store.trim(batch, self._keep)
            self._touched.difference_update(batch)
        return gone

    async def run(self) -> None:
        """Sweeps for the life of the process."""
        await forever(self.sweep, every_s=SWEEP_EVERY_S, first_after_s=SWEEP_EVERY_S, log=_log, event="cleanup failed")
