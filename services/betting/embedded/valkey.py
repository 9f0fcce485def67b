"""An embedded Valkey: password-protected, on 127.0.0.1 only, nothing on disk (Postgres can rebuild all it holds)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from betting.embedded import binaries
from betting.embedded.ports import HOST
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
        # A replica keeps the copy it was sent as a file, which its next life would load, however old it is by then.
        for copy in spec.folder.glob("*.rdb"):
            copy.unlink(missing_ok=True)
        files.write_atomic(spec.folder / "valkey.conf", _configuration(spec))
    except OSError as error:
        raise from_os_error(error, f"preparing Valkey in {spec.folder}") from error


def _configuration(spec: ValkeySpec) -> str:
    password = files.read_secret(spec.password_file)
    lines = [
        f"bind {HOST}",
        f"port {spec.port}",
        f'dir "{spec.folder}"',
        f"requirepass {password}",
        f"primaryauth {password}",
        "daemonize no",
        "set-proc-title no",  # the title would overwrite the environment that leftovers are recognised by
        'save ""',
        "appendonly no",
        "rdb-del-sync-files yes",
        f"maxmemory {MAX_MEMORY}",
        "maxmemory-policy noeviction",
        "repl-timeout 5",
        "repl-ping-replica-period 1",
        "repl-diskless-sync-delay 0",
        "repl-backlog-size 16mb",
        "shutdown-timeout 2",
        "loglevel notice",
    ]
    if spec.replica_of_port is not None:
        lines += [f"replicaof {HOST} {spec.replica_of_port}", "replica-read-only yes"]
    return "\n".join(lines) + "\n"
