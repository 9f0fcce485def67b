"""Postgres refuses to run as root. As root on Linux it runs in a user namespace in which it is an ordinary user.

Inside the namespace our root is user 1000, so files stay owned by root outside. `unshare` without --fork replaces
itself by the program: the process id stays, signals reach the real postmaster, and a parent-death signal survives.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from betting.supervision.errors import PlatformError

PROBE_TIMEOUT_S = 5.0
_NAMESPACE = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")


@dataclass(frozen=True)
class Privileges:
    """How to start a program that refuses root: a command in front of it, or another user to run it as."""

    prefix: tuple[str, ...] = ()
    user_id: int | None = None
    group_id: int | None = None


@cache
def for_program(program: Path) -> Privileges:
    """The first way that works here for this program (tried with --version). Raises PlatformError when none does."""
    if os.geteuid() != 0:
        return Privileges()
    for candidate in _candidates():
        if _works(program, candidate):
            return candidate
    raise PlatformError(
        "Postgres does not run as root, and neither user namespaces nor the user `nobody` can stand in here: "
        "run as a normal user."
    )


def let_through(folder: Path, privileges: Privileges) -> None:
    """Lets the user the program will run as pass through a folder; what is in it stays as private as it was."""
    if privileges.user_id is not None:
        folder.chmod(folder.stat().st_mode | 0o011)


def give(folder: Path, privileges: Privileges) -> None:
    """Makes a folder the property of the user the program will run as."""
    if privileges.user_id is None or privileges.group_id is None:
        return
    os.chown(folder, privileges.user_id, privileges.group_id)


def _candidates() -> list[Privileges]:
    candidates = []
    if sys.platform == "linux" and shutil.which("unshare"):
        candidates.append(Privileges(prefix=_NAMESPACE))
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return candidates
    return [*candidates, Privileges(user_id=nobody.pw_uid, group_id=nobody.pw_gid)]


def _works(program: Path, privileges: Privileges) -> bool:
    try:
        done = subprocess.run(
            [*privileges.prefix, str(program), "--version"],
            user=privileges.user_id,
            group=privileges.group_id,
            extra_groups=None if privileges.user_id is None else [],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
