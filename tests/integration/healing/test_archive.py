"""The healer's news in Postgres: kept within bounds, told by `betting heal --dsn`, and never in the healer's way."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg
import pytest
from cutting_proxy import CuttingProxy
from healing_scenes import recorded
from typer.testing import CliRunner

from betting.cli import main
from betting.journal import flight_records, placements
from betting.journal.connection import connect
from betting_operator.healer import archive
from betting_operator.healer.archive import QUEUED_MAX, Archive
from betting_operator.healing import flight


def a_record() -> flight.Record:
    """A tick as a healer recorded it."""
    _memory, records = flight.read(recorded())
    return [record for record in records if record.diagnoses][-1]


def told(*arguments: str) -> Any:
    """`betting heal`, in this process."""
    return CliRunner().invoke(main.build(["heal"]), ["heal", *arguments])


async def written(connection: asyncpg.Connection, count: int) -> list[flight_records.FlightRecord]:
    """Returns once so many records are there."""
    async with asyncio.timeout(15):
        while True:
            found = await flight_records.newest(connection)
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


async def test_news_reach_postgres_and_whoever_asks_there(database: Any) -> None:
    """A tick without news is not kept; log and plan tell without the healer's folder, pause holds there too."""
    news = Archive(database.dsn, "healer@1")
    running = asyncio.create_task(news.run())
    connection = await connect(database.dsn, "test")
    record = a_record()
    news.offer(3, record, [])
    news.offer(3, record, ["confirmed: owner-died bet-service-2", "action: something: done"])
    [kept] = await written(connection, 1)
    assert (kept.term, kept.format) == (3, flight.VERSION)
    assert abs(kept.recorded_at.timestamp() - record.wall_us / 1e6) < 0.001
    await placements.begin_term(connection)
    log = await asyncio.to_thread(told, "log", "--dsn", database.dsn)
    assert [line[14:] for line in log.stdout.splitlines()] == kept.lines
    await asyncio.to_thread(told, "pause", "--reason", "a look at it", "--dsn", database.dsn)
    plan = await asyncio.to_thread(told, "plan", "--dsn", database.dsn)
    assert plan.stdout.startswith("healing is paused: a look at it\n")
    for diagnosis in record.diagnoses:
        assert f"  {diagnosis.certainty}: {diagnosis.kind} {diagnosis.target} (" in plan.stdout
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await connection.close()


async def test_a_switch_says_what_is_still_on_and_how_to_end_it(database: Any) -> None:
    """ "Healing is on" is said only when it is: neither a pause nor a dry run hides behind the end of the other."""
    paused, dry_run = "(to end it: betting heal resume)", "(to end it: betting heal dry-run off)"
    for arguments, said in (
        (("pause", "--reason", "a look"), f"healing is paused {paused}"),
        (
            ("dry-run",),
            f"dry run is on {dry_run}; healing is still paused: a look {paused}",
        ),
        (
            ("pause", "--reason", "a look"),
            f"healing is paused {paused}; the dry run is still on, and nothing is done {dry_run}",
        ),
        (("dry-run", "off"), f"dry run is off; healing is still paused: a look {paused}"),
        (("dry-run", "on"), f"dry run is on {dry_run}; healing is still paused: a look {paused}"),
        (("resume",), f"healing is no longer paused; the dry run is still on, and nothing is done {dry_run}"),
        (("dry-run", "off"), "dry run is off"),
        (("resume",), "healing is on"),
    ):
        answer = await asyncio.to_thread(told, *arguments, "--dsn", database.dsn)
        assert answer.stdout == f"{said}\n", answer.output


async def test_only_the_newest_are_kept_and_a_huge_record_leaves_its_lines(database: Any) -> None:
    """The table stays small however much happens."""
    connection = await connect(database.dsn, "test")
    now_us = time.time_ns() // 1_000
    for number in range(6):
        await flight_records.add(connection, now_us, 1, [f"line {number}"], 3, "{}", rows_kept=4)
    huge = "x" * (flight_records.RECORD_BYTES_MAX + 1)
    await flight_records.add(connection, now_us, 1, ["line 6"], 3, huge, rows_kept=4)
    found = await flight_records.newest(connection)
    assert [each.lines for each in found] == [[f"line {number}"] for number in range(3, 7)]
    assert [each.record for each in found] == ["{}", "{}", "{}", None]
    assert [each.lines for each in await flight_records.newest(connection, 1)] == [["line 6"]]
    await connection.close()


async def test_news_that_postgres_cannot_hold_do_not_keep_the_others_back(database: Any) -> None:
    """Postgres knows no zero character: that line is left out, the next is written, and the task lives on."""
    news = Archive(database.dsn, "healer@1")
    running = asyncio.create_task(news.run())
    news.offer(1, a_record(), ["a zero character: \0"])
    news.offer(1, a_record(), ["all is well"])
    connection = await connect(database.dsn, "test")
    assert [each.lines for each in await written(connection, 1)] == [["all is well"]]
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await connection.close()


@pytest.mark.parametrize("count", [3, QUEUED_MAX + 5])
async def test_a_database_that_hangs_costs_the_healer_nothing(
    database: Any, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offering returns at once; what fits into the queue is written once the database answers again, in order."""
    monkeypatch.setattr(archive, "RETRY_S", 0.05)
    monkeypatch.setattr(archive, "TIMEOUT_S", 2.0)
    record = a_record()
    connection = await connect(database.dsn, "test")
    async with CuttingProxy(database.dsn) as proxy:
        proxy.answers.clear()
        news = Archive(proxy.dsn, "healer@1")
        running = asyncio.create_task(news.run())
        for number in range(count):
            news.offer(1, record, [f"line {number}"])
        proxy.answers.set()
        found = await written(connection, min(count, QUEUED_MAX))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [each.lines for each in found] == [[f"line {n}"] for n in range(count)][-QUEUED_MAX:]
    await connection.close()
