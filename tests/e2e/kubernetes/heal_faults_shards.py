"""Faults of single shards: an entry that nobody can read, books that do not balance, read models that stand still.

No program repairs money: a person is called, and does here what the runbooks say.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
from heal_actions import DISRUPTIVE, Answer, at, wait_answered
from heal_fault import Fault, Measure
from heal_targets import Injected
from platform_under_test import Installed
from scene import Scene
from tools import Failed, say

from betting.drills import poison
from betting.journal import ownership
from betting.supervision.errors import PlatformError

SHARD = 3
# Nobody has so much: every account of the shard is below zero.
MISSING_MINOR = 10**15
_CHANGE_BALANCES = """
UPDATE betting.balances SET cash_minor = cash_minor + $2
WHERE account IN (SELECT account FROM betting.accounts WHERE shard = $1)
"""
_LOCK_READ_MODELS = "SELECT FROM betting.projector WHERE shard = $1 FOR UPDATE"
STOPPED = Answer("shard-stopped", ("Alert",), over=False)
FROZEN = Answer("ledger-broken", ("Freeze", "Alert"), over=False)
STUCK = Answer("consumer-stuck", ("Alert",), over=False)
WATCHED_S = 60.0


@contextmanager
def shard_poisoned(scene: Scene) -> Iterator[Injected]:
    """An entry that no bet-service can read in the journal of one shard: it stops, a person is called; then cured."""
    platform = scene.platform
    at_s = time.monotonic()
    _with_dsn(platform, lambda dsn: poison.poison(dsn, SHARD))
    try:
        said_s = wait_answered(platform, STOPPED, at(at_s), WATCHED_S)
    finally:
        _with_dsn(platform, lambda dsn: poison.cure(dsn, SHARD))
    yield _injected(said_s)


@contextmanager
def books_broken(scene: Scene) -> Iterator[Injected]:
    """Balances of one shard changed by hand: it is frozen, a person is called; then changed back and unfrozen."""
    platform = scene.platform

    async def change(connection: asyncpg.Connection, minor: int) -> None:
        async with connection.transaction():
            await connection.execute(_LOCK_READ_MODELS, SHARD)  # nobody else changes them meanwhile
            await connection.execute(_CHANGE_BALANCES, SHARD, minor)

    async def change_back(connection: asyncpg.Connection) -> None:
        await change(connection, MISSING_MINOR)
        await ownership.unfreeze(connection, SHARD)

    at_s = time.monotonic()
    platform.ask(lambda connection: change(connection, -MISSING_MINOR))
    try:
        said_s = wait_answered(platform, FROZEN, at(at_s), WATCHED_S)
    finally:
        platform.ask(change_back)
    yield _injected(said_s)


@contextmanager
def read_models_locked(scene: Scene) -> Iterator[Injected]:
    """The read models of one shard stand still, locked by a session that somebody forgot: a person is called."""
    platform = scene.platform

    async def hold(connection: asyncpg.Connection) -> float:
        async with connection.transaction():
            await connection.execute(_LOCK_READ_MODELS, SHARD)
            return await asyncio.to_thread(wait_answered, platform, STUCK, at(time.monotonic()), WATCHED_S)

    yield _injected(platform.ask(hold))


def _injected(said_s: float) -> Injected:
    say(f"said after {said_s:.1f} s")
    return Injected(time.monotonic(), f"shard {SHARD}", said_s)


def _with_dsn(platform: Installed, work: Callable[[str], Coroutine[Any, Any, None]]) -> None:
    with platform.database() as dsn:
        try:
            asyncio.run(work(dsn))
        except PlatformError as error:
            raise Failed(str(error)) from error


FAULTS = (
    Fault("shard-poisoned", 5.0, shard_poisoned, Measure.SAID, once=True, alone=False, never=DISRUPTIVE),
    Fault("books-broken", 15.0, books_broken, Measure.SAID, once=True, alone=False, never=DISRUPTIVE - {"Freeze"}),
    Fault(
        "consumer-stuck",
        20.0,
        read_models_locked,
        Measure.SAID,
        refuses=False,
        once=True,
        alone=False,
        never=DISRUPTIVE,
    ),
)
