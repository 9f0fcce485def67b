"""The data folder: where everything is, and the lock that lets only one supervisor use it."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from betting.supervision import files
from betting.supervision.errors import PlatformError, from_os_error

SECRET_BYTES = 32
MIB = 1024 * 1024
FREE_MIB_MIN = 256  # a fresh Postgres takes 50, its log segments and our logs the rest


@dataclass(frozen=True)
class DataFolder:
    """Paths inside a data folder. The path is absolute: children run with other working directories."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> DataFolder:
        """The folder of that name, which may not exist yet."""
        return cls(path.expanduser().resolve())

    @property
    def postgres(self) -> Path:
        """Folder of the Postgres cluster."""
        return self.path / "postgres"

    @property
    def state(self) -> Path:
        """State file of the supervisor, see `supervision.state`."""
        return self.path / "state.json"

    @property
    def flight(self) -> Path:
        """Folder of the healer's flight records (JSON lines)."""
        return self.path / "flight"

    @property
    def season_choice(self) -> Path:
        """File that records the season and speed of this folder, see `season_choice`."""
        return self.path / "season.json"

    @property
    def internal_secret_file(self) -> Path:
        """File of the secret that principals between services are signed with (hex digits, mode 0600)."""
        return self.path / "internal-secret"

    @property
    def valkey_password(self) -> Path:
        """File of the password that both Valkeys share."""
        return self.path / "valkey-password"

    @property
    def operator_password_file(self) -> Path:
        """File of the operator's password."""
        return self.path / "operator-password"

    def valkey(self, name: str) -> Path:
        """Folder of one Valkey, by its process name."""
        return self.path / name

    def log(self, name: str) -> Path:
        """Log file of one process; rotated ones have a number after it."""
        return self.path / "logs" / f"{name}.log"

    def prepare(self) -> None:
        """Makes the folder unless it is there. Raises PlatformError when it cannot be written."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.path / "logs").mkdir(exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise PlatformError(f"{error.filename} is a file, not a folder: choose another with --data.") from error
        except OSError as error:
            raise from_os_error(error, f"writing {self.path}") from error

    def require_space(self) -> None:
        """Raises PlatformError when the disk is too full to begin."""
        free_mib = shutil.disk_usage(self.path).free // MIB
        if free_mib < FREE_MIB_MIN:
            raise PlatformError(
                f"The disk is full: {free_mib} MiB are free at {self.path} and at least {FREE_MIB_MIN} are needed: "
                "free some space or choose another folder with --data."
            )

    def make_secrets(self) -> None:
        """Makes the secrets that are not there yet; with the lock held. Raises PlatformError."""
        try:
            for path in (self.internal_secret_file, self.valkey_password, self.operator_password_file):
                if not path.exists():
                    files.write_secret(path, secrets.token_hex(SECRET_BYTES))
        except OSError as error:
            raise from_os_error(error, f"writing {self.path}") from error

    def internal_secret(self) -> str:
        """The services' shared key as hex digits. Raises PlatformError before `make_secrets`."""
        return files.read_secret(self.internal_secret_file)

    def operator_password(self) -> str:
        """The operator's password. Raises PlatformError before `make_secrets`."""
        return files.read_secret(self.operator_password_file)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for this process. Raises PlatformError naming the holder when another has it.

        The lock is the kernel's: it ends with its holder however that ends.
        """
        try:
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise from_os_error(error, f"writing {self._lock}") from error
        with os.fdopen(descriptor, "r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = lock.read().strip() or "another process"
                raise PlatformError(
                    f"{self.path} is in use by {holder}: stop that first (Ctrl-C there), or choose another with --data."
                ) from None
            lock.truncate(0)
            lock.write(f"`betting` (process {os.getpid()})")
            lock.flush()
            yield
            lock.truncate(0)

    def is_locked(self) -> bool:
        """Whether a supervisor runs on this folder now."""
        try:
            with self._lock.open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    @property
    def _lock(self) -> Path:
        return self.path / "lock"
