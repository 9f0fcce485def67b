"""The faults of the demo."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import asyncpg
import redis

from betting.drills import availability, poison
from betting.drills.target import BET_SERVICE, FEED, GATEWAY, HEALER, REDIS, Capability, Target
from betting.journal import fault_injection, redis_record
from betting.life import Life
from betting.runtime.redis import open_client
from betting.supervision.errors import PlatformError

POLL_S = 0.02
OWNER_KILLED_BUDGET_S = 1.0
OWNER_PAUSED_BUDGET_S = 5.0
STATELESS_BUDGET_S = 2.0
STATELESS_PAUSED_BUDGET_S = 5.0
REDIS_KILLED_BUDGET_S = 3.0
REDIS_PAUSED_BUDGET_S = 8.0
FEED_BUDGET_S = 23.0  # silence is believed after 21 s, a snapshot reopens within 2 s
STUCK_BUDGET_S = 25.0  # standstill is believed after 10 s, and what waited is taken in
STUCK_FELT_S = 10.0
STUCK_FOR_S = 3_600.0  # for good: a demo is shorter
POISON_FELT_S = 5.0
CONSUMER = "notification-service"
MID_APPEND_S = 2.0
FAILOVER_BEGINS_S = 15.0
LOCK_TIMEOUT_S = 5.0

Hand = Callable[[Target], Awaitable[None]]
Strike = Callable[[Target, Life], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """Something that breaks. `inject` returns once it is broken; `repair` is what a person would do if nobody heals it.

    part: what it takes from bettors, which is to be back within budget_s; None: they should not notice. felt_within_s:
    how long it may take until that shows. by_hand: only a person may put it right, and does. needs: without what it
    cannot be injected.
    """

    name: str
    inject: Hand
    budget_s: float | None = None
    part: str = availability.BETS
    repair: Hand | None = None
    felt_within_s: float = 0.0
    by_hand: bool = False
    needs: Capability | None = None


@dataclass(frozen=True)
class Victim:
    """One instance of a workload, whatever its name is. number: 1, 2 …; 0: the only instance."""

    workload: str
    number: int = 0

    def __str__(self) -> str:
        return f"{self.workload}-{self.number}" if self.number else self.workload

    def life(self, target: Target) -> Life:
        """Its current life. Raises PlatformError while it is not running."""
        lives = [each.life for each in target.instances() if each.workload == self.workload]
        place = max(1, self.number) - 1
        life = lives[place] if place < len(lives) else None
        if life is None:
            raise PlatformError(f"The fault could not be injected: {self} is not running.")
        return life


OWNERS = (Victim(BET_SERVICE, 1), Victim(BET_SERVICE, 2))


def kill(victim: Victim, budget_s: float = STATELESS_BUDGET_S, part: str = availability.BETS) -> Fault:
    """kill -9."""

    async def inject(target: Target) -> None:
        await target.end(victim.life(target))

    return Fault(f"{victim} killed", inject, budget_s, part)


def pause(victim: Victim, budget_s: float = STATELESS_PAUSED_BUDGET_S, part: str = availability.BETS) -> Fault:
    """SIGSTOP; a person would continue it."""

    async def inject(target: Target) -> None:
        await target.pause(victim.life(target))

    return Fault(f"{victim} paused", inject, budget_s, part, _continue(victim.workload), needs=Capability.PAUSE)


def pause_mid_append(victim: Victim) -> Fault:
    """SIGSTOP while its append is under way: the statement is held up by a lock until its sender is paused."""

    async def inject(target: Target) -> None:
        life = victim.life(target)
        async with _database(target) as connection, _database(target) as watcher, connection.transaction():
            await fault_injection.hold_up_appends(connection)
            waiting = lambda: fault_injection.append_waits(watcher, str(life))  # noqa: E731
            await _until(waiting, MID_APPEND_S, "it appended nothing")
            await target.pause(life)

    repair = _continue(victim.workload)
    return Fault(f"{victim} paused mid-append", inject, OWNER_PAUSED_BUDGET_S, repair=repair, needs=Capability.PAUSE)


def crash_postgres() -> Fault:
    """Immediate shutdown: every connection breaks, and Postgres recovers from its log when it comes back."""

    async def inject(target: Target) -> None:
        await target.crash_database()

    return Fault("Postgres crashed", inject, needs=Capability.CRASH_DATABASE)


def kill_valkey_primary() -> Fault:
    """kill -9 of the current primary: data that its replica does not have is lost."""

    async def inject(target: Target) -> None:
        await target.end(await _redis_primary(target))

    return Fault("Valkey primary killed", inject, REDIS_KILLED_BUDGET_S, availability.REDIS)


def pause_valkey_primary() -> Fault:
    """SIGSTOP of the current primary; an operator would continue it."""

    async def inject(target: Target) -> None:
        await target.pause(await _redis_primary(target))

    repair = _continue(REDIS)
    return Fault(
        "Valkey primary paused", inject, REDIS_PAUSED_BUDGET_S, availability.REDIS, repair, needs=Capability.PAUSE
    )


def wipe_valkey_primary() -> Fault:
    """FLUSHALL: primary and replica forget everything, and go on."""

    async def inject(target: Target) -> None:
        client = open_client(target.redis_url, "betting-fault")
        try:
            await client.flushall()
        except redis.RedisError as error:
            raise PlatformError(f"The fault could not be injected: {error}.") from error
        finally:
            await client.aclose()

    return Fault("Valkey wiped", inject, part=availability.REDIS)


def silence_feed() -> Fault:
    """The feed's process lives, answers, and sends nothing; a person would start it anew."""
    feed = Victim(FEED)

    async def inject(target: Target) -> None:
        await target.silence(feed.life(target))

    needs = Capability.SILENCE
    return Fault("feed silenced", inject, FEED_BUDGET_S, availability.FEED, _restart(feed), FEED_BUDGET_S, needs=needs)


def stick_consumer(victim: Victim = Victim(CONSUMER)) -> Fault:
    """Its connections to Postgres stay open but return nothing: it answers probes, and consumes nothing until a
    restart.
    """

    async def inject(target: Target) -> None:
        await target.stick(victim.life(target), STUCK_FOR_S)

    return Fault(
        f"{victim} stuck",
        inject,
        STUCK_BUDGET_S,
        availability.CONSUMERS,
        _restart(victim),
        STUCK_FELT_S,
        needs=Capability.STICK,
    )


def poison_shard(shard: int = 0) -> Fault:
    """Adds an entry that this release cannot apply, without the owner: the shard freezes at its next append."""

    async def inject(target: Target) -> None:
        await poison.poison(target.postgres_dsn, shard)

    async def repair(target: Target) -> None:
        await poison.cure(target.postgres_dsn, shard)

    return Fault(
        f"shard {shard} poisoned",
        inject,
        part=availability.SHARDS,
        repair=repair,
        felt_within_s=POISON_FELT_S,
        by_hand=True,
        needs=Capability.POISON,
    )


def all_faults(pauses: int = 1) -> list[Fault]:
    """What the demo does, in this order. pauses: how often an owner is paused in the middle of an append."""
    return [
        *(kill(each, OWNER_KILLED_BUDGET_S) for each in OWNERS),
        *(pause(each, OWNER_PAUSED_BUDGET_S) for each in OWNERS),
        *(pause_mid_append(OWNERS[number % len(OWNERS)]) for number in range(pauses)),
        kill(Victim("wallet-service"), part=availability.WALLET),
        pause(Victim("wallet-service"), part=availability.WALLET),
        kill(Victim(GATEWAY)),
        pause(Victim(GATEWAY)),
        crash_postgres(),
        kill_valkey_primary(),
        pause_valkey_primary(),
        wipe_valkey_primary(),
        silence_feed(),
        stick_consumer(),
        poison_shard(),
    ]


def healer_faults() -> list[Fault]:
    """What can only be broken where there is a healer: itself, while it fails over the Redis primary."""
    return [
        _in_mid_failover(lambda target, life: target.end(life), "killed"),
        _in_mid_failover(lambda target, life: target.pause(life), "paused"),
    ]


def _in_mid_failover(strike: Strike, how: str) -> Fault:
    """Kills the healer during a failover; its successor reads from the record how far it came."""

    async def inject(target: Target) -> None:
        async with _database(target) as connection:
            before = await redis_record.read(connection)
            await target.pause(await _redis_primary(target))

            async def under_way() -> bool:
                now = await redis_record.read(connection)
                return before is not None and now is not None and now[0] != before[0]

            await _until(under_way, FAILOVER_BEGINS_S, "the failover did not begin")
            await strike(target, Victim(HEALER).life(target))

    repair = _continue(REDIS)
    return Fault(
        f"healer {how} in mid-failover", inject, part=availability.REDIS, repair=repair, needs=Capability.PAUSE
    )


def _restart(victim: Victim) -> Hand:
    async def repair(target: Target) -> None:
        await target.end(victim.life(target))

    return repair


def _continue(workload: str) -> Hand:
    """Continues what is still paused."""

    async def repair(target: Target) -> None:
        for each in target.instances():
            if each.workload == workload and each.paused and each.life is not None:
                with suppress(PlatformError):
                    await target.unpause(each.life)

    return repair


async def _redis_primary(target: Target) -> Life:
    async with _database(target) as connection:
        found = await redis_record.read(connection)
    if found is None:
        raise PlatformError("The fault could not be injected: no Redis primary is recorded.")
    return target.life(found[0].primary)


@asynccontextmanager
async def _database(target: Target) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(target.postgres_dsn, timeout=LOCK_TIMEOUT_S)
    try:
        yield connection
    finally:
        await connection.close()


async def _until(holds: Callable[[], Awaitable[bool]], within_s: float, else_: str) -> None:
    deadline = time.monotonic() + within_s
    while not await holds():
        if time.monotonic() > deadline:
            raise PlatformError(f"The fault could not be injected: {else_} within {within_s:g} s.")
        await asyncio.sleep(POLL_S)
