"""A database server as one child process of this one: start, wait until ready, kill, pause, stop."""

from __future__ import annotations

import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

from betting.supervision import logfile
from betting.supervision.errors import PlatformError
from betting.supervision.spawning import Command

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
PROBE_INTERVAL_S = 0.02


class Server(ABC):
    """Blocking. Start again after `kill` or `stop` keeps folder and port."""

    def __init__(self, name: str, *, log_path: Path, stop_signal: signal.Signals) -> None:
        self.name = name
        self.log_path = log_path
        self._stop_signal = stop_signal
        self._child: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Command:
        """What to run; prepares what it needs first."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the server accepts connections and answers; never raises."""

    @property
    def pid(self) -> int:
        """The process id of the server itself. Raises PlatformError when it is not running."""
        return self._running().pid

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Starts it and returns once it answers. Raises PlatformError with the end of its log when it does not."""
        command = self.command()
        with self.log_path.open("ab") as log:
            self._child = command.spawn(log)
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            if self._exited_within(PROBE_INTERVAL_S) or time.monotonic() > deadline:
                self.kill()
                raise PlatformError(f"{self.name} did not start: {logfile.last_words(self.log_path)}")

    def stop(self) -> None:
        """Stops it with its stop signal, with SIGKILL after 10 s. Does nothing when it is not running."""
        if self._child is None:
            return
        self._child.send_signal(signal.SIGCONT)
        self._child.send_signal(self._stop_signal)
        if not self._exited_within(STOP_TIMEOUT_S):
            self._child.kill()
        self._child.wait()
        self._child = None

    def kill(self) -> None:
        """kill -9, and waits until it is gone."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the server process: SIGSTOP and SIGCONT pause and continue it."""
        self._running().send_signal(number)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise PlatformError(f"{self.name} is not running.")
        return self._child

    def _exited_within(self, timeout_s: float) -> bool:
        try:
            self._running().wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True
