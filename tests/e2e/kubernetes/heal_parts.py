"""What is watched beside the bets while a fault is healed: Redis from inside the cluster, wallets through the gateway.

Times are seconds of the monotonic clock, which all processes of this machine share.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from scene import Scene
from tools import wait_for

SLOW_S = 1.0  # what takes longer is no answer that anybody waits for
INTERVAL_S = 0.1
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


def back_s(tries: Sequence[Try], fault_s: float) -> float | None:
    """Seconds from the fault to the first call that was answered well after the last one that was not; 0: all were.

    None: it does not work yet.
    """
    bad = [each.ended_s for each in tries if not each.works and each.ended_s > fault_s]
    if not bad:
        return 0.0 if tries and tries[-1].ended_s > fault_s else None
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
