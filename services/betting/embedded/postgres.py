"""An embedded Postgres 18 with production settings: durable, password-protected, on 127.0.0.1 only.

Folder: `data/` (the cluster), `password` (mode 0600), and the markers `initialising` and `ready`: a run killed inside
initdb leaves the first without the second, and the next one starts over.
"""

from __future__ import annotations

import platform
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from betting.embedded import binaries
from betting.embedded.ports import HOST
from betting.supervision import files, privileges
from betting.supervision.errors import PlatformError, from_os_error
from betting.supervision.server import Server
from betting.supervision.spawning import Command

USER = "betting"
DATABASE = "betting"
MAX_CONNECTIONS = 120
INITDB_TIMEOUT_S = 60.0
ALONE_TIMEOUT_S = 300.0  # it may have to recover first
COLLECTED_WITHIN_S = 20.0
POLL_S = 0.05
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # no socket file: one way in, and no limit on the folder's length
    "max_connections": MAX_CONNECTIONS,
    "password_encryption": "scram-sha-256",
    "shared_buffers": "256MB",
    "synchronous_commit": "on",
    "wal_buffers": "16MB",
    "max_wal_size": "2GB",  # few checkpoints under load; recovery after a kill stays within seconds
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    "max_locks_per_transaction": 256,  # partitioned tables take a lock per partition
    "jit": "off",  # compiling costs more than these queries
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %q%a ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class PostgresSpec:
    """Where a Postgres lives. `durable=False` turns fsync off: for tests only.

    password: of the user `betting` when the cluster is made; None: a random one. settings: of postgresql.conf, beside
    and instead of those here. databases: made together with the cluster.
    """

    folder: Path
    port: int
    durable: bool = True
    password: str | None = field(default=None, repr=False)
    settings: Mapping[str, object] = field(default_factory=dict)
    databases: tuple[str, ...] = ()

    @property
    def data(self) -> Path:
        """The cluster's data directory."""
        return self.folder / "data"

    @property
    def password_file(self) -> Path:
        """The file with the password."""
        return self.folder / "password"

    def dsn(self, database: str = DATABASE) -> str:
        """A libpq URL with the password in it."""
        password = files.read_secret(self.password_file)
        return f"postgresql://{USER}:{password}@{HOST}:{self.port}/{database}"

    def command(self) -> Command:
        """The postmaster. SIGQUIT (immediate shutdown, recovery on the next start) if its parent dies."""
        program = binaries.postgres_programs() / "postgres"
        return Command(
            argv=(str(program), "-D", str(self.data), "-p", str(self.port)),
            folder=self.folder,
            privileges=privileges.for_program(program),
            parent_death_signal=signal.SIGQUIT,
        )


def prepare(spec: PostgresSpec) -> None:
    """Makes the cluster unless it is there, and writes the settings. Raises PlatformError."""
    try:
        if not (spec.folder / "ready").exists():
            _initialise(spec)
        _write_settings(spec)
    except OSError as error:
        raise from_os_error(error, f"preparing Postgres in {spec.folder}") from error
    _wait_until_collected(spec)


def _wait_until_collected(spec: PostgresSpec) -> None:
    """Until the process that the pid file names is gone. Called when no Postgres of this folder runs.

    After kill -9 of everything it may be dead and not yet collected by its new parent: Postgres takes that for a
    running one and refuses to start. Its pid file is Postgres' own and is never removed here.
    """
    pid = _recorded_pid(spec)
    deadline_s = time.monotonic() + COLLECTED_WITHIN_S
    while pid is not None and psutil.pid_exists(pid) and time.monotonic() < deadline_s:
        if not _is_postgres(pid):
            return  # another program has the number by now: Postgres knows how to tell
        time.sleep(POLL_S)  # psutil's wait ends with the process, where pidfd_open tells of that: too early here


def _recorded_pid(spec: PostgresSpec) -> int | None:
    try:
        return int((spec.folder / "data" / "postmaster.pid").read_text("ascii").split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def _is_postgres(pid: int) -> bool:
    try:
        return psutil.Process(pid).name() == "postgres"
    except psutil.Error:
        return False


def ensure_database(spec: PostgresSpec, name: str = DATABASE) -> None:
    """Creates a database unless it is there; the server must be running."""
    with psycopg.connect(spec.dsn("postgres"), autocommit=True) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
        if found is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


class PostgresServer(Server):
    """A Postgres that this process starts and stops itself (tests, benchmarks); `up` uses the supervisor instead."""

    def __init__(self, folder: Path, port: int, *, durable: bool = True) -> None:
        self.spec = PostgresSpec(folder, port, durable)
        super().__init__("postgres", log_path=folder / "postgres.log", stop_signal=signal.SIGINT)

    def command(self) -> Command:
        """Prepares the folder, then says what to run."""
        prepare(self.spec)
        return self.spec.command()

    def is_ready(self) -> bool:
        """Whether `SELECT 1` is answered within a second; never raises."""
        try:
            with psycopg.connect(self.spec.dsn("postgres"), connect_timeout=2) as connection:
                connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True


def _initialise(spec: PostgresSpec) -> None:
    _clear_half_written(spec)
    spec.folder.mkdir(parents=True, exist_ok=True)
    files.write_atomic(spec.folder / "initialising", "")
    files.write_secret(spec.password_file, spec.password or secrets.token_urlsafe(24))
    program = binaries.postgres_programs() / "initdb"
    allowed = privileges.for_program(program)
    spec.data.mkdir(mode=0o700)
    privileges.let_through(spec.folder.parent, allowed)
    for path in (spec.folder, spec.data, spec.password_file):
        privileges.give(path, allowed)
    _run_initdb(spec, program, allowed)
    if spec.databases:
        run_alone(spec, [f'CREATE DATABASE "{name}"' for name in spec.databases])
    settings = spec.data / "postgresql.conf"
    with settings.open("a", encoding="utf-8") as out:
        out.write("include = 'betting.conf'\n")
    files.write_atomic(spec.folder / "ready", "")
    (spec.folder / "initialising").unlink()


def _clear_half_written(spec: PostgresSpec) -> None:
    """Removes what an interrupted initdb left; never anything that our own marker does not claim."""
    if not spec.data.exists():
        return
    if not (spec.folder / "initialising").exists() and any(spec.data.iterdir()):
        raise PlatformError(f"{spec.data} holds files that are not this platform's: choose another folder with --data.")
    shutil.rmtree(spec.data)


def _run_initdb(spec: PostgresSpec, program: Path, allowed: privileges.Privileges) -> None:
    argv = [
        *(str(program), "-D", str(spec.data), "-U", USER),
        *("--auth=scram-sha-256", f"--pwfile={spec.password_file}", "--encoding=UTF8", "--no-instructions"),
        *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        *(() if spec.durable else ("--no-sync",)),
    ]
    command = Command(tuple(argv), spec.folder, privileges=allowed)
    log = spec.folder / "initdb.log"
    try:
        with log.open("wb") as output:
            code = command.spawn(output).wait(INITDB_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise PlatformError(
            f"Preparing Postgres in {spec.folder} took over {INITDB_TIMEOUT_S:.0f} s: "
            "is the disk that slow? Try another folder with --data."
        ) from error
    if code != 0:
        reason = _reason(log.read_text(encoding="utf-8", errors="replace"), allowed)
        raise PlatformError(f"Preparing Postgres in {spec.folder} failed: {reason}")


def run_alone(spec: PostgresSpec, statements: Iterable[str]) -> None:
    """Runs SQL statements, a line each, in Postgres' single-user mode: no server of this cluster may run.

    Raises PlatformError when one fails.
    """
    program = binaries.postgres_programs() / "postgres"
    allowed = privileges.for_program(program)
    argv = [str(program), "--single", "-D", str(spec.data), "-c", "exit_on_error=on", "postgres"]
    try:
        done = subprocess.run(
            [*allowed.prefix, *argv],
            input="".join(f"{each}\n" for each in statements),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            user=allowed.user_id,
            group=allowed.group_id,
            timeout=ALONE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PlatformError(f"Postgres in {spec.folder} took over {ALONE_TIMEOUT_S:.0f} s to recover.") from error
    if done.returncode != 0:
        raise PlatformError(f"Postgres in {spec.folder} refused a statement: {_reason(done.stdout, allowed)}")


def _reason(output: str, allowed: privileges.Privileges) -> str:
    """The line of initdb's output that says why, with what to do where it is plain."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if any("No space left" in line for line in lines):
        return "the disk is full: free some space or choose another folder with --data."
    if allowed.user_id is not None and "Permission denied" in output:
        return "as root it runs as the user nobody, who cannot reach that folder: run as a normal user."
    errors = [line for line in lines if "error" in line.lower() or "FATAL" in line]
    return (errors or lines or ["initdb printed no reason"])[0]


def _write_settings(spec: PostgresSpec) -> None:
    settings: dict[str, object] = {**_SETTINGS, **spec.settings}
    if _syncfs_is_safe():
        settings["recovery_init_sync_method"] = "syncfs"  # one call instead of one per file: recovery starts sooner
    if not spec.durable:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    lines = [f"{name} = '{value}'" for name, value in settings.items()]
    target = spec.data / "betting.conf"
    files.write_atomic(target, "\n".join(lines) + "\n")
    privileges.give(target, privileges.for_program(binaries.postgres_programs() / "postgres"))


def _syncfs_is_safe() -> bool:
    """Linux 5.8 and later report write errors from syncfs (postgresql.org/docs/18, recovery_init_sync_method)."""
    if sys.platform != "linux":
        return False
    major, minor = (int("".join(filter(str.isdigit, part)) or 0) for part in f"{platform.release()}.0".split(".")[:2])
    return (major, minor) >= (5, 8)
