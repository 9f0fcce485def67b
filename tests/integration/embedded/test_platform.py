"""The platform's folder: killed supervisors, two at once, folders and ports that cannot be used."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from betting.embedded.folder import DataFolder
from betting.embedded.platform import Options, running
from betting.embedded.ports import require_free
from betting.embedded.postgres import PostgresSpec
from betting.supervision import leftovers, state
from betting.supervision.errors import PlatformError
from betting.supervision.spawning import FOLDER_VARIABLE

pytestmark = pytest.mark.slow

GONE_TIMEOUT_S = 10.0
# A supervisor in a process of its own can be killed. Databases only: what it promises is the same for all processes.
SCRIPT = """
import asyncio, sys
from pathlib import Path
from betting.embedded.folder import DataFolder
from betting.embedded.platform import Options, running

async def main():
    options = Options(DataFolder.at(Path(sys.argv[1])), free_ports=True, services=())
    async with running(options, lambda name, seconds: None, lambda line: None) as platform:
        print("ready", *(each.pid for each in platform.supervisor.processes), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""

StartSupervisor = Callable[[Path], tuple["subprocess.Popen[str]", list[int]]]


@pytest.fixture
def start_supervisor() -> Iterator[StartSupervisor]:
    """Starts a supervisor on a folder; gives it and the process ids of Postgres and both Valkeys."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path) -> tuple[subprocess.Popen[str], list[int]]:
        child = subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], stdout=subprocess.PIPE, text=True)
        started.append(child)
        assert child.stdout is not None
        word, *pids = child.stdout.readline().split()
        assert word == "ready"
        return child, [int(pid) for pid in pids]

    yield start
    for child in started:
        child.terminate()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def dsn(folder: Path) -> str:
    """Where the platform's database is, from what the supervisor left on disk."""
    port = state.load(folder / "state.json").ports["postgres"]
    return PostgresSpec(folder / "postgres", port).dsn()


def test_a_killed_supervisor_leaves_nothing_and_the_next_one_has_the_data(
    tmp_path: Path, start_supervisor: StartSupervisor
) -> None:
    """kill -9 of the supervisor takes Postgres and both Valkeys with it; what was committed is there next time."""
    folder = tmp_path / "data"
    supervisor, pids = start_supervisor(folder)
    assert len(pids) == 3
    processes = [psutil.Process(pid) for pid in pids]
    with psycopg.connect(dsn(folder)) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    supervisor.kill()
    assert leftovers.wait_gone(processes, GONE_TIMEOUT_S) == []
    assert leftovers.find(folder) == []
    start_supervisor(folder)
    with psycopg.connect(dsn(folder)) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_leftovers_that_did_not_notice_are_ended_by_the_next_start(
    tmp_path: Path, start_supervisor: StartSupervisor
) -> None:
    """A process that carries the folder in its environment, and a paused Postgres, do not block the next start."""
    folder = tmp_path / "data"
    supervisor, pids = start_supervisor(folder)
    os.kill(pids[0], signal.SIGSTOP)  # SIGQUIT of its dying parent stays pending
    supervisor.kill()
    supervisor.wait()
    code = "import signal; signal.pause()"
    marked = {**os.environ, FOLDER_VARIABLE: str(folder)}
    with subprocess.Popen([sys.executable, "-c", code], env=marked) as orphan:
        other = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, FOLDER_VARIABLE: str(tmp_path)})
        try:
            start_supervisor(folder)
            assert orphan.wait(GONE_TIMEOUT_S) == -signal.SIGKILL
            assert other.poll() is None
        finally:
            other.kill()
            other.wait()


async def start_and_stop(options: Options) -> None:
    """Brings a platform without services up and down."""
    async with running(options, lambda _name, _seconds: None, lambda _line: None):
        return


async def test_a_second_start_names_who_holds_the_folder(tmp_path: Path, start_supervisor: StartSupervisor) -> None:
    """The message has the process id and what to do; the first platform is left alone."""
    supervisor, _ = start_supervisor(tmp_path / "data")
    folder = DataFolder.at(tmp_path / "data")
    with pytest.raises(PlatformError, match=rf"in use by `betting` \(process {supervisor.pid}\): stop that first"):
        await start_and_stop(Options(folder, free_ports=True, services=()))
    assert folder.is_locked()
    with psycopg.connect(dsn(folder.path)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_busy_port_is_told_with_its_holder(unused_tcp_port: int) -> None:
    """The message names port, purpose, process, and the way out."""
    port = unused_tcp_port
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(
            PlatformError, match=rf"Port {port} \(for http\) is taken by process {os.getpid()} .*--free-ports"
        ),
    ):
        require_free(port, "http")
    require_free(port, "http")


def run_up(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`betting up` as a person runs it."""
    command = [sys.executable, "-c", "from betting.cli.main import main; main()", "up", "--plain", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(
    ("folder", "words"),
    [("a-file", "is a file, not a folder"), ("a-file/below", "is a file, not a folder"), ("/sys/betting", "ermi")],
)
async def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, folder: str, words: str) -> None:
    """The message says which it is and names --data."""
    (tmp_path / "a-file").touch()
    with pytest.raises(PlatformError, match=words) as told:
        await start_and_stop(Options(DataFolder.at(tmp_path / folder), free_ports=True, services=()))
    assert "--data" in str(told.value)


def test_what_keeps_it_from_starting_is_one_line(tmp_path: Path) -> None:
    """Exit code 1, one line on standard error, no traceback."""
    (tmp_path / "a-file").touch()
    done = run_up("--free-ports", "--data", str(tmp_path / "a-file"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("betting: ")


async def test_an_initdb_killed_half_way_is_done_again(tmp_path: Path) -> None:
    """kill -9 in the middle of preparing Postgres: the next start clears it away and succeeds."""
    folder = tmp_path / "data"
    code = (
        "import sys; from pathlib import Path; from betting.embedded.postgres import PostgresSpec, prepare;"
        "prepare(PostgresSpec(Path(sys.argv[1]) / 'postgres', 1))"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder)]) as child:  # noqa: ASYNC220
        while not (folder / "postgres/data/PG_VERSION").exists():
            assert child.poll() is None
        child.kill()
    assert not (folder / "postgres/ready").exists()
    await start_and_stop(Options(DataFolder.at(folder), free_ports=True, services=()))
    assert (folder / "postgres/ready").exists()
    assert leftovers.find(folder) == []


def test_secrets_are_for_their_owner_only(tmp_path: Path, start_supervisor: StartSupervisor) -> None:
    """Every file with a password in it has mode 0600, and no password is in a command line."""
    folder = tmp_path / "data"
    _, pids = start_supervisor(folder)
    passwords = [folder / "postgres/password", folder / "valkey-password"]
    for path in [*passwords, folder / "valkey-1/valkey.conf"]:
        assert path.stat().st_mode & 0o077 == 0
    lines: Any = [" ".join(psutil.Process(pid).cmdline()) for pid in pids]
    assert not any(path.read_text().strip() in line for path in passwords for line in lines)


def test_ctrl_c_while_starting_stops_in_order(tmp_path: Path) -> None:
    """SIGINT right after Postgres became ready: exit code 0, "stopped", nothing left, the folder free again."""
    folder = tmp_path / "data"
    command = [sys.executable, "-c", "from betting.cli.main import main; main()", "up", "--plain", "--free-ports"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, "--data", str(folder)], stdout=subprocess.PIPE, text=True, env=environment
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("✓ postgres"):
                child.send_signal(signal.SIGINT)
                break
        rest = child.stdout.read()
    assert child.returncode == 0
    assert rest.endswith("stopped\n")
    assert leftovers.find(folder) == []
    assert not DataFolder.at(folder).is_locked()
