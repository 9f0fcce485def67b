"""What the supervisor says of its processes, in a file that `betting status` reads."""

from __future__ import annotations

import enum
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from betting.supervision import files
from betting.supervision.errors import LocalError


class Phase(enum.StrEnum):
    """Where a process is in its life."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"  # exited; started again after a pause
    PAUSED = "paused"  # by fault injection: SIGSTOP
    STOPPING = "stopping"


@dataclass
class ProcessState:
    """One process, as the supervisor sees it."""

    name: str
    phase: Phase = Phase.STOPPED
    pid: int | None = None
    boot_id: str = ""
    restarts: int = 0
    started_at_us: int = 0
    ready_at_us: int = 0
    last_exit: str = ""


@dataclass(frozen=True)
class PlatformState:
    """The whole file."""

    supervisor_pid: int
    started_at_us: int
    ports: dict[str, int] = field(default_factory=dict)
    processes: list[ProcessState] = field(default_factory=list)
    healing: list[str] = field(default_factory=list)  # the healer's latest lines


def save(path: Path, state: PlatformState) -> None:
    """Replaces the file in one step."""
    files.write_atomic(path, json.dumps(asdict(state), indent=1), durable=False)


def load(path: Path) -> PlatformState:
    """Reads it. Raises LocalError when there is none, or when it is not ours."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        processes = [ProcessState(**{**each, "phase": Phase(each["phase"])}) for each in raw.pop("processes")]
        return PlatformState(**raw, processes=processes)
    except FileNotFoundError:
        raise LocalError(f"Nothing was ever started in {path.parent}: run `betting up` first.") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise LocalError(f"{path} cannot be read ({error}): run `betting up` again.") from error
