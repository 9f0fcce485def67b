"""Loops that run for the life of a process and survive failures of their work."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from structlog.typing import FilteringBoundLogger

from betting.runtime import backoff
from betting.runtime.errors import ServiceError

# How often a failure that goes on is logged again, with how many times it happened.
REPEAT_EVERY_S = 60.0
# By how much a pause after failures grows where no maximum is given.
RETRY_GROWTH_MAX = 8


class FailureLog:
    """Logs a failure once, again every minute while it goes on, and once more when it is over.

    event: the log event, a short phrase for what did not work ("directory not read"); the end of the failure is logged
    as this phrase and ": over". A failure of another kind is logged at once.
    """

    def __init__(self, log: FilteringBoundLogger, event: str, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._event = event
        self._now_s = now_s
        self._failures = 0
        self._logged_at_s: dict[str, float] = {}

    def failed(self, error: Exception, **facts: Any) -> None:
        """The work failed; `facts` are further fields of the line."""
        self._failures += 1
        kind = error.reason if isinstance(error, ServiceError) else type(error).__name__
        now_s = self._now_s()
        if now_s - self._logged_at_s.get(kind, float("-inf")) < REPEAT_EVERY_S:
            return
        self._logged_at_s[kind] = now_s
        problem = error.message if isinstance(error, ServiceError) else str(error)
        line = {"reason": kind, "problem": problem, "failures": self._failures, **facts}
        self._log.warning(self._event, **line)

    def worked(self) -> None:
        """The work succeeded: the next failure is logged as a new one."""
        if self._failures:
            self._log.info(self._event + ": over", failures=self._failures)
        self._failures = 0
        self._logged_at_s.clear()


async def woken_within(event: asyncio.Event, timeout_s: float | None) -> bool:
    """Waits until the event is set, at most so many seconds (None: however long). False: it was not."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def forever(
    work: Callable[[], Awaitable[object]],
    *,
    every_s: float,
    log: FilteringBoundLogger,
    event: str,
    retry_s: float | None = None,
    retry_max_s: float | None = None,
    failures: tuple[type[Exception], ...] = (ServiceError,),
    first_after_s: float = 0.0,
) -> None:
    """Repeats the work until cancelled, with a pause between. Exceptions other than `failures` are raised.

    every_s: from the end of the work to its next start. retry_s: the pause after a first failure, doubled with each
    further one up to `retry_max_s` (None: eight times itself), less up to half at random; None: `every_s` then too.
    event: the log event of a failure, see FailureLog. first_after_s: the pause before the first time.
    """
    failure_log = FailureLog(log, event)
    pauses_s = None
    await asyncio.sleep(first_after_s)
    while True:
        try:
            await work()
        except failures as error:
            failure_log.failed(error)
            if retry_s is None:
                pause_s = every_s
            else:
                pauses_s = pauses_s or backoff.pauses_s(retry_s, retry_max_s or RETRY_GROWTH_MAX * retry_s)
                pause_s = backoff.jittered(next(pauses_s), random.random())
        else:
            failure_log.worked()
            pauses_s, pause_s = None, every_s
        await asyncio.sleep(pause_s)
