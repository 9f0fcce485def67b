"""The database containers' modules as processes: they become the server, and every start is a life of its own."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from betting.embedded import binaries
from betting_operator.kubernetes import databases

PASSWORD = "first-password-0123"
OTHER_PASSWORD = "other-password-0123"
WITHIN_S = 120.0
POLL_S = 0.05


class Container:
    """A module of betting.containers with the environment of a container, started and ended."""

    def __init__(self, module: str, folder: Path, environment: dict[str, str]) -> None:
        self.module = module
        self.termination_log = folder / "termination-log"
        self.log = folder / "log"
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        self.environment = {**kept, "BETTING_TERMINATION_LOG": str(self.termination_log), **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **more: str) -> None:
        """Starts it; it answers some time later."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"betting.containers.{self.module}"],
                env={**self.environment, **more},
                stdout=log,
                stderr=log,
            )

    def end(self, number: signal.Signals) -> int:
        """Its exit code after a signal."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(WITHIN_S)

    def until(self, answers: Callable[[], Any]) -> Any:
        """What it answers, once it does."""
        assert self.process is not None
        deadline_s = time.monotonic() + WITHIN_S
        while True:
            try:
                return answers()
            except (psycopg.OperationalError, redis.ConnectionError):
                assert self.process.poll() is None, self.log.read_text("utf-8")
                assert time.monotonic() < deadline_s, self.log.read_text("utf-8")
                time.sleep(POLL_S)

    def boot_id(self) -> str:
        """What the termination log says."""
        return self.termination_log.read_text("ascii")


@pytest.fixture
def postgres_container(tmp_path: Path, unused_tcp_port: int) -> Iterator[Container]:
    """Not started yet."""
    container = Container(
        "postgres",
        tmp_path,
        {
            "BETTING_POSTGRES_PASSWORD": PASSWORD,
            "BETTING_POSTGRES_FOLDER": str(tmp_path / "volume"),
            "BETTING_POSTGRES_PORT": str(unused_tcp_port),
            "BETTING_POSTGRES_MAX_CONNECTIONS": "33",
        },
    )
    yield container
    _end(container)


@pytest.fixture
def redis_container(tmp_path: Path, unused_tcp_port: int) -> Iterator[Container]:
    """Not started yet."""
    container = Container(
        "redis",
        tmp_path,
        {
            "BETTING_REDIS_PASSWORD": PASSWORD,
            "BETTING_REDIS_FOLDER": str(tmp_path / "redis"),
            "BETTING_REDIS_PORT": str(unused_tcp_port),
        },
    )
    yield container
    _end(container)


def _end(container: Container) -> None:
    if container.process is not None and container.process.poll() is None:
        container.end(signal.SIGINT)


def query(container: Container, statement: str, password: str = PASSWORD, database: str = "betting") -> Any:
    """The rows of a statement, by a new connection."""
    port = container.environment["BETTING_POSTGRES_PORT"]
    with psycopg.connect(f"postgresql://betting:{password}@127.0.0.1:{port}/{database}", autocommit=True) as connection:
        result = connection.execute(statement)
        return result.fetchall() if result.description else []


def client(container: Container, password: str | None = PASSWORD) -> redis.Redis:
    """A client that tries once."""
    port = int(container.environment["BETTING_REDIS_PORT"])
    return redis.Redis(port=port, password=password, socket_timeout=5, retry=Retry(NoBackoff(), 0))


def test_postgres_makes_its_cluster_and_survives_kill_and_group_write(postgres_container: Container) -> None:
    """Another life after kill -9 with what was committed, also where the volume has become writable for its group."""
    container = postgres_container
    container.start()
    assert container.until(lambda: query(container, "SELECT current_setting('max_connections')")) == [("33",)]
    assert query(container, "SELECT current_setting('tcp_keepalives_idle')") == [("5",)]
    query(container, "CREATE TABLE kept AS SELECT 42 AS answer")
    first = container.boot_id()
    assert container.end(signal.SIGKILL) == -signal.SIGKILL
    volume = Path(container.environment["BETTING_POSTGRES_FOLDER"])
    for path in (volume, *volume.rglob("*")):
        path.chmod(path.stat().st_mode | 0o060 | (0o2010 if path.is_dir() else 0))
    container.start()
    assert container.until(lambda: query(container, "SELECT answer FROM kept")) == [(42,)]
    assert stat.S_IMODE((volume / "data").stat().st_mode) == 0o700
    assert container.boot_id() not in ("", first)
    assert container.end(signal.SIGINT) == 0


def test_postgres_takes_a_new_password_at_its_next_start(postgres_container: Container) -> None:
    """After an end in any way: the old one is refused from then on, and a name nobody set is no user."""
    container = postgres_container
    container.start()
    container.until(lambda: query(container, "SELECT 1"))
    container.end(signal.SIGKILL)
    container.start(BETTING_POSTGRES_PASSWORD=OTHER_PASSWORD)
    assert container.until(lambda: query(container, "SELECT 1", OTHER_PASSWORD)) == [(1,)]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        query(container, "SELECT 1", PASSWORD)


def test_a_redis_is_fenced_until_it_is_promoted_and_a_new_life_is_fenced_again(redis_container: Container) -> None:
    """It answers and takes no writes; INFO and the termination log name the same life; nothing outlives a kill."""
    container = redis_container
    container.start()
    with client(container) as node:
        info = container.until(node.info)
        assert (info["role"], info["availability_zone"]) == ("slave", container.boot_id())
        with pytest.raises(redis.ReadOnlyError):
            node.set("stake", "100")
        node.replicaof("NO", "ONE")
        node.set("stake", "100")
    first = container.boot_id()
    container.end(signal.SIGKILL)
    container.start()
    with client(container) as node:
        info = container.until(node.info)
        assert (info["role"], node.dbsize()) == ("slave", 0)
        assert info["availability_zone"] == container.boot_id() != first
    assert container.end(signal.SIGTERM) == 0


def test_a_redis_that_starts_as_primary_takes_writes_and_wants_its_password(redis_container: Container) -> None:
    """For a single node that nobody heals."""
    container = redis_container
    container.start(BETTING_REDIS_ROLE="primary")
    with client(container) as node, client(container, None) as stranger:
        assert container.until(lambda: node.set("stake", "100"))
        with pytest.raises(redis.AuthenticationError):
            stranger.ping()


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_the_password_is_not_in_arguments_or_environment(kind: str, request: pytest.FixtureRequest) -> None:
    """The server has the process of the module, and nothing that other users of the node could read there."""
    container = request.getfixturevalue(f"{kind}_container")
    container.start()
    container.until(lambda: query(container, "SELECT 1") if kind == "postgres" else client(container).ping())
    process = Path("/proc") / str(container.process.pid)
    arguments, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
    assert {"postgres": b"postgres", "redis": b"valkey-server"}[kind] in arguments
    assert PASSWORD.encode() not in arguments + environment


def test_a_refusal_is_one_line_and_exit_code_2(redis_container: Container, postgres_container: Container) -> None:
    """A wrong setting, and a folder that cannot be one."""
    redis_container.start(BETTING_REDIS_ROLE="leader")
    assert redis_container.process is not None
    assert redis_container.process.wait(WITHIN_S) == 2
    postgres_container.start(BETTING_POSTGRES_FOLDER="/dev/null/volume")
    assert postgres_container.process is not None
    assert postgres_container.process.wait(WITHIN_S) == 2
    refusals = redis_container.log.read_text("utf-8").splitlines()
    assert len(refusals) == 2
    assert refusals[0].startswith("redis: BETTING_REDIS_ROLE is wrong")
    assert refusals[1].startswith("postgres: BETTING_POSTGRES_FOLDER is '/dev/null/volume', which user")


def test_the_probe_tells_a_redis_that_answers_from_one_that_does_not(redis_container: Container) -> None:
    """Frozen, it accepts connections and does not answer: exit code 1, as for one that is gone."""
    container = redis_container
    container.start()
    container.until(client(container).ping)
    assert probed(container) == 0
    assert container.process is not None
    container.process.send_signal(signal.SIGSTOP)
    try:
        assert probed(container) == 1
    finally:
        container.process.send_signal(signal.SIGCONT)
    container.end(signal.SIGKILL)
    assert probed(container) == 1


@pytest.mark.parametrize("password", ["", PASSWORD])
def test_a_redis_that_loads_its_data_is_alive(tmp_path: Path, unused_tcp_port: int, password: str) -> None:
    """A replica does that after each full copy. It answers PING with an error meanwhile."""
    arguments = [*("--port", str(unused_tcp_port)), *("--dir", str(tmp_path)), *("--save", "")]
    port = {"BETTING_REDIS_PORT": str(unused_tcp_port)}
    with _valkey(arguments) as first, redis.Redis(port=unused_tcp_port, retry=Retry(NoBackoff(), 0)) as node:
        container = Container("redis", tmp_path, port)
        container.process = first
        container.until(node.ping)
        node.mset({f"key-{number}": "x" * 2048 for number in range(2000)})
        node.save()
        first.kill()
        first.wait()
    slow = ["--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024"]
    with _valkey([*arguments, *slow, "--requirepass", password]) as second:
        container.process = second
        with client(container, password or None) as node:

            def loading() -> None:
                try:
                    node.ping()
                except redis.BusyLoadingError:
                    return
                raise redis.ConnectionError("not yet, or already over")

            container.until(loading)
            assert probed(container) == 0
            loading()


@contextmanager
def _valkey(arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([binaries.valkey_server(), *arguments], stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_probe_tells_a_postgres_that_answers_from_one_that_hangs(postgres_container: Container) -> None:
    """One that recovers and lets nobody in answers too: it must not be restarted over and over."""
    container = postgres_container
    assert probed(container) == 1
    container.start()
    container.until(lambda: query(container, "SELECT 1"))
    assert probed(container) == 0
    assert container.process is not None
    container.process.send_signal(signal.SIGSTOP)
    try:
        assert probed(container) == 1
    finally:
        container.process.send_signal(signal.SIGCONT)
    container.end(signal.SIGINT)
    data = Path(container.environment["BETTING_POSTGRES_FOLDER"]) / "data"
    (data / "standby.signal").touch()
    with (data / "postgresql.auto.conf").open("a") as settings:
        settings.write("hot_standby = off\n")
    container.start()
    while probed(container) != 0:
        assert container.process.poll() is None, container.log.read_text("utf-8")
    with pytest.raises(psycopg.OperationalError, match=r"not accepting connections|starting up"):
        query(container, "SELECT 1")


def probed(container: Container) -> int:
    """The exit code of the command that Kubernetes' liveness probe runs in the container; of Redis compose's too."""
    python, *rest = databases.REDIS_ALIVE if container.module == "redis" else ["", *databases.POSTGRES_ALIVE]
    environment = {
        **container.environment,
        "PATH": f"{binaries.postgres_programs()}:{os.environ['PATH']}",
        "PGPORT": container.environment.get("BETTING_POSTGRES_PORT", ""),
    }
    command = [sys.executable, *rest] if python else rest
    return subprocess.run(command, env=environment, check=False, timeout=WITHIN_S).returncode
