"""The audit itself: one snapshot, shards in batches, every check over every batch, then what concerns all shards.

What clients were told is read before the snapshot is taken: all of it was durable by then, so all of it must be found.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from pathlib import Path
from time import monotonic

import psycopg

from betting.audit.acknowledgements import AcknowledgementFile
from betting.audit.catalogue import ANSWER_TABLE, TABLES, Check, Scope, checks
from betting.audit.findings import Findings
from betting.audit.overview import Overview, read_overview
from betting.audit.report import AcknowledgementsRead, CannotAudit, OnProgress, Progress, Report
from betting.audit.session import Batch, Session, one_line, open_session

WORKERS = 2  # connections that work at once
BATCH_ENTRIES = 250_000  # about what one batch holds in temporary tables, unless one shard has more
LINES_PER_STEP = 10_000


async def audit(
    dsn: str,
    acks: Path | None = None,
    on_progress: OnProgress | None = None,
    *,
    workers: int = WORKERS,
    batch_entries: int = BATCH_ENTRIES,
) -> Report:
    """Checks everything the platform promises about money, in one snapshot of a live database.

    acks: a file of what clients were told (see `acknowledgements`); it is checked too.
    Raises CannotAudit when there is nothing to check or it cannot be read.
    """
    try:
        return await _audit(dsn, acks, on_progress or _ignore, workers, batch_entries)
    except psycopg.Error as error:
        raise CannotAudit(f"the database stopped the audit: {one_line(error)}") from error


async def _audit(dsn: str, acks: Path | None, on_progress: OnProgress, workers: int, batch_entries: int) -> Report:
    began = monotonic()
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(open_session(dsn)) for _ in range(max(1, workers))]
        read = await _load(sessions[0], acks, on_progress)
        for session in sessions:
            await session.prepare()
        snapshot, overview = await stack.enter_async_context(_snapshot(dsn))
        run = _Run(snapshot, overview, overview.batches(batch_entries), on_progress, with_answers=acks is not None)
        await run.all(sessions)
        return Report(run.findings.results(run.asked), overview.entries, overview.lags, read, monotonic() - began)


def _ignore(_progress: Progress) -> None:
    """The default for `progress`: does nothing."""


@asynccontextmanager
async def _snapshot(dsn: str) -> AsyncIterator[tuple[str, Overview]]:
    """Holds the snapshot that everything is read in, for as long as it is needed."""
    async with open_session(dsn) as holder, holder.connection.transaction():
        ((snapshot,),) = await holder.rows("SELECT pg_export_snapshot()")
        yield snapshot, await read_overview(holder)


async def _load(session: Session, acks: Path | None, on_progress: OnProgress) -> AcknowledgementsRead | None:
    """Copies the file into a temporary table of this session."""
    if acks is None:
        return None
    file = AcknowledgementFile(acks)
    await session.prepare_acknowledgements()
    lines = iter(file)
    async with session.connection.cursor() as cursor, cursor.copy("COPY acknowledged FROM STDIN") as copy:
        while block := "".join(line.copy_line() for line in islice(lines, LINES_PER_STEP)):
            on_progress(Progress(file.offset, max(1, file.size), f"reading {acks.name}"))
            await copy.write(block)
    await session.execute("ANALYZE acknowledged")
    return file.read


class _Run:
    """One audit in progress: the remaining steps and the findings."""

    def __init__(
        self, snapshot: str, overview: Overview, batches: list[Batch], on_progress: OnProgress, *, with_answers: bool
    ) -> None:
        self.findings = Findings()
        scopes = set(Scope) if with_answers else set(Scope) - {Scope.ACKNOWLEDGEMENTS}
        self.asked = tuple(check for check in checks() if check.scope in scopes)
        self._snapshot = snapshot
        self._whole = overview.whole()
        self._batches = deque(batches)
        self._on_progress = on_progress
        self._done = 0
        per_batch = len(TABLES) + len(self._of(Scope.SHARDS))
        self._total = len(batches) * per_batch + len(self._of(Scope.PLATFORM)) + len(self._of(Scope.ACKNOWLEDGEMENTS))

    async def all(self, sessions: list[Session]) -> None:
        """Runs everything over these sessions in parallel; the first one holds the acknowledgements."""
        tasks = [asyncio.create_task(self._work(session, index)) for index, session in enumerate(sessions)]
        try:
            await asyncio.gather(*tasks)
        finally:  # one failed: the others must not go on, and must be over before their connections close
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, session: Session, index: int) -> None:
        if index == 0:
            await self._platform(session)
        while self._batches:
            await self._batch(session, self._batches.popleft())

    async def _platform(self, session: Session) -> None:
        """Runs the checks that are about all shards, and those about acknowledgements."""
        answers = self._of(Scope.ACKNOWLEDGEMENTS)
        async with session.inside(self._snapshot):
            if answers:
                await session.fill(ANSWER_TABLE, self._whole)
            await self._check(session, (*self._of(Scope.PLATFORM), *answers), self._whole)

    async def _batch(self, session: Session, batch: Batch) -> None:
        await session.empty()
        async with session.inside(self._snapshot):
            for table in TABLES:
                self._step(f"deriving {table} of {_named(batch)}")
                await session.fill(table, batch)
            await self._check(session, self._of(Scope.SHARDS), batch)

    async def _check(self, session: Session, questions: Iterable[Check], batch: Batch) -> None:
        for check in questions:
            self._step(f"{check.name} in {_named(batch)}")
            problems, examples = await session.problems(check, batch)
            self.findings.add(check, await session.examined(batch.fill(check.examines)), problems, examples)

    def _of(self, scope: Scope) -> tuple[Check, ...]:
        return tuple(check for check in self.asked if check.scope is scope)

    def _step(self, doing: str) -> None:
        self._on_progress(Progress(self._done, self._total, doing))
        self._done += 1


def _named(batch: Batch) -> str:
    first, last = min(batch.shards, default=0), max(batch.shards, default=0)
    return f"shard {first}" if first == last else f"shards {first} to {last}"
