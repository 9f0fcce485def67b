"""What is nobody's failure: a database that takes no writes, a machine that slept, a disk that is full, a late start.

Real processes, real Postgres. In all of it the healer may tell people, and kill nobody.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from healing_waits import depositing, until
from typer.testing import CliRunner

from betting.cli import main
from betting_operator import flight_files
from betting_operator.healing.actions import Alert, Kill, MarkDead
from betting_operator.healing.diagnoses import Certainty, Kind
from betting_operator.healing.flight import Record

pytestmark = pytest.mark.slow

SHARDS = (0, 9)
# Longer than consumers may stand still, or a producer be silent.
READ_ONLY_S = 15.0
ASLEEP_S = 24.0
WELL_AGAIN_S = 10.0


async def entries(running: Any) -> int:
    """How much has been written to the journal."""
    found: int = await running.database.fetchval("SELECT count(*) FROM betting.journal")
    return found


async def read_only(running: Any, state: str) -> None:
    """As an administrator, or a failover, would do it: sessions that are open meet it at their next transaction."""
    await running.database.execute(f"ALTER SYSTEM SET default_transaction_read_only = {state}")
    await running.database.execute("SELECT pg_reload_conf()")


async def test_a_read_only_database_is_told_once_and_kills_nobody(start_platform: Any) -> None:
    """Nothing could be written for fifteen seconds: that is nobody's stall; bets go on at once afterwards."""
    names = ("bet-service-1", "bet-service-2", "notification-service")
    async with start_platform("bet-service", "notification-service", "healer") as running, depositing(running, SHARDS):

        async def at_work() -> bool:
            count: int = await running.database.fetchval(
                "SELECT count(*) FROM betting.consumer_positions WHERE consumer = 'notifications' AND sequence > 1"
            )
            return count >= len(SHARDS)

        await until(at_work, "deposits, and a consumer that follows them")
        lives = [running.life(name) for name in names]
        await read_only(running, "on")
        began_s = time.monotonic()

        async def over() -> bool:
            return time.monotonic() - began_s >= READ_ONLY_S

        await until(over, "the end of the fault")
        before = await entries(running)
        await read_only(running, "off")

        async def written() -> bool:
            return await entries(running) > before

        assert await until(written, "a deposit") < 2.0
        ended = len(running.records())

        async def watched_for_long() -> bool:
            return len(running.records()) >= ended + 14

        await until(watched_for_long, "as many looks as a consumer may stand still for")
        assert [running.life(name) for name in names] == lives
        assert not running.done(Kill)
        assert not running.done(MarkDead)
        away = running.diagnoses(Kind.DATABASE_AWAY)
        assert {(each.certainty, each.evidence) for each in away} == {(Certainty.CONFIRMED, ("read-only",))}
        told = [alert for alert in running.done(Alert) if isinstance(alert, Alert)]
        assert [alert.about for alert in told].count(Kind.DATABASE_AWAY) == 1


@asynccontextmanager
async def apart(folder: Path, *names: str) -> AsyncIterator[int]:
    """A platform in a process of its own, once it is ready: its process id."""
    program = Path(__file__).with_name("platform_process.py")
    output = folder.parent / "platform.log"
    with output.open("w") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(program), str(folder), *names, stdin=subprocess.PIPE, stdout=log, stderr=log
        )
    assert process.stdin is not None

    async def ready() -> bool:
        assert process.returncode is None, output.read_text()
        return "ready\n" in output.read_text().splitlines(keepends=True)

    try:
        await until(ready, "a platform that is ready")
        yield process.pid
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(30):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def ticks(folder: Path) -> list[Record]:
    """What the healer has recorded."""
    return list(flight_files.records(folder / "flight"))


def done(records: list[Record], kind: type) -> list[object]:
    """Every action of a kind in these ticks."""
    return [action for record in records for action in record.plan.actions if isinstance(action, kind)]


async def test_a_laptop_that_slept_kills_nobody(tmp_path: Path) -> None:
    """All of it stopped for longer than a feed may be silent, and went on: all is well within ten seconds."""
    folder = tmp_path / "data"
    names = ("event-service", "odds-service", "settlement-service", "season-replay", "bet-service", "healer")
    async with apart(folder, *names) as pid:

        async def calm() -> bool:
            last = ticks(folder)[-1:]
            return bool(last) and bool(last[0].seen.feeds) and not last[0].diagnoses

        await until(calm, "a calm platform with a feed")
        supervisor = psutil.Process(pid)
        processes = supervisor.children()
        family = [supervisor, *supervisor.children(recursive=True)]
        for each in family:
            each.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(ASLEEP_S)
        finally:
            for each in reversed(family):
                each.send_signal(signal.SIGCONT)
        woke_us = time.time_ns() // 1_000

        def since() -> list[Record]:
            return [record for record in ticks(folder) if record.wall_us >= woke_us]

        async def ten_seconds_later() -> bool:
            return bool(since()) and since()[-1].wall_us - woke_us >= WELL_AGAIN_S * 1_000_000

        await until(ten_seconds_later, "ten seconds of looks")
        assert not done(since(), Kill)
        assert not done(since(), MarkDead)
        assert not since()[-1].diagnoses
        # Sessions of Postgres are its own processes, and end with connections that waited too long.
        assert all(each.is_running() for each in processes)


async def test_a_feed_that_has_just_begun_is_not_silent(start_platform: Any) -> None:
    """The platform was down for an hour: that is what the producer's last sign of life says, of another life."""
    feed = ("odds-service", "season-replay", "healer")
    async with start_platform("event-service", "settlement-service", "bet-service", *feed) as running:

        async def alive() -> bool:
            return bool(
                await running.database.fetchval("SELECT count(*) FROM odds.producers WHERE last_alive_at_us > 0")
            )

        await until(alive, "a feed that was heard")
        supervisor = running.platform.supervisor
        await supervisor.stop(["healer", "season-replay", "odds-service"])
        await running.database.execute("UPDATE odds.producers SET last_alive_at_us = last_alive_at_us - 3600000000")
        began = len(running.records())
        specs = [spec for spec in running.platform.topology.service_processes() if spec.name in feed]
        await supervisor.start(specs, lambda _name, _s: None)
        life = running.life("season-replay")

        async def looked() -> bool:
            return sum(bool(record.seen.feeds) for record in running.records()[began:]) >= 8

        await until(looked, "eight looks at the feed")
        assert running.life("season-replay") == life
        assert not running.diagnoses(Kind.FEED_SILENT)
        assert not running.done(Kill)


async def test_a_healer_whose_disk_is_full_heals_and_says_so(start_platform: Any) -> None:
    """It writes what it has kept once there is room; what is damaged in the folder is named by `betting heal log`."""
    async with start_platform("bet-service", "healer") as running:

        async def recorded() -> bool:
            return len(running.records()) > 2

        await until(recorded, "a record")
        healer = next(each for each in running.platform.supervisor.processes if each.name == "healer")
        assert healer.pid is not None
        _soft, hard = resource.prlimit(healer.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(healer.pid, resource.RLIMIT_FSIZE, (1, hard))  # what a full disk does to its files
        healers, victim = running.life("healer"), running.owner("bet-service-2")

        async def told() -> bool:
            return any("record-not-written" in note for note in running.notes)

        await until(told, "its word that the record is not written")
        # Killed, it could be back and have its shards again before a slow healer looks.
        running.platform.supervisor.signal("bet-service-2", signal.SIGSTOP)

        async def healed() -> bool:
            return victim not in await running.owners() and "" not in await running.owners()

        await until(healed, "its shards served by others")
        written = len(running.records())
        resource.prlimit(healer.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))

        async def caught_up() -> bool:
            return any(victim == str(action.owner) for action in running.done(MarkDead) if isinstance(action, MarkDead))

        await until(caught_up, "the ticks that were kept")
        assert len(running.records()) > written
        assert running.life("healer") == healers
        (running.folder / "flight" / "flight-0001.jsonl").touch()
        arguments = ["heal", "log", "--data", str(running.folder)]
        shown = CliRunner().invoke(main.build(arguments), arguments)
        assert shown.exit_code == 0, shown.output
        assert "flight-0001.jsonl is left out: it is empty" in shown.stderr
        assert "record-not-written" in shown.stdout
        assert f"mark dead {victim}" in shown.stdout
