"""`betting audit` as a person or a script runs it: exit codes, the table, JSON, one clear line when it cannot run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import typer
from typer.testing import CliRunner, Result

from betting.cli.audit import command
from betting.embedded.database import dsn_of


def _run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "TERM": "dumb"})


def test_holds(audited: Any, season: Any, tmp_path: Path) -> None:
    """Exit code 0 and a table with every check."""
    audited.write(season)
    result = _run("--dsn", audited.dsn, "--acks", str(season.write_acknowledgements(tmp_path / "acks")))
    assert result.exit_code == 0, result.output
    assert "journal.sequences" in result.stdout
    assert "acknowledgements.content" in result.stdout
    assert "Everything holds" in result.stdout


def test_failed(audited: Any, season: Any) -> None:
    """Exit code 1, with the offending row named."""
    audited.write(season)
    audited.tamper("UPDATE betting.balances SET cash_minor = 123456 WHERE account = %s", season.bob.id)
    result = _run("--dsn", audited.dsn)
    assert result.exit_code == 1
    assert f"account {season.bob.id}" in result.stdout
    assert "found cash 123456, open stakes 300, receivable 0" in result.stdout
    assert "1 of" in result.stdout


def test_json(audited: Any, season: Any) -> None:
    """One JSON object on standard output, with the same exit codes."""
    audited.write(season, watermark=20)
    audited.tamper("UPDATE betting.balances SET cash_minor = 123456 WHERE account = %s", season.bob.id)
    result = _run("--dsn", audited.dsn, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert not report["holds"]
    assert report["read_model_lag_entries"] > 0
    (failed,) = [check for check in report["checks"] if not check["holds"]]
    assert failed["name"] == "read_models.balances"
    assert failed["examples"][0]["account"] == str(season.bob.id)


def test_running_platform(database: Any, tmp_path: Path) -> None:
    """A data folder leads to the database `betting` of the server that runs in it."""
    (tmp_path / "postgres").symlink_to(database.server.spec.folder)
    assert dsn_of(tmp_path) == database.server.spec.dsn("betting")
    with psycopg.connect(dsn_of(tmp_path).removesuffix("betting") + database.name) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == (database.name,)


def test_no_platform_there(tmp_path: Path) -> None:
    """Exit code 2 and one line that says what to do."""
    result = _run("--data", str(tmp_path))
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "no database is running" in result.stderr


def test_database_away(unused_tcp_port: int) -> None:
    """Exit code 2 and one line, without the password."""
    result = _run("--dsn", f"postgresql://betting:topsecret@127.0.0.1:{unused_tcp_port}/betting")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "topsecret" not in result.output


def test_malformed_dsn() -> None:
    """Exit code 2 and one line for what is no DSN at all."""
    result = _run("--dsn", "nonsense")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
