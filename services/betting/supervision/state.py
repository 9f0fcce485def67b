"""The state of the supervisor's processes, in a file that `betting status` reads."""

from __future__ import annotations

import enum
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from betting.supervision import files
from betting.supervision.errors import PlatformError


class ProcessPhase(enum.StrEnum):
    """The phase of a supervised process; the values stand in the state file."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"  # exited; started again after a pause
    PAUSED = "paused"  # by fault injection: SIGSTOP
    STOPPING = "stopping"


@dataclass
class ProcessState:
    """The last known state of one process; times are microseconds since 1970, 0: not yet."""

    name: str
    phase: ProcessPhase = ProcessPhase.STOPPED
    pid: int | None = None
    boot_id: str = ""
    restarts: int = 0
    started_at_us: int = 0
    ready_at_us: int = 0
    last_exit: str = ""


@dataclass(frozen=True)
class PlatformState:
    """The content of the state file."""

    supervisor_pid: int
    started_at_us: int
    ports: dict[str, int] = field(default_factory=dict)
    processes: list[ProcessState] = field(default_factory=list)
    healing: list[str] = field(default_factory=list)  # the healer's latest lines


def save(path: Path, state: PlatformState) -> None:
    """Writes the state file atomically. Raises OSError."""
    files.write_atomic(path, json.dumps(asdict(state), indent=1), durable=False)


def load(path: Path) -> PlatformState:
    """Reads the state file. Raises PlatformError when there is none, or when it is not ours."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        processes = [ProcessState(**{**each, "phase": ProcessPhase(each["phase"])}) for each in raw.pop("processes")]
        return PlatformState(**raw, processes=processes)
    except FileNotFoundError:
        raise PlatformError(f"Nothing was ever started in {path.parent}: run `betting up` first.") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PlatformError(f"{path} cannot be read ({error}): run `betting up` again.") from error
