"""Which of several processes of one kind acts: a lease in Postgres, with a term that rises with every change of hands.

- The active process beats every second. One that stands by looks at the row a few times a second and takes it when it
  has watched it unchanged for 2.5 s; time in which it could not look (its own pause, a database that is away or takes
  no writes) does not count, since then the active one could not beat either.
- A process that starts takes at once what nobody holds, what was released, and what an earlier life of the same
  instance held: whoever starts an instance again has seen its end.
- Taking raises the term. Writes name their term and lock the row FOR SHARE in the same statement, so that a process
  that was replaced, frozen or not, writes nothing; taking waits for a write under way.
- Stopping in order finishes the step under way and releases: the next one is active within a look, and does not take
  that step again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import asyncpg
from structlog.typing import FilteringBoundLogger

from betting.runtime import errors
from betting.runtime.composition import Activity
from betting.runtime.errors import ServiceError
from betting.runtime.loops import FailureLog
from betting.runtime.postgres import translated

BEAT_S = 1.0
SILENT_AFTER_S = 2.5
LOOK_EVERY_S = 0.2
# What a process has not seen itself: the database's word on how old the beat is counts, except for the last part.
WATCHED_MIN_S = 1.3
# Two looks further apart than this have not watched what was between them.
LOOK_GAP_MAX_S = 1.0
STATEMENT_TIMEOUT_S = 5.0
# How long a process that stops waits for its steps under way, so that the next one does not take them again.
RESIGN_TIMEOUT_S = 1.0

# An UPDATE that matches nothing takes no lock, but fails when the database takes no writes, as a beat would.
_LOOK = """
WITH taken AS (
    UPDATE odds.leases SET term = term + 1, process = $2, beat_at = clock_timestamp()
    WHERE name = $1 AND (
        process IN ('', $2)
        OR ($3 AND split_part(process, '@', 1) = split_part($2, '@', 1))
        OR (term = $4 AND beat_at = $5))
    RETURNING term
)
SELECT (SELECT term FROM taken) AS taken, term, process, beat_at,
    greatest(0, extract(epoch FROM clock_timestamp() - beat_at))::float8 AS age_s
FROM odds.leases WHERE name = $1"""

_CREATE = """
INSERT INTO odds.leases (name, term, process, beat_at) VALUES ($1, 0, '', clock_timestamp()) ON CONFLICT DO NOTHING"""

_BEAT = "UPDATE odds.leases SET beat_at = clock_timestamp() WHERE name = $1 AND term = $2 RETURNING term"

_RETAKE = """
UPDATE odds.leases SET term = term + 1, beat_at = clock_timestamp() WHERE name = $1 AND term = $2 RETURNING term"""

_RELEASE = "UPDATE odds.leases SET term = term + 1, process = '' WHERE name = $1 AND term = $2"


@dataclass(frozen=True, slots=True)
class Seen:
    """The lease as one look found it; `age_s` is how long ago the holder's last beat was by the database's clock."""

    term: int
    process: str
    beat_at: datetime
    age_s: float


@dataclass(slots=True)
class Silence:
    """How long a lease has been silent, as far as this process can say. Pure: the time, in seconds, is passed in."""

    silent_after_s: float
    seen: Seen | None = None
    since_s: float = 0.0
    looked_s: float = 0.0

    def saw(self, seen: Seen, now_s: float) -> None:
        """What a look has found."""
        if self.seen is None:
            self.since_s = now_s - max(0.0, min(seen.age_s, self.silent_after_s - WATCHED_MIN_S))
        elif now_s - self.looked_s > LOOK_GAP_MAX_S or (self.seen.term, self.seen.beat_at) != (seen.term, seen.beat_at):
            self.since_s = now_s
        self.seen, self.looked_s = seen, now_s

    def interrupted(self, now_s: float) -> None:
        """A look failed: nothing was watched meanwhile."""
        self.since_s = self.looked_s = now_s

    def is_silent(self, now_s: float) -> bool:
        """Whether the holder seen last may be replaced."""
        watched = now_s - self.looked_s <= LOOK_GAP_MAX_S
        return self.seen is not None and watched and now_s - self.since_s >= self.silent_after_s


class Lease:
    """One lease and this process. Every method is one statement, or two, and raises ServiceError."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        name: str,
        process: str,
        *,
        silent_after_s: float = SILENT_AFTER_S,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.silent_after_s = silent_after_s
        self._pool = pool
        self._process = process
        self._now_s = monotonic_s
        self._silence = Silence(silent_after_s)

    @property
    def holder(self) -> str:
        """Who held it when last looked at: "instance@boot id"; empty: nobody, or not known."""
        return self._silence.seen.process if self._silence.seen else ""

    async def look(self) -> int | None:
        """The new term if the lease is this process's now, else None."""
        silence = self._silence
        seen = silence.seen if silence.is_silent(self._now_s()) else None
        arguments = (self._process, silence.seen is None, seen and seen.term, seen and seen.beat_at)
        try:
            async with translated():
                row = await self._pool.fetchrow(_LOOK, self.name, *arguments, timeout=STATEMENT_TIMEOUT_S)
                if row is None:
                    await self._pool.execute(_CREATE, self.name, timeout=STATEMENT_TIMEOUT_S)
                    row = await self._pool.fetchrow(_LOOK, self.name, *arguments, timeout=STATEMENT_TIMEOUT_S)
        except ServiceError:
            silence.interrupted(self._now_s())
            raise
        assert row is not None, "a lease is never deleted"
        silence.saw(Seen(row["term"], row["process"], row["beat_at"], row["age_s"]), self._now_s())
        return None if row["taken"] is None else int(row["taken"])

    async def beat(self, term: int, timeout_s: float = BEAT_S) -> bool:
        """Says that the holder lives; False: another one holds it now."""
        async with translated():
            return await self._pool.fetchval(_BEAT, self.name, term, timeout=timeout_s) is not None

    async def retake(self, term: int) -> int | None:
        """A new term if `term` still counts, so that a write of unknown outcome is over; None: another holds it now."""
        async with translated():
            found = await self._pool.fetchval(_RETAKE, self.name, term, timeout=STATEMENT_TIMEOUT_S)
        return None if found is None else int(found)

    async def release(self, term: int) -> None:
        """Gives it up, if it still is this process's; waits for a write under way."""
        async with translated():
            await self._pool.execute(_RELEASE, self.name, term, timeout=STATEMENT_TIMEOUT_S)


class Election:
    """Runs work while this process holds the lease, for those whose effects lie outside Postgres.

    `activity` and `able` tell health. Work passes each of its steps to `act`, and asks `require` before each effect: it
    says no as soon as another process may have taken over, whether or not this one has noticed. rehearse: reads what
    the work starts from and changes nothing, or raises ServiceError; before it has succeeded once, this process takes
    no lease and is not able.
    """

    def __init__(
        self,
        lease: Lease,
        log: FilteringBoundLogger,
        monotonic_s: Callable[[], float] = time.monotonic,
        *,
        rehearse: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.activity = Activity(active=False)
        self.able = Activity(active=rehearse is None)
        self._rehearse = rehearse
        self._lease = lease
        self._log = log
        self._unseen = FailureLog(log, "active process not read")
        self._unable = FailureLog(log, "what the work starts from not read")
        self._unbeaten = FailureLog(log, "heartbeat failed")
        self._now_s = monotonic_s
        self._term: int | None = None
        self._confirmed_s = 0.0
        self._resigned = False
        self._steps: set[asyncio.Future[None]] = set()  # under way
        self._looking = asyncio.Lock()

    @property
    def is_active(self) -> bool:
        """Whether this process holds the lease and nobody else can hold it yet."""
        return self._term is not None and self._now_s() - self._confirmed_s < self._lease.silent_after_s

    def require(self) -> int:
        """The term to act at. Raises UNAVAILABLE NOT_ACTIVE unless this process may act now."""
        if self._term is None or not self.is_active:
            raise not_active(self._lease.name)
        return self._term

    async def look(self) -> None:
        """Takes the lease if it is to be had. Errors of the database are logged: the next look tries again."""
        if self._rehearse is not None and not self.able.active:
            try:
                await self._rehearse()
            except ServiceError as error:
                self._unable.failed(error, lease=self._lease.name)
                return
            self._unable.worked()
            self.able.set(True)
        async with self._looking:
            began_s = self._now_s()
            try:
                term = await self._lease.look()
                if term is not None and self._resigned:  # while it looked
                    await self._lease.release(term)
                    return
            except ServiceError as error:
                self._unseen.failed(error, lease=self._lease.name)
                return
        self._unseen.worked()
        if term is not None:
            self._term, self._confirmed_s = term, began_s
            self._log.info("active", lease=self._lease.name, term=term)
            self.activity.set(True)

    async def run_for_ever(self, work: Callable[[], Awaitable[None]]) -> None:
        """Stands by, works while active, stands by again. Raises what the work raises; the work itself never ends."""
        said = ""
        while True:
            if self._term is None and not self._resigned:
                await self.look()
            if self._term is not None:
                await self._lead(work)
                said = ""
            elif said != self._lease.holder:
                said = self._lease.holder
                self._log.info("standing by", lease=self._lease.name, active=said)
            await asyncio.sleep(LOOK_EVERY_S)

    async def act(self, step: Callable[[], Awaitable[object]]) -> None:
        """Takes one step of the work. Once the process stops none begins: this waits until the work is cancelled."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._resigned:
            await ended
        self._steps.add(ended)
        try:
            await step()
        finally:
            self._steps.remove(ended)
            ended.set_result(None)

    async def resign(self) -> None:
        """Finishes the steps under way, stops acting and gives the lease up, for good: the process stops."""
        self._resigned = True
        self.activity.set(False)
        if self._steps:
            await asyncio.wait(self._steps, timeout=RESIGN_TIMEOUT_S)
        term, self._term = self._term, None
        if term is not None:
            await self._lease.release(term)
        async with self._looking:  # a look under way may have taken it: it gives it up again
            pass

    async def _lead(self, work: Callable[[], Awaitable[None]]) -> None:
        working = asyncio.ensure_future(work())
        try:
            while self._term is not None:
                await asyncio.wait([working], timeout=BEAT_S)
                if working.done():
                    working.result()
                    raise AssertionError("the work of an active process does not end")
                await self._beat()
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def _beat(self) -> None:
        term, began_s = self._term, self._now_s()
        if term is None:
            return
        try:
            holds = await self._lease.beat(term)
        except ServiceError as error:
            self._unbeaten.failed(error, lease=self._lease.name)
            return
        self._unbeaten.worked()
        if self._term != term:
            return
        if holds:
            self._confirmed_s = began_s
        else:
            self._log.warning("another process is active now: standing by", lease=self._lease.name, term=term)
            self._term = None
            self.activity.set(False)


def not_active(name: str) -> ServiceError:
    """The answer of a process that stands by."""
    return errors.unavailable("NOT_ACTIVE", f"another {name} is active now: call again")
