"""A journal in order: every check holds, whatever the batch, the lag and the load."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest

from betting.audit import CannotAudit, audit
from betting.audit.catalogue import Scope, checks


async def test_everything_holds(audited: Any, season: Any, tmp_path: Path) -> None:
    """A journal with one of everything breaks no check, and every check looked at something."""
    audited.write(season)
    report = await audit(audited.dsn, season.write_acknowledgements(tmp_path / "acks"))
    assert [(c.name, c.examples) for c in report.failed] == []
    assert [c.name for c in report.checks] == [c.name for c in checks()]
    assert [c.name for c in report.checks if c.examined == 0] == []
    assert report.entries == len(season.rows)
    assert report.lag_entries == 0


async def test_the_projector_agrees(audited: Any, season: Any) -> None:
    """What the platform's own projector makes of the journal is what the audit makes of it."""
    season.write_projected(audited.dsn)
    report = await audit(audited.dsn)
    assert [(c.name, c.examples) for c in report.failed] == []
    assert report.lag_entries == 0


async def test_every_shard_its_own_batch(audited: Any, season: Any) -> None:
    """Batches of one entry look at one shard at a time, on several connections, and find the same."""
    audited.write(season)
    report = await audit(audited.dsn, batch_entries=1, workers=3)
    assert report.holds
    assert next(c for c in report.checks if c.name == "journal.sequences").examined == len(season.rows)


async def test_without_acknowledgements_their_checks_are_not_claimed(audited: Any, season: Any) -> None:
    """A report without a file says nothing of acknowledgements."""
    audited.write(season)
    report = await audit(audited.dsn)
    assert not {c.name for c in report.checks} & {c.name for c in checks() if c.scope is Scope.ACKNOWLEDGEMENTS}


@pytest.mark.parametrize("watermark", [1, 3, 9, 17, 24, 30, 38])
async def test_read_models_behind(audited: Any, season: Any, watermark: int) -> None:
    """Read models that lag are compared up to their watermark, and the lag is told."""
    audited.write(season, watermark=watermark)
    report = await audit(audited.dsn)
    assert [(c.name, c.examples) for c in report.failed] == []
    assert report.lag_entries == sum(max(0, lag.head - watermark) for lag in report.lags) > 0


async def test_an_empty_platform_holds(audited: Any, season: Any) -> None:
    """Installed and never used: nothing to complain of."""
    season.rows.clear()
    season.bets.clear()
    audited.write(season)
    assert (await audit(audited.dsn)).holds


async def test_one_snapshot_of_a_live_database(audited: Any, season: Any) -> None:
    """What is appended while the audit runs is neither seen nor in its way."""
    audited.write(season)
    before = len(season.rows)
    season.deposit(season.bob, 5)
    late = season.rows[-1]

    def append(_step: object) -> None:
        if season.rows[-1] is late:
            with psycopg.connect(audited.dsn, autocommit=True) as connection:
                places = ", ".join(["%s"] * len(late))
                connection.execute(f"INSERT INTO betting.journal VALUES ({places})", late)
            season.rows.pop()

    report = await audit(audited.dsn, on_progress=append)
    assert report.holds
    assert report.entries == before


async def test_nothing_is_written(audited: Any, season: Any) -> None:
    """Not one row of the platform's tables changes, nor is one written again as it was."""
    audited.write(season)
    with psycopg.connect(audited.dsn, autocommit=True) as connection:
        before = _rows(connection)
        assert len(before) > len(season.rows)
        await audit(audited.dsn)
        assert _rows(connection) == before


def _rows(connection: psycopg.Connection[Any]) -> set[tuple[Any, ...]]:
    """Every row of every table: its place, the transaction that wrote it, and what it says."""
    named = "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'betting'::regnamespace AND relkind = 'r'"
    tables = [row[0] for row in connection.execute(named)]
    rows = "SELECT %s, t.ctid::text, t.xmin::text, t::text FROM {} t"
    return {row for table in tables for row in connection.execute(rows.format(table), [table])}


async def test_progress_ends_where_it_said(audited: Any, season: Any) -> None:
    """Steps count up to the total that was announced."""
    audited.write(season)
    steps: list[Any] = []
    await audit(audited.dsn, on_progress=steps.append, workers=1)
    assert [step.done for step in steps] == list(range(steps[0].total))


async def test_a_cancelled_audit_leaves_no_connection(audited: Any, season: Any) -> None:
    """Whoever stops an audit gets the database back as it was."""
    audited.write(season)
    under_way = asyncio.Event()
    task = asyncio.create_task(audit(audited.dsn, on_progress=lambda _step: under_way.set()))
    await under_way.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with psycopg.connect(audited.dsn) as connection:
        left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'betting-audit' AND state <> 'idle'"
        async with asyncio.timeout(20):  # Postgres ends a cancelled statement in its own time
            while connection.execute(left).fetchone() != (0,):
                connection.rollback()  # the next look is at a new snapshot of the statistics
                await asyncio.sleep(0.02)


async def test_no_such_database(audited: Any, unused_tcp_port: int) -> None:
    """A database that is not there is one clear line, without the password."""
    with pytest.raises(CannotAudit, match=f"cannot connect to 127.0.0.1:{unused_tcp_port}/betting") as caught:
        await audit(f"postgresql://betting:topsecret@127.0.0.1:{unused_tcp_port}/betting")
    assert "topsecret" not in str(caught.value)


async def test_not_a_platform(audited: Any) -> None:
    """Any other database is recognised."""
    audited.tamper("DROP SCHEMA betting CASCADE")
    with pytest.raises(CannotAudit, match=r"has no table betting\.journal"):
        await audit(audited.dsn)


async def test_not_installed(audited: Any) -> None:
    """A migrated database without an installed platform says so."""
    with pytest.raises(CannotAudit, match="has not been started"):
        await audit(audited.dsn)
