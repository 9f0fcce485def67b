"""Taking a shard: acquire it (from then on nobody else can commit), load the newest good snapshot, replay the tail."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import NamedTuple

import asyncpg

from betting.engine import snapshots
from betting.engine.apply import CannotApply, apply
from betting.engine.entries import Entry
from betting.engine.state import ShardState
from betting.journal import reader
from betting.journal import snapshots as snapshot_store
from betting.runtime import logs

_log = logs.get(__name__)

TAIL_PAGE = 5_000
# Applying this many entries takes about 4 ms; then others may run.
APPLY_SLICE = 500


class Loaded(NamedTuple):
    """A state brought up to the journal's head, and the sequence of the snapshot it started from (0: none)."""

    state: ShardState
    snapshot_at: int


async def load(connection: asyncpg.Connection, shard: int, head: int) -> Loaded:
    """The state of a shard at `head`. Raises CannotApply when the journal does not replay."""
    state, snapshot_at = await _from_snapshot(connection, shard, head)
    while state.head < head:
        page = await reader.read_entries(connection, shard, state.head, TAIL_PAGE)
        if not page:
            raise CannotApply(f"shard {shard}: the journal ends at {state.head}, its head was {head}")
        for start in range(0, len(page), APPLY_SLICE):
            _apply_all(state, page[start : start + APPLY_SLICE])
            await asyncio.sleep(0)
    return Loaded(state, snapshot_at)


def _apply_all(state: ShardState, entries: list[Entry]) -> None:
    try:
        for entry in entries:
            apply(state, entry)
    except CannotApply:
        raise
    except Exception as problem:  # an entry freezes its shard, never the process
        raise CannotApply(f"shard {state.shard}, after entry {state.head}: {type(problem).__name__}") from problem


async def _from_snapshot(connection: asyncpg.Connection, shard: int, head: int) -> tuple[ShardState, int]:
    """Newest first; one that does not load is reported and the one before is tried, then the whole journal."""
    async for stored in snapshot_store.newest_first(connection, shard):
        try:
            state = await _in_slices(snapshots.load(stored.body))
        except snapshots.BadSnapshot as problem:
            _log.error("bad snapshot", shard=shard, sequence=stored.sequence, problem=str(problem))
            continue
        if state.shard == shard and state.head == stored.sequence <= head:
            return state, stored.sequence
        _log.error("bad snapshot", shard=shard, sequence=stored.sequence, problem="it is of another shard or sequence")
    return ShardState(shard), 0


async def _in_slices(work: Generator[None, None, ShardState]) -> ShardState:
    while True:
        try:
            next(work)
        except StopIteration as done:
            state: ShardState = done.value
            return state
        await asyncio.sleep(0)
