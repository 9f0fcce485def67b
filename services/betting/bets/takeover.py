"""Taking a shard: acquire it (from then on nobody else can commit), load the newest good snapshot, replay the tail."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from typing import NamedTuple

import asyncpg

from betting.engine import snapshots
from betting.engine.apply import CannotApply, apply
from betting.engine.entries import Entry
from betting.engine.state import ShardState
from betting.journal import reader
from betting.journal import snapshots as snapshot_store
from betting.journal.connection import DRIVER_ERRORS
from betting.runtime import logs

_log = logs.get(__name__)

TAIL_PAGE = 5_000
# Of several shards that are taken together, tails this short are read together.
READ_AHEAD_TAIL_MAX = 2_500
READ_AHEAD_ENTRIES_MAX = 25_000
# Nobody is named as loading these shards yet: what takes longer is read shard by shard, by whoever is named then.
READ_AHEAD_TIMEOUT_S = 2.0
# Applying this many entries takes about 4 ms; then others may run.
APPLY_SLICE = 500


class Loaded(NamedTuple):
    """A state brought up to the journal's head, and the sequence of the snapshot it started from (0: none)."""

    state: ShardState
    snapshot_at: int


class ReadAhead(NamedTuple):
    """Of shards that are taken together: which have snapshots, and the short tails behind these, in two statements.

    It only saves statements: a shard of which it holds nothing is read by `load` itself.
    """

    snapshots: Mapping[int, int]
    tails: Mapping[int, list[Entry]]


async def read_ahead(connection: asyncpg.Connection, heads: Mapping[int, int]) -> ReadAhead | None:
    """heads: shard to the last sequence of its journal.

    None where Postgres cannot read one of them, or not in time: then `load` reads each by itself. Raises DRIVER_ERRORS
    when the connection broke.
    """
    try:
        async with asyncio.timeout(READ_AHEAD_TIMEOUT_S):
            newest = await snapshot_store.newest_sequences(connection, heads)
            parts, total = [], 0
            for shard, head in heads.items():
                entries = max(0, head - newest.get(shard, 0))
                if entries <= min(READ_AHEAD_TAIL_MAX, READ_AHEAD_ENTRIES_MAX - total):
                    parts.append((shard, newest.get(shard, 0), head))
                    total += entries
            return ReadAhead(newest, await reader.read_tails(connection, parts))
    except DRIVER_ERRORS as problem:
        if connection.is_closed():
            raise
        _log.warning("shards not read together", shards=list(heads), problem=str(problem))
        return None


async def load(connection: asyncpg.Connection, shard: int, head: int, ahead: ReadAhead | None = None) -> Loaded:
    """The state of a shard at `head`. Raises CannotApply when the journal does not replay."""
    if ahead is not None and shard not in ahead.snapshots:
        state, snapshot_at = ShardState(shard), 0
    else:
        state, snapshot_at = await _from_snapshot(connection, shard, head)
    tail = ahead.tails.get(shard, []) if ahead is not None else []
    while state.head < head:
        page = tail if tail and tail[0].sequence == state.head + 1 else []
        page = page or await reader.read_entries(connection, shard, state.head, TAIL_PAGE)
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
