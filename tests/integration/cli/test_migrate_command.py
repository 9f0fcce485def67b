"""`betting migrate`, and what other commands say of a database that is not current."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from betting.cli import main
from betting.embedded.folder import DataFolder
from betting.embedded.postgres import PostgresServer, ensure_database
from betting.journal import schema
from betting.release import version

NEWEST = schema.migration_ids()[-1]


def run(*arguments: str) -> Any:
    """Exit code and output of `betting`, in this process."""
    return CliRunner().invoke(main.build(list(arguments)), list(arguments), env={"BETTING_POSTGRES_DSN": None})


@pytest.fixture
def empty(database: Any) -> str:
    """A database without anything in it."""
    server, _, name = database.dsn.rpartition("/")
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}_empty")
    return f"{server}/{name}_empty"


def make_newer(dsn: str) -> None:
    """As a later release would have left it."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO public._yoyo_migration (migration_hash, migration_id) VALUES ('x', '9000.future')"
        )
        connection.execute("INSERT INTO betting.releases (release) VALUES ('7.1.0')")


def test_check_migrate_check_and_again(empty: str) -> None:
    """Pending is exit code 1 and names everything; migrating says what it did; then there is nothing left to do."""
    checked = run("migrate", "--check", "--dsn", empty)
    assert checked.exit_code == 1
    assert checked.output.splitlines() == [f"pending: {name}" for name in schema.migration_ids()]
    migrated = run("migrate", "--dsn", empty, "--shards", "32")
    assert migrated.exit_code == 0, migrated.output
    assert migrated.output.splitlines() == [
        *(f"applied: {name}" for name in schema.migration_ids()),
        "created: 32 shards",
        f"done: schema {NEWEST}, 32 shards, release {version()}",
    ]
    again = run("migrate", "--dsn", empty)
    assert (again.exit_code, again.output) == (
        0,
        f"nothing was to be done: schema {NEWEST}, 32 shards, release {version()}\n",
    )
    checked = run("migrate", "--check", "--dsn", empty)
    assert (checked.exit_code, checked.output) == (0, f"nothing is pending: schema {NEWEST}, 32 shards\n")
    other = run("migrate", "--dsn", empty, "--shards", "16")
    assert other.exit_code == 1
    assert "this database has 32 shards, not 16, and their number cannot change" in other.stderr


def test_it_does_not_wait_for_ever() -> None:
    """The exit code and the message are those of a database that does not answer."""
    done = run("migrate", "--dsn", "postgresql://betting@127.0.0.1:1/betting", "--wait", "0.1")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("betting migrate: connection failed")


def test_a_misspelled_variable_is_refused(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of shards is fixed for ever: what was meant for it is not ignored."""
    monkeypatch.setenv("BETTING_SHARDS_COUNT", "2048")
    done = run("migrate", "--dsn", empty)
    assert done.exit_code == 1
    assert "BETTING_SHARDS_COUNT is not a setting: did you mean BETTING_SHARD_COUNT?" in done.stderr


def test_two_at_once_apply_each_migration_once(empty: str) -> None:
    """Say, two pods of a new release that start together: both succeed, and only one of them does each thing."""
    command = [sys.executable, "-m", "betting.cli", "migrate", "--dsn", empty]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [each.communicate(timeout=120) for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    lines = [line for out, _ in said for line in out.splitlines()]
    assert sorted(line for line in lines if line.startswith("applied")) == [
        f"applied: {name}" for name in schema.migration_ids()
    ]
    assert lines.count("created: 16 shards") == 1


@pytest.mark.parametrize(
    "command", [("migrate",), ("heal", "log"), ("heal", "pause", "--reason", "x"), ("unfreeze", "1"), ("audit",)]
)
def test_a_schema_of_a_newer_release_is_refused_by_every_command(database: Any, command: tuple[str, ...]) -> None:
    """With both versions, and nothing is done."""
    make_newer(database.dsn)
    arguments = [*command, "--dsn", database.dsn]
    done = subprocess.run(
        [sys.executable, "-m", "betting.cli", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == (2 if command == ("audit",) else 1)
    assert f"release ({version()}, schema {NEWEST}) does not know" in done.stderr
    assert "schema 9000.future, made by 7.1.0: use that release" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_tells_a_newer_schema_from_a_pending_one(database: Any, unused_tcp_port: int) -> None:
    """Exit code 2: it is neither current nor pending, or nobody knows."""
    make_newer(database.dsn)
    assert run("migrate", "--check", "--dsn", database.dsn).exit_code == 2
    away = run("migrate", "--check", "--dsn", f"postgresql://u:hunter2@127.0.0.1:{unused_tcp_port}/betting")
    assert away.exit_code == 2
    assert "hunter2" not in away.output + away.stderr


@pytest.fixture
def folder(tmp_path: Path, unused_tcp_port: int) -> DataFolder:
    """A data folder whose platform is not running; its database is empty."""
    found = DataFolder.at(tmp_path / "data")
    found.prepare()
    server = PostgresServer(found.postgres, unused_tcp_port)
    server.start()
    ensure_database(server.spec)
    server.stop()
    return found


def test_it_waits_for_a_database_that_does_not_answer_yet(folder: DataFolder, unused_tcp_port: int) -> None:
    """As in a Job's pod, whose connections are refused until every node knows its address: it says so and goes on."""
    server = PostgresServer(folder.postgres, unused_tcp_port)
    command = [sys.executable, "-m", "betting.cli", "migrate", "--dsn", server.spec.dsn(), "--wait", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr is not None
        assert "waiting for the database: connection failed" in waiting.stderr.readline()
        server.start()
        try:
            output, errors = waiting.communicate(timeout=60)
        finally:
            server.stop()
    assert waiting.returncode == 0, errors
    assert f"done: schema {NEWEST}" in output


def test_it_goes_on_when_the_way_to_the_database_is_lost_in_the_middle(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The migrations are applied; then the name is not found for a moment, as in the first seconds of a pod."""
    resolve, failures = socket.getaddrinfo, iter(range(2))

    def resolved(*arguments: Any, **more: Any) -> Any:
        is_asyncio = threading.current_thread() is not threading.main_thread()  # what comes after the migrations
        if is_asyncio and next(failures, None) is not None:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return resolve(*arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    done = run("migrate", "--dsn", empty.replace("127.0.0.1", "localhost"), "--wait", "60")
    assert done.exit_code == 0, done.stderr
    assert next(failures, None) is None
    assert "waiting for the database: The database does not answer: [Errno -3] Temporary failure" in done.stderr
    assert f"applied: {NEWEST}" in done.stdout
    assert "created: 16 shards" in done.stdout


def test_a_folder_at_rest_is_checked_and_migrated_too(folder: DataFolder) -> None:
    """Its Postgres is started for it and stopped again; while it is in use by others, that is said."""
    data = ("--data", str(folder.path))
    assert run("migrate", "--check", *data).exit_code == 1
    assert run("migrate", *data).exit_code == 0
    assert run("migrate", "--check", *data).exit_code == 0
    assert not (folder.postgres / "data" / "postmaster.pid").exists()
    both = run("migrate", "--dsn", "postgresql:///x", *data)
    assert "Give --dsn or --data, not both" in both.stderr
    nowhere = run("migrate", "--data", str(folder.path / "elsewhere"))
    assert nowhere.exit_code == 1
    assert "no database is running" in nowhere.stderr
