"""Bulkhead: limits the calls in flight and the calls waiting, so that one slow dependency cannot use up everything.

The queue is first in, first out; a waiter whose deadline passes leaves it. Not thread-safe: for one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from betting.runtime import errors

IN_FLIGHT_MAX = 10
QUEUED_MAX = 100


@dataclass(frozen=True, slots=True)
class BulkheadStatistics:
    """A bulkhead at one moment; totals count since the start of the process."""

    in_flight: int
    queued: int
    in_flight_max: int
    queued_max: int
    admitted_total: int
    rejected_total: int
    expired_total: int


class Bulkhead:
    """Places for `in_flight_max` calls and a queue of `queued_max`.

    wait_max_s: the longest anybody waits in the queue, in seconds; whoever would wait longer is refused. None: until
    the caller's own time is over.
    """

    __slots__ = (
        "_admitted_total",
        "_expired_total",
        "_in_flight",
        "_name",
        "_rejected_total",
        "_waiters",
        "in_flight_max",
        "queued_max",
        "wait_max_s",
    )

    def __init__(
        self,
        name: str,
        *,
        in_flight_max: int = IN_FLIGHT_MAX,
        queued_max: int = QUEUED_MAX,
        wait_max_s: float | None = None,
    ) -> None:
        assert in_flight_max > 0
        assert queued_max >= 0
        self.wait_max_s = wait_max_s
        self._name = name
        self.in_flight_max = in_flight_max
        self.queued_max = queued_max
        self._in_flight = 0
        # Futures of those who wait; done ones (cancelled, timed out) take themselves out.
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._admitted_total = 0
        self._rejected_total = 0
        self._expired_total = 0

    def try_enter(self) -> bool:
        """Takes a place if one is free; while anybody waits, none is. Whoever got one calls `leave`."""
        if self._in_flight >= self.in_flight_max:
            return False
        self._in_flight += 1
        self._admitted_total += 1
        return True

    async def enter(self, timeout_s: float | None) -> None:
        """Takes a place, waiting for at most `timeout_s` seconds. Whoever got one calls `leave`.

        Raises RESOURCE_EXHAUSTED OVERLOADED when the queue is full or `wait_max_s` has passed in it, DEADLINE_EXCEEDED
        DEADLINE_IN_QUEUE when `timeout_s` has.
        """
        if self.try_enter():
            return
        if len(self._waiters) >= self.queued_max:
            self._rejected_total += 1
            raise self._overloaded()
        if self.wait_max_s is not None and (timeout_s is None or timeout_s > self.wait_max_s):
            await self._wait(self.wait_max_s, self._overloaded)
        else:
            await self._wait(timeout_s, self._too_late)

    def leave(self) -> None:
        """Gives a place back: to the first who waits, if any (the place then stays taken)."""
        assert self._in_flight > 0, "a place was given back twice"
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._admitted_total += 1
                waiter.set_result(None)
                return
        self._in_flight -= 1

    @asynccontextmanager
    async def place(self, timeout_s: float | None = None) -> AsyncIterator[None]:
        """`enter` and `leave` around a block."""
        await self.enter(timeout_s)
        try:
            yield
        finally:
            self.leave()

    def statistics(self) -> BulkheadStatistics:
        """The counts, frozen."""
        return BulkheadStatistics(
            in_flight=self._in_flight,
            queued=len(self._waiters),
            in_flight_max=self.in_flight_max,
            queued_max=self.queued_max,
            admitted_total=self._admitted_total,
            rejected_total=self._rejected_total,
            expired_total=self._expired_total,
        )

    async def _wait(self, timeout_s: float | None, expired: Callable[[], errors.ServiceError]) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except BaseException as error:
            self._withdraw(waiter)
            if isinstance(error, TimeoutError):
                self._expired_total += 1
                raise expired() from None
            raise

    def _withdraw(self, waiter: asyncio.Future[None]) -> None:
        """Leaves the queue, or hands on the place that came in the same instant as the cancellation."""
        if waiter.done() and not waiter.cancelled():
            self.leave()
        elif waiter in self._waiters:
            self._waiters.remove(waiter)

    def _too_late(self) -> errors.ServiceError:
        return errors.deadline_exceeded(
            "DEADLINE_IN_QUEUE", f"the deadline passed while waiting for {self._name}: try again"
        )

    def _overloaded(self) -> errors.ServiceError:
        return errors.resource_exhausted(
            "OVERLOADED",
            f"{self._name} has {self.in_flight_max} calls in flight and {self.queued_max} waiting: try again later",
        )
