"""What both database containers do at their start: settings, the name of this life, and becoming the server."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from betting.containers.settings import ContainerSettings
from betting.runtime import ids
from betting.runtime.errors import ConfigurationError
from betting.runtime.service import EXIT_FAILED, name_in_termination_log
from betting.runtime.settings import ENVIRONMENT_PREFIX, EXIT_CONFIGURATION, load
from betting.supervision.errors import PlatformError
from betting.supervision.spawning import Command

S = TypeVar("S", bound=ContainerSettings)


def run(name: str, settings_type: type[S], prepare: Callable[[S, str], Command]) -> NoReturn:
    """Becomes the server that `prepare` names, given the settings and a new boot id.

    Exit codes before that: 2 for settings, 1 for everything else, each with one line on standard error.
    """
    # The first process of a container ignores these signals unless it handles them. Nothing runs yet.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    boot_id = ids.new_boot_id()
    try:
        command = prepare(load(settings_type), boot_id)
        name_in_termination_log(name, boot_id)
        _become(command)
    except ConfigurationError as error:
        code, reason = EXIT_CONFIGURATION, str(error)
    except (PlatformError, OSError) as error:
        code, reason = EXIT_FAILED, str(error)
    sys.stderr.write(f"{name}: {reason}\n")
    sys.exit(code)


def require_folder(folder: Path, setting: str) -> None:
    """Makes a folder unless it is there. Raises ConfigurationError when this user may not write it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        raise ConfigurationError(
            f"{setting} is {str(folder)!a}, which user {os.getuid()} may not write: mount a volume there that belongs "
            f"to this user or to its group (fsGroup on Kubernetes)"
        )


def _become(command: Command) -> NoReturn:
    """Replaces this process, which keeps its id; settings and passwords do not stay in the environment."""
    if command.privileges.user_id is not None:
        raise PlatformError("run as an ordinary user, not as root")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(ENVIRONMENT_PREFIX)}
    os.chdir(command.folder)
    argv = (*command.privileges.prefix, *command.argv)
    os.execvpe(argv[0], argv, {**kept, **command.environment})  # noqa: S606  (becoming the server is the purpose)
