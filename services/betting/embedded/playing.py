"""Which season a data folder plays, and how fast: chosen by its first run, the same in every run after it.

Bets of one season stay open until its matches end, so a folder never changes to another in the middle.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from betting.feeds.seasons.model import SeasonError
from betting.feeds.seasons.shipped import DEFAULT_SEASON, load_season
from betting.supervision import files
from betting.supervision.errors import LocalError, from_os_error

SPEED = 1.0
_OTHER = "or choose another folder with --data."


@dataclass(frozen=True)
class Playing:
    """source: a shipped season's name or the absolute path of a file; name: the season's own; speed: season s per s."""

    source: str
    name: str
    speed: float

    def settings(self) -> dict[str, str]:
        """The same as the replay's environment."""
        return {"BETTING_SEASON": self.source, "BETTING_SPEED": f"{self.speed:.3f}"}


def choose(file: Path, season: str | None, speed: float | None) -> Playing:
    """What this run plays. None: what the folder plays, or for a new folder the shipped season at life's pace.

    Raises LocalError when the season cannot be read, or when the folder plays another or at another speed.
    """
    before = _recorded(file)
    if before is None:
        return _read(season or DEFAULT_SEASON, SPEED if speed is None else speed)
    asked = _read(season or before.source, before.speed if speed is None else speed)
    if asked.name != before.name:
        raise LocalError(f"This folder plays season {before.name}, not {asked.name}: leave --season out, {_OTHER}")
    if asked.speed != before.speed:
        raise LocalError(f"This folder plays at speed {before.speed:g}: leave --speed out, {_OTHER}")
    return asked


def record(file: Path, playing: Playing) -> None:
    """Remembers it for the next run. Raises LocalError."""
    try:
        files.write_atomic(file, json.dumps(asdict(playing), indent=1))
    except OSError as error:
        raise from_os_error(error, f"writing {file}") from error


def _read(source: str, speed: float) -> Playing:
    try:
        season = load_season(source)
    except SeasonError as error:
        raise LocalError(f"The season cannot be used: {str(error).splitlines()[0]}") from error
    path = Path(source)
    return Playing(str(path.resolve()) if path.is_file() else source, season.name, round(speed, 3))


def _recorded(file: Path) -> Playing | None:
    try:
        return Playing(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise LocalError(f"{file} cannot be read ({error}): restore it, {_OTHER}") from error
