"""A real service, made with betting.runtime, under the supervisor: readiness, restart, drain, status."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from betting.cli import status_lines
from betting.embedded.folder import DataFolder
from betting.embedded.overview import Observer
from betting.embedded.platform import Options, Platform, running
from betting.embedded.topology import Service
from betting.supervision.errors import PlatformError
from betting.supervision.state import ProcessPhase

NAME = "trivial-service"
# Serves nothing but what every service has: health, reflection, diagnostics. It has a pool, so it needs Postgres.
SOURCE = """
from betting.runtime.service import Composition, run_service

async def compose(context):
    await context.postgres(max_size=1)
    return Composition(servicers=[], background=[], on_drain=[], on_close=[])

run_service("trivial-service", compose)
"""


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    """A platform with one service of our own."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "trivial_service.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(modules)
    return Options(
        DataFolder.at(tmp_path / "data"),
        free_ports=True,
        services=(Service(NAME, "trivial_service"),),
        extra={"PYTHONPATH": str(modules)},
    )


@pytest.fixture
async def platform(options: Options) -> AsyncIterator[Platform]:
    """It runs while the test does."""
    async with running(options, lambda _name, _seconds: None, lambda _line: None) as started:
        yield started


async def test_a_service_is_ready_restarted_shown_and_drained(options: Options) -> None:
    """Ready means SERVING; a kill is healed; status tells both; stopping lets it drain: its last line says stopped."""
    ready: list[str] = []
    observer = Observer(options.folder)
    async with running(options, lambda name, _seconds: ready.append(name), lambda _line: None) as platform:
        assert ready[-1] == NAME
        assert set(ready) == {"postgres", "valkey-1", "valkey-2", "migrations", NAME}
        platform.supervisor.signal(NAME, signal.SIGKILL)
        (service,) = [each for each in platform.supervisor.processes if each.name == NAME]
        async with asyncio.timeout(10):
            while True:
                if service.restarts == 1 and service.phase is ProcessPhase.READY:
                    break
                await asyncio.sleep(0.02)
        look = await observer.look()
        lines = list(status_lines.lines(look, None))
    await observer.close()
    assert any(line.startswith(f"process {NAME} ready pid={service.pid or ''}") for line in lines)
    assert any("restarts=1" in line for line in lines)
    assert lines[-1] == "platform unknown: health-monitor has no port"
    assert look.resident_bytes[NAME] > 1_000_000
    last = options.folder.log(NAME).read_text().splitlines()[-1]
    assert json.loads(last)["event"] == "stopped"


async def test_status_of_a_stopped_platform_says_what_to_do(platform: Platform, options: Options) -> None:
    """While it runs the lock says so; afterwards status exits with one line."""
    assert options.folder.is_locked()
    await platform.supervisor.stop()
    stopped = Observer(options.folder)
    look = await stopped.look()
    await stopped.close()
    assert {each.phase for each in look.supervisor.processes} == {ProcessPhase.STOPPED}


async def test_a_season_that_is_not_there_is_one_line(options: Options) -> None:
    """The message names the file and the seasons that are there; nothing was started."""
    wrong = Options(options.folder, free_ports=True, season="no-such.csv", services=())
    with pytest.raises(PlatformError, match=r"season cannot be used: no-such\.csv"):
        async with running(wrong, lambda _name, _seconds: None, lambda _line: None):
            pytest.fail("it started")
    assert not options.folder.postgres.exists()
