"""A Valkey as a child process of this one."""

from __future__ import annotations

import signal
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from betting.embedded import valkey
from betting.supervision.server import Server
from betting.supervision.spawning import Command


class ValkeyServer(Server):
    """A Valkey that this process starts and stops itself; `betting up` uses the supervisor instead."""

    def __init__(
        self, folder: Path, port: int, *, replica_of_port: int | None = None, password_file: Path | None = None
    ) -> None:
        self.spec = valkey.ValkeySpec(folder, port, password_file or folder / "password", replica_of_port)
        super().__init__("valkey", log_path=folder / "valkey.log", stop_signal=signal.SIGTERM)

    def command(self) -> Command:
        """Prepares the folder, then says what to run."""
        valkey.prepare(self.spec)
        return self.spec.command()

    def is_ready(self) -> bool:
        """Whether it answers a ping."""
        with redis.Redis.from_url(self.spec.url(), socket_timeout=2, retry=Retry(NoBackoff(), 0)) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False
