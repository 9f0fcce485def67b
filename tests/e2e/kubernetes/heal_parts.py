"""What is watched beside the bets while a fault is healed: Redis from inside the cluster, wallets through the gateway,
the feed and the notifications by what the database says of them.

Times are seconds of the monotonic clock, which all processes of this machine share.
"""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

import asyncpg
from scene import Scene
from tools import wait_for

from betting.journal import connection as journal_connection
from betting.journal import consumers

SLOW_S = 1.0  # what takes longer is no answer that anybody waits for
INTERVAL_S = 0.1
DATABASE_EVERY_S = 0.5
FEED = "season-replay"
_UNHEARD_S = """
SELECT extract(epoch FROM clock_timestamp())::float8 - last_alive_at_us / 1e6 FROM odds.producers WHERE producer_id = $1
"""
# A feed is heard every four seconds, and odds-service writes that down once a second.
UNHEARD_S = 8.0
# Notifications are taken in every half second, at a bet more than that on every shard.
STILL_S = 3.0
_WRITER = f"""
import asyncio, os, time
from betting.runtime.redis import open_client

async def write():
    store = open_client(os.environ["BETTING_REDIS_URL"], "e2e")
    while True:
        began_s, works = time.monotonic(), False
        try:
            async with asyncio.timeout({SLOW_S}):
                works = bool(await store.set("e2e-heal", b"1", px=60_000))
        except Exception:
            pass
        print(began_s, time.monotonic(), int(works), flush=True)
        await asyncio.sleep({INTERVAL_S})

asyncio.run(write())
"""


class Try(NamedTuple):
    """One call. works: it was answered well."""

    began_s: float
    ended_s: float
    works: bool


class Watched:
    """The calls to one part, as they come."""

    def __init__(self) -> None:
        self.tries: list[Try] = []


def back_s(tries: Sequence[Try], fault_s: float, *, must_fail: bool = False) -> float | None:
    """Seconds from the fault to the first call that was answered well after the last one that was not; 0: all were.

    None: it does not work yet. must_fail: or it has not failed yet, which it does some time after the fault.
    """
    bad = [each.ended_s for each in tries if not each.works and each.ended_s > fault_s]
    if not bad:
        return 0.0 if tries and tries[-1].ended_s > fault_s and not must_fail else None
    after = [each.ended_s for each in tries if each.works and each.began_s >= bad[-1]]
    return after[0] - fault_s if after else None


@contextmanager
def redis_writes(scene: Scene, pod: str) -> Iterator[Watched]:
    """Writes to Redis ten times a second, as a service does, in a pod of the platform that the fault leaves alone."""
    watched = Watched()
    command = ["kubectl", "exec", pod, f"--namespace={scene.platform.namespace}", "--", "python", "-c", _WRITER]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            began_s, ended_s, works = line.split()
            watched.tries.append(Try(float(began_s), float(ended_s), works == "1"))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        wait_for("Redis takes writes", lambda: watched.tries and watched.tries[-1].works, 30.0)
        yield watched
    finally:
        process.kill()
        thread.join()
        process.communicate()


@contextmanager
def wallet_reads(scene: Scene) -> Iterator[Watched]:
    """Asks for a balance ten times a second, whether or not the calls before have been answered."""
    watched = Watched()
    with scene.load.asking_for_balances(INTERVAL_S, SLOW_S, lambda *found: watched.tries.append(Try(*found))):
        wait_for("wallets answer", lambda: watched.tries and watched.tries[-1].works, 30.0)
        yield watched


@contextmanager
def feed_heard(scene: Scene) -> Iterator[Watched]:
    """Whether odds-service hears the feed."""

    async def is_heard(connection: asyncpg.Connection) -> bool:
        return float(await connection.fetchval(_UNHEARD_S, FEED)) < UNHEARD_S

    with _asking_the_database(scene, is_heard) as watched:
        wait_for("the feed is heard", lambda: watched.tries and watched.tries[-1].works, 30.0)
        yield watched


@contextmanager
def notifications_moving(scene: Scene) -> Iterator[Watched]:
    """Whether notifications of every shard are made: what follows its journal moves on, or is at its end."""
    seen: dict[int, tuple[int, float]] = {}

    async def is_moving(connection: asyncpg.Connection) -> bool:
        now_s = time.monotonic()
        for each in await consumers.progress(connection):
            if each.name == "notifications" and (
                each.sequence >= each.head or seen.get(each.shard, (-1, 0.0))[0] != each.sequence
            ):
                seen[each.shard] = each.sequence, now_s
        return all(now_s - moved_s < STILL_S for _sequence, moved_s in seen.values())

    with _asking_the_database(scene, is_moving) as watched:
        wait_for("notifications are made", lambda: seen and watched.tries and watched.tries[-1].works, 30.0)
        yield watched


@contextmanager
def _asking_the_database(scene: Scene, ask: Callable[[asyncpg.Connection], Awaitable[bool]]) -> Iterator[Watched]:
    """Asks it twice a second, by a connection of its own; one that breaks is opened anew."""
    watched, done = Watched(), threading.Event()

    async def keep_asking(dsn: str) -> None:
        while not done.is_set():
            with suppress(*journal_connection.DRIVER_ERRORS):
                connection = await journal_connection.connect(dsn, "e2e-heal")
                try:
                    while not done.is_set():
                        began_s = time.monotonic()
                        works = await ask(connection)
                        watched.tries.append(Try(began_s, time.monotonic(), works))
                        await asyncio.sleep(DATABASE_EVERY_S)
                finally:
                    connection.terminate()
            await asyncio.sleep(DATABASE_EVERY_S)

    with scene.platform.database() as dsn:
        thread = threading.Thread(target=lambda: asyncio.run(keep_asking(dsn)), daemon=True)
        thread.start()
        try:
            yield watched
        finally:
            done.set()
            thread.join()
