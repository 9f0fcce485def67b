"""What the demo breaks. Processes are hit through the supervisor's own child handles only."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import asyncpg
import redis

from betting.drills import chaos, poison, vitals
from betting.embedded import ports_plan
from betting.embedded.platform import Platform
from betting.embedded.topology import BET_SERVICES, FEED, HEALER
from betting.journal import redis_record
from betting.runtime.redis import open_client
from betting.supervision.errors import LocalError
from betting.supervision.state import Phase

POLL_S = 0.02
OWNER_KILLED_BUDGET_S = 1.0
OWNER_FROZEN_BUDGET_S = 5.0
STATELESS_BUDGET_S = 2.0
STATELESS_FROZEN_BUDGET_S = 5.0
REDIS_KILLED_BUDGET_S = 3.0
REDIS_FROZEN_BUDGET_S = 8.0
FEED_BUDGET_S = 23.0  # silence is believed after 21 s, a snapshot reopens within 2 s
STUCK_BUDGET_S = 25.0  # standstill is believed after 10 s, and what waited is taken in
STUCK_FELT_S = 10.0
POISON_FELT_S = 5.0
CONSUMER = "notification-service"
MID_APPEND_S = 2.0
FAILOVER_BEGINS_S = 15.0
LOCK_TIMEOUT_S = 5.0
_WAITING_APPEND = """
SELECT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND application_name LIKE $1 || '@%' AND query LIKE '%betting.journal%'
)
"""

Hand = Callable[[Platform], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """Something that breaks. `inject` returns once it is broken; `repair` is what a person would do if nobody heals it.

    part: what it takes from bettors, which is to be back within budget_s; None: they should not notice. felt_within_s:
    how long it may take until that shows. by_hand: only a person may put it right, and does.
    """

    name: str
    inject: Hand
    budget_s: float | None = None
    part: str = vitals.BETS
    repair: Hand | None = None
    felt_within_s: float = 0.0
    by_hand: bool = False


def kill(process: str, budget_s: float = STATELESS_BUDGET_S, part: str = vitals.BETS) -> Fault:
    """kill -9."""

    async def inject(platform: Platform) -> None:
        platform.supervisor.signal(process, signal.SIGKILL)

    return Fault(f"{process} killed", inject, budget_s, part)


def freeze(process: str, budget_s: float = STATELESS_FROZEN_BUDGET_S, part: str = vitals.BETS) -> Fault:
    """SIGSTOP; a person would thaw it."""

    async def inject(platform: Platform) -> None:
        platform.supervisor.signal(process, signal.SIGSTOP)

    return Fault(f"{process} frozen", inject, budget_s, part, repair=_thaw(process))


def freeze_mid_append(process: str) -> Fault:
    """SIGSTOP while its append is under way: the statement is held up by a lock until its sender is frozen."""

    async def inject(platform: Platform) -> None:
        connection = await asyncpg.connect(platform.topology.postgres.dsn(), timeout=LOCK_TIMEOUT_S)
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE betting.journal IN SHARE MODE")
                watcher = await asyncpg.connect(platform.topology.postgres.dsn(), timeout=LOCK_TIMEOUT_S)
                try:
                    await _until(
                        lambda: watcher.fetchval(_WAITING_APPEND, process), MID_APPEND_S, "it appended nothing"
                    )
                finally:
                    await watcher.close()
                platform.supervisor.signal(process, signal.SIGSTOP)
        finally:
            await connection.close()

    return Fault(f"{process} frozen mid-append", inject, OWNER_FROZEN_BUDGET_S, repair=_thaw(process))


def crash_postgres() -> Fault:
    """Immediate shutdown: every connection breaks, and Postgres recovers from its log when it comes back."""

    async def inject(platform: Platform) -> None:
        platform.supervisor.signal(ports_plan.POSTGRES, signal.SIGQUIT)

    return Fault("Postgres crashed", inject)


def kill_valkey_primary() -> Fault:
    """kill -9 of whichever node is primary: with it goes all that its replica has not got."""

    async def inject(platform: Platform) -> None:
        platform.supervisor.signal(await _redis_primary(platform), signal.SIGKILL)

    return Fault("Valkey primary killed", inject, REDIS_KILLED_BUDGET_S, vitals.REDIS)


def freeze_valkey_primary() -> Fault:
    """SIGSTOP of whichever node is primary; a person would thaw it."""

    async def inject(platform: Platform) -> None:
        platform.supervisor.signal(await _redis_primary(platform), signal.SIGSTOP)

    return Fault("Valkey primary frozen", inject, REDIS_FROZEN_BUDGET_S, vitals.REDIS, _thaw_all)


def wipe_valkey_primary() -> Fault:
    """FLUSHALL: primary and replica forget everything, and go on."""

    async def inject(platform: Platform) -> None:
        client = open_client(platform.topology.redis_url(), "betting-fault")
        try:
            await client.flushall()
        except redis.RedisError as error:
            raise LocalError(f"The fault could not be injected: {error}.") from error
        finally:
            await client.aclose()

    return Fault("Valkey wiped", inject, part=vitals.REDIS)


def silence_feed() -> Fault:
    """The feed's process lives, answers, and sends nothing; a person would start it anew."""

    async def inject(platform: Platform) -> None:
        platform.supervisor.signal(FEED, signal.SIGUSR1)

    return Fault("feed silenced", inject, FEED_BUDGET_S, vitals.FEED, _restart(FEED), FEED_BUDGET_S)


def stick_consumer(process: str = CONSUMER) -> Fault:
    """Its connections to Postgres are there and bring nothing: it answers, and takes nothing in until its next life."""

    async def inject(platform: Platform) -> None:
        chaos.inject(platform.supervisor, "stick", process)

    return Fault(f"{process} stuck", inject, STUCK_BUDGET_S, vitals.CONSUMERS, _restart(process), STUCK_FELT_S)


def poison_shard(shard: int = 0) -> Fault:
    """An entry that nobody can apply, behind its owner's back: the shard freezes at its next append, no other does."""

    async def inject(platform: Platform) -> None:
        await poison.poison(platform.topology.postgres.dsn(), shard)

    async def repair(platform: Platform) -> None:
        await poison.cure(platform.topology.postgres.dsn(), shard)

    return Fault(
        f"shard {shard} poisoned", inject, part=vitals.SHARDS, repair=repair, felt_within_s=POISON_FELT_S, by_hand=True
    )


def all_faults(freezes: int = 1) -> list[Fault]:
    """What the demo does, in this order. freezes: how often an owner is frozen in the middle of an append."""
    killed = [kill(name, OWNER_KILLED_BUDGET_S) for name in BET_SERVICES]
    frozen = [freeze(name, OWNER_FROZEN_BUDGET_S) for name in BET_SERVICES]
    mid_append = [freeze_mid_append(BET_SERVICES[number % len(BET_SERVICES)]) for number in range(freezes)]
    return [
        *killed,
        *frozen,
        *mid_append,
        kill("wallet-service", part=vitals.WALLET),
        freeze("wallet-service", part=vitals.WALLET),
        kill("api-gateway"),
        freeze("api-gateway"),
        crash_postgres(),
        kill_valkey_primary(),
        freeze_valkey_primary(),
        wipe_valkey_primary(),
        silence_feed(),
        stick_consumer(),
        poison_shard(),
    ]


def healer_faults() -> list[Fault]:
    """What can only be broken where there is a healer: itself, while it fails over the Redis primary."""
    return [_in_mid_failover(signal.SIGKILL, "killed"), _in_mid_failover(signal.SIGSTOP, "frozen")]


def _in_mid_failover(number: signal.Signals, how: str) -> Fault:
    """Its successor finds in the record how far it had come."""

    async def inject(platform: Platform) -> None:
        connection = await asyncpg.connect(platform.topology.postgres.dsn(), timeout=LOCK_TIMEOUT_S)
        try:
            before = await redis_record.read(connection)
            platform.supervisor.signal(await _redis_primary(platform), signal.SIGSTOP)

            async def under_way() -> bool:
                now = await redis_record.read(connection)
                return before is not None and now is not None and now[0] != before[0]

            await _until(under_way, FAILOVER_BEGINS_S, "the failover did not begin")
            platform.supervisor.signal(HEALER, number)
        finally:
            await connection.close()

    return Fault(f"healer {how} in mid-failover", inject, part=vitals.REDIS, repair=_thaw_all)


def _restart(process: str) -> Hand:
    async def repair(platform: Platform) -> None:
        platform.supervisor.signal(process, signal.SIGKILL)

    return repair


async def _thaw_all(platform: Platform) -> None:
    for name in ports_plan.VALKEYS:
        await _thaw(name)(platform)


async def _redis_primary(platform: Platform) -> str:
    connection = await asyncpg.connect(platform.topology.postgres.dsn(), timeout=LOCK_TIMEOUT_S)
    try:
        found = await redis_record.read(connection)
    finally:
        await connection.close()
    if found is None:
        raise LocalError("The fault could not be injected: no Redis primary is recorded.")
    return found[0].primary


def _thaw(process: str) -> Hand:
    async def repair(platform: Platform) -> None:
        if any(each.name == process and each.phase is Phase.FROZEN for each in platform.supervisor.processes):
            with suppress(LocalError):
                platform.supervisor.signal(process, signal.SIGCONT)

    return repair


async def _until(holds: Callable[[], Awaitable[bool]], within_s: float, else_: str) -> None:
    deadline = time.monotonic() + within_s
    while not await holds():
        if time.monotonic() > deadline:
            raise LocalError(f"The fault could not be injected: {else_} within {within_s:g} s.")
        await asyncio.sleep(POLL_S)
