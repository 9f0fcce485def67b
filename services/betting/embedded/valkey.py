"""An embedded Valkey: password-protected, on 127.0.0.1 only, nothing on disk (Postgres can rebuild all it holds)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from betting.embedded import binaries
from betting.embedded.ports import HOST
from betting.runtime.redis_link import MAX_LAG_S
from betting.supervision import files
from betting.supervision.errors import from_os_error
from betting.supervision.spawning import Command

MAX_MEMORY = "512mb"


@dataclass(frozen=True)
class ValkeySpec:
    """Where a Valkey lives. The password file is shared by a primary and its replicas."""

    folder: Path
    port: int
    password_file: Path
    replica_of_port: int | None = None

    def url(self) -> str:
        """The redis:// URL, with the password from `password_file`."""
        return f"redis://:{files.read_secret(self.password_file)}@{HOST}:{self.port}/0"

    def command(self) -> Command:
        """The server, configured by a file that only we can read: arguments would show the password."""
        return Command(argv=(str(binaries.valkey_server()), str(self.folder / "valkey.conf")), folder=self.folder)


def prepare(spec: ValkeySpec) -> None:
    """Makes folder, password and configuration. Raises PlatformError."""
    try:
        spec.folder.mkdir(parents=True, exist_ok=True)
        if not spec.password_file.exists():
            files.write_secret(spec.password_file, secrets.token_urlsafe(24))
        remove_copies(spec.folder)
        files.write_atomic(spec.folder / "valkey.conf", _configuration(spec))
    except OSError as error:
        raise from_os_error(error, f"preparing Valkey in {spec.folder}") from error


def remove_copies(folder: Path) -> None:
    """Before a start. A replica keeps the copy it was sent as a file, which its next life would load, however old it is
    by then. Raises OSError.
    """
    for copy in folder.glob("*.rdb"):
        copy.unlink(missing_ok=True)


def _configuration(spec: ValkeySpec) -> str:
    return configuration(
        bind=HOST,
        port=spec.port,
        folder=spec.folder,
        password=files.read_secret(spec.password_file),
        max_memory=MAX_MEMORY,
        replica_of=None if spec.replica_of_port is None else f"{HOST} {spec.replica_of_port}",
    )


def configuration(
    *,
    bind: str,
    port: int,
    folder: Path,
    password: str,
    max_memory: str,
    replica_of: str | None,
    min_replicas: int = 0,
) -> str:
    """The text of a configuration file. max_memory: in Valkey's units, such as 512mb. replica_of: "host port".

    min_replicas: a primary takes a write only while so many replicas have acknowledged within MAX_LAG_S.
    """
    lines = [
        f"bind {bind}",
        f"port {port}",
        f'dir "{folder}"',
        f"requirepass {password}",
        f"primaryauth {password}",
        "daemonize no",
        "set-proc-title no",  # the title would overwrite the environment that leftovers are recognised by
        'save ""',
        "appendonly no",
        "rdb-del-sync-files yes",
        f"maxmemory {max_memory}",
        "maxmemory-policy noeviction",
        "repl-timeout 5",
        "repl-ping-replica-period 1",
        "repl-diskless-sync-delay 0",
        "repl-backlog-size 16mb",
        f"min-replicas-to-write {min_replicas}",
        f"min-replicas-max-lag {MAX_LAG_S}",
        "shutdown-timeout 2",
        "loglevel notice",
    ]
    if replica_of is not None:
        lines += [f"replicaof {replica_of}", "replica-read-only yes"]
    return "\n".join(lines) + "\n"
