"""The embedded Postgres: starts, survives kill -9, keeps its password to itself, recovers an interrupted initdb."""

from __future__ import annotations

import signal
import stat
from pathlib import Path

import psycopg
import pytest

from betting.embedded import postgres
from betting.supervision.errors import PlatformError


def test_a_killed_postgres_comes_back_with_its_data(tmp_path: Path, unused_tcp_port: int) -> None:
    """kill -9 reaches the real postmaster, and the next start recovers what was committed."""
    server = postgres.PostgresServer(tmp_path / "pg", unused_tcp_port, durable=False)
    server.start()
    try:
        assert (tmp_path / "pg/data/postmaster.pid").read_text().splitlines()[0] == str(server.pid)
        postgres.ensure_database(server.spec)
        postgres.ensure_database(server.spec)  # a second time changes nothing
        with psycopg.connect(server.spec.dsn()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
            connection.commit()
            connection.execute("CHECKPOINT")
        server.kill()
        assert not server_answers(server.spec.dsn())
        server.start()
        with psycopg.connect(server.spec.dsn()) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    finally:
        server.stop()


def server_answers(dsn: str) -> bool:
    """Whether a connection is possible."""
    try:
        psycopg.connect(dsn, connect_timeout=2).close()
    except psycopg.Error:
        return False
    return True


def test_postgres_is_durable_and_wants_its_password(durable_postgres: postgres.PostgresServer) -> None:
    """Production settings: fsync and synchronous_commit on, checksums on, no entry without the password."""
    with psycopg.connect(durable_postgres.spec.dsn("postgres")) as connection:
        names = ["fsync", "synchronous_commit", "full_page_writes", "data_checksums"]
        values = [connection.execute("SELECT current_setting(%s)", [name]).fetchone() for name in names]
    assert values == [("on",)] * 4
    port = durable_postgres.spec.port
    assert not server_answers(f"postgresql://betting:wrong@127.0.0.1:{port}/postgres")
    password = durable_postgres.spec.folder / "password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600


def test_an_interrupted_initdb_is_cleaned_and_done_again(tmp_path: Path, unused_tcp_port: int) -> None:
    """Half a cluster under our marker is thrown away; the same without the marker is somebody else's and stays."""
    folder = tmp_path / "pg"
    (folder / "data/base").mkdir(parents=True)
    (folder / "data/PG_VERSION").write_text("1")
    server = postgres.PostgresServer(folder, unused_tcp_port, durable=False)
    with pytest.raises(PlatformError, match="not this platform"):
        server.start()
    (folder / "initialising").touch()
    server.start()
    server.stop()
    assert (folder / "data/PG_VERSION").read_text().strip() == "18"
    assert not (folder / "initialising").exists()


def test_a_frozen_postgres_thaws(postgres: postgres.PostgresServer) -> None:
    """SIGSTOP reaches the postmaster: new connections wait; SIGCONT lets them in again."""
    postgres.signal(signal.SIGSTOP)
    try:
        assert not server_answers(postgres.spec.dsn("postgres"))
    finally:
        postgres.signal(signal.SIGCONT)
    assert server_answers(postgres.spec.dsn("postgres"))
