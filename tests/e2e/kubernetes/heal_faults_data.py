"""Faults of the way to what is stored: a Postgres that is there and takes nothing, pods that are cut off from it."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from heal_actions import DISRUPTIVE, Answer, wait_said
from heal_fault import Fault, Measure
from heal_parts import FEED
from heal_targets import Injected, cut_off
from platform_under_test import Installed
from scene import Scene
from tools import Failed, expect, got, say

# Longer than a heartbeat may be missing where nobody heals.
AWAY_S = 12.0
TAKEN_S = 60.0
# In the pod of Postgres: takes every connection that there is, the platform's too, and keeps them until its input ends.
_TAKER = """
import asyncio, os, sys, asyncpg

OTHERS = '''SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND application_name <> 'e2e-heal' '''
taken = []

async def take():
    try:
        taken.append(await asyncpg.connect(
            host="127.0.0.1", user="betting", database="betting", password=os.environ["BETTING_POSTGRES_PASSWORD"],
            timeout=10, server_settings={"application_name": "e2e-heal"},
        ))
    except asyncpg.TooManyConnectionsError:
        return False
    return True

async def main():
    while True:
        while any(await asyncio.gather(*(take() for _ in range(8)))):
            pass
        if not await taken[0].fetchval(OTHERS):
            break
    print(len(taken), flush=True)
    await asyncio.wait([asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)], timeout=LONGEST_S)
    os._exit(0)

asyncio.run(main())
""".replace("LONGEST_S", str(2 * TAKEN_S))


@contextmanager
def postgres_read_only(scene: Scene) -> Iterator[Injected]:
    """Postgres takes no writes for a while, as after a failover of its own; from when it takes them again."""
    platform = scene.platform
    _set_read_only(platform, "= on")
    try:
        _stay_away(scene)
    finally:
        at_s = _set_read_only(platform, "TO DEFAULT")
    yield Injected(at_s, _postgres(platform))


@contextmanager
def postgres_full(scene: Scene) -> Iterator[Injected]:
    """Postgres has no connection left for a while: somebody has them all; from when they are given back."""
    with _all_connections_taken(scene.platform):
        _stay_away(scene)
        at_s = time.monotonic()
    yield Injected(at_s, _postgres(scene.platform))


@contextmanager
def feed_cut_off(scene: Scene) -> Iterator[Injected]:
    """The feed lives, answers and sends nothing: it is cut off from Postgres, so that it may not act; then replaced."""
    with _cut_off_from_postgres(scene.platform, FEED) as injected:
        yield injected


@contextmanager
def notifications_cut_off(scene: Scene) -> Iterator[Injected]:
    """notification-service: one of two cut off from Postgres; it answers, and makes nothing of what it follows."""
    with _cut_off_from_postgres(scene.platform, "notification-service") as injected:
        yield injected


@contextmanager
def _cut_off_from_postgres(platform: Installed, workload: str) -> Iterator[Injected]:
    pod = str(platform.pods(workload)[0]["metadata"]["name"])
    address = got("pod", _postgres(platform), f"--namespace={platform.namespace}")["status"]["podIP"]
    with cut_off(pod, str(address)) as at_s:
        yield Injected(at_s, pod)


def _postgres(platform: Installed) -> str:
    return f"{platform.name}-postgres-0"


def _stay_away(scene: Scene) -> None:
    """For a while, in which it must be said, and no shard takes a bet."""
    began_s = time.monotonic()
    took_s = wait_said(scene.platform, "database-away")
    say(f"database-away is said after {took_s:.1f} s")
    time.sleep(max(0.0, began_s + AWAY_S - time.monotonic()))  # the length of the outage is the fault
    expect(scene.load.quiet_for_s() > AWAY_S / 2, "bets were taken all the while: it was no fault")


def _set_read_only(platform: Installed, value: str) -> float:
    """Changes the default of all sessions, those that are open included; the moment just before it holds."""

    async def change(connection: asyncpg.Connection) -> float:
        await connection.execute(f"ALTER SYSTEM SET default_transaction_read_only {value}")
        at_s = time.monotonic()
        await connection.execute("SELECT pg_reload_conf()")
        return at_s

    return platform.ask(change)


@contextmanager
def _all_connections_taken(platform: Installed) -> Iterator[None]:
    """Until the block ends: the program in the pod ends with its input, and the kernel closes its connections."""
    pod = (_postgres(platform), f"--namespace={platform.namespace}")
    command = ["kubectl", "exec", "--stdin", *pod, "--", "python", "-c", _TAKER]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    timer = threading.Timer(TAKEN_S, process.kill)
    timer.start()
    try:
        line = process.stdout.readline()
        timer.cancel()
        if not line.strip().isdigit():
            process.kill()
            raise Failed(
                f"not all connections were taken in {TAKEN_S:.0f} s: {process.communicate()[1].decode()[-500:]}"
            )
        say(f"all {line.decode().strip()} connections of {pod[0]} are taken")
        yield
    finally:
        timer.cancel()
        process.stdin.close()
        process.wait()


FAULTS = (
    Fault("postgres-read-only", 2.0, postgres_read_only, once=True, alone=False, never=DISRUPTIVE),
    Fault("postgres-full", 2.0, postgres_full, once=True, alone=False, never=DISRUPTIVE),
    Fault(
        "feed-silent",
        40.0,
        feed_cut_off,
        Measure.FEED,
        once=True,
        alone=False,
        answer=Answer("feed-silent", ("Kill",), over=False),
    ),
    Fault(
        "notifications-cut-off",
        12.0,
        notifications_cut_off,
        Measure.CONSUMER,
        refuses=False,
        once=True,
        alone=False,
        never=DISRUPTIVE,
    ),
)
