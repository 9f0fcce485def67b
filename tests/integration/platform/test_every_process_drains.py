"""SIGTERM to every service, feed and the healer of a running platform: each drains and ends with exit code 0."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import psycopg
import pytest

from betting.cli.options import connected
from betting.embedded.folder import DataFolder
from betting.embedded.platform import Options, running
from betting.embedded.topology import SERVICES, THE_ODDS_API
from betting.journal import flight_records
from betting.supervision.errors import PlatformError

pytestmark = pytest.mark.slow

ENDED_WITHIN_S = 30.0


async def test_every_process_drains_and_a_newer_schema_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sends SIGTERM gets an orderly end, from every one of them; what the healer said is in Postgres.

    Then a later release migrates the database: neither `betting up` nor anything else of this one uses it again.
    """
    # The feed of The Odds API only has to start and to end: nobody listens where it asks.
    monkeypatch.setenv("BETTING_ODDS_API_KEY", "test")
    monkeypatch.setenv("BETTING_ODDS_API_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("BETTING_GRPC_ADDRESS", "10.0.0.1:1")
    notes: list[str] = []
    options = Options(DataFolder.at(tmp_path / "data"), free_ports=True, services=(*SERVICES, THE_ODDS_API))
    async with running(options, lambda _name, _seconds: None, notes.append) as platform:
        supervisor, dsn = platform.supervisor, platform.topology.postgres.dsn()
        names = [each.name for each in supervisor.processes if not each.name.startswith(("postgres", "valkey"))]
        assert len(names) == 13
        lives = {name: supervisor.boot_id(name) for name in names}
        # The healer last: it would tell, and while it lives it has something to tell.
        for name in sorted(names, key="healer".__eq__):
            supervisor.signal(name, signal.SIGTERM)
        async with asyncio.timeout(ENDED_WITHIN_S):
            while True:
                if lives.items() <= {(each.instance, each.boot_id) for each in supervisor.exits}:
                    break
                await asyncio.sleep(0.05)
        ends = {each.instance: each.how for each in supervisor.exits if lives.get(each.instance) == each.boot_id}
        assert ends == dict.fromkeys(names, "exit code 0")
        for name in names:
            events = [json.loads(line) for line in options.folder.log(name).read_text().splitlines()]
            [draining] = [each for each in events if each["event"] == "draining" and each["boot_id"] == lives[name]]
            assert draining["delay_s"] == 0
        async with asyncio.timeout(ENDED_WITHIN_S):
            while True:
                kept = await _kept(dsn)
                if kept:
                    break
                await asyncio.sleep(0.1)
        assert kept[-1].lines
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO public._yoyo_migration (migration_hash, migration_id) VALUES ('x', '9000.future')"
            )
    assert "BETTING_GRPC_ADDRESS in your environment is not used: the embedded platform sets it itself" in notes
    with pytest.raises(PlatformError, match=r"cannot be used: the database has 1 migration .* schema 9000\.future"):
        async with running(options, lambda _name, _seconds: None, notes.append):
            pytest.fail("it started")


async def _kept(dsn: str) -> list[flight_records.FlightRecord]:
    async with connected(dsn, "test") as connection:
        return await flight_records.newest(connection)


async def test_a_misspelled_variable_keeps_the_platform_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the nearest one that is known, and before anything was made or started."""
    monkeypatch.setenv("BETTING_LOGLEVEL", "debug")
    options = Options(DataFolder.at(tmp_path / "data"), free_ports=True, services=())
    with pytest.raises(PlatformError, match="BETTING_LOGLEVEL is not a setting: did you mean BETTING_LOG_LEVEL"):
        async with running(options, lambda _name, _seconds: None, lambda _line: None):
            pytest.fail("it started")
    assert not options.folder.path.exists()
