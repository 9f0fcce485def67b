"""What every child of the platform has in common: how it is described, and that it dies with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from betting.supervision.privileges import Privileges

# Stands for the boot id in a command's arguments, where a program is told what to call its life.
BOOT_ID = "{boot-id}"
FOLDER_VARIABLE = "BETTING_SUPERVISED_IN"
_WRAPPED = sys.platform == "linux"
_WRAPPER = Path(__file__).with_name("exec_child.py")


@dataclass(frozen=True)
class Command:
    """A program to run in a folder, and the signal that ends it when its parent dies."""

    argv: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    privileges: Privileges = field(default_factory=Privileges)
    parent_death_signal: signal.Signals = signal.SIGKILL

    def of_life(self, boot_id: str) -> Command:
        """The same for one life of the program."""
        return replace(self, argv=tuple(each.replace(BOOT_ID, boot_id) for each in self.argv))

    def spawn(self, output: IO[bytes], extra: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Starts it with both output streams going to `output`. Raises OSError.

        A process group of its own keeps a terminal's Ctrl-C away from it: the parent shuts it down in order.
        """
        return subprocess.Popen(
            [*self._wrapper(), *self.privileges.prefix, *self.argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=self.folder,
            env={**os.environ, **self.environment, **(extra or {})},
            process_group=0,
            **self._identity(),
        )

    def _wrapper(self) -> tuple[str, ...]:
        """Only Linux tells children of their parent's death; elsewhere the next start ends what was left over."""
        if not _WRAPPED:
            return ()
        user, group = self.privileges.user_id, self.privileges.group_id
        identity = ":" if user is None else f"{user}:{group}"
        return (
            *(sys.executable, "-I", "-S", str(_WRAPPER)),
            *(str(int(self.parent_death_signal)), str(os.getpid()), identity),
        )

    def _identity(self) -> dict[str, Any]:
        """Without the wrapper, subprocess changes the user; with it the wrapper does: it must be readable before."""
        if _WRAPPED or self.privileges.user_id is None:
            return {}
        return {"user": self.privileges.user_id, "group": self.privileges.group_id, "extra_groups": []}
