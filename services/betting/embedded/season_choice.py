"""Which season a data folder plays, and how fast: chosen by its first run, the same in every run after it.

Bets of one season stay open until its matches end, so a folder never changes to another in the middle.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from betting.feeds.seasons.model import Season, SeasonError
from betting.feeds.seasons.shipped import DEFAULT_SEASON, load_season
from betting.supervision import files
from betting.supervision.errors import PlatformError, from_os_error

SPEED = 1.0
ODD_SHOWN = 10
_OTHER = "or choose another folder with --data."


@dataclass(frozen=True)
class SeasonChoice:
    """source: a shipped season's name or the absolute path of a file; name: the season's own; speed: season s per s.

    trust_goals: whether goals count that other cells of their line contradict. odd: what is odd in the file, a
    sentence each; it is not recorded.
    """

    source: str
    name: str
    speed: float
    trust_goals: bool = False
    odd: tuple[str, ...] = field(default=(), compare=False)

    def settings(self) -> dict[str, str]:
        """The choice as environment variables of the season replay."""
        return {"BETTING_SEASON": self.source, "BETTING_SPEED": f"{self.speed:.3f}"} | (
            {"BETTING_TRUST_GOALS": "true"} if self.trust_goals else {}
        )


def choose(file: Path, season: str | None, speed: float | None, *, trust_goals: bool = False) -> SeasonChoice:
    """What this run plays. None: what the folder plays, or for a new folder the shipped season at life's pace.

    A folder that has trusted goals once goes on trusting them.

    Raises PlatformError when the season cannot be read, or when the folder plays another or at another speed.
    """
    before = _recorded(file)
    if before is None:
        return _read(season or DEFAULT_SEASON, SPEED if speed is None else speed, trust_goals)
    asked = _read(season or before.source, before.speed if speed is None else speed, trust_goals or before.trust_goals)
    if asked.name != before.name:
        raise PlatformError(f"This folder plays season {before.name}, not {asked.name}: leave --season out, {_OTHER}")
    if asked.speed != before.speed:
        raise PlatformError(f"This folder plays at speed {before.speed:g}: leave --speed out, {_OTHER}")
    return asked


def record(file: Path, choice: SeasonChoice) -> None:
    """Remembers it for the next run. Raises PlatformError."""
    try:
        recorded = {name: value for name, value in asdict(choice).items() if name != "odd"}
        files.write_atomic(file, json.dumps(recorded, indent=1))
    except OSError as error:
        raise from_os_error(error, f"writing {file}") from error


def _read(source: str, speed: float, trust_goals: bool) -> SeasonChoice:
    try:
        season = load_season(source, trust_goals=trust_goals)
    except SeasonError as error:
        raise PlatformError(f"The season cannot be used: {str(error).splitlines()[0]}") from error
    path = Path(source)
    where = str(path.resolve()) if path.is_file() else source
    return SeasonChoice(where, season.name, round(speed, 3), trust_goals, _odd(season))


def _odd(season: Season) -> tuple[str, ...]:
    shown = [f"season {season.name}, {warning}" for warning in season.warnings[:ODD_SHOWN]]
    if season.warnings_total > len(shown):
        shown.append(f"season {season.name}: {season.warnings_total - len(shown)} more odd places: `betting season`")
    return tuple(shown)


def _recorded(file: Path) -> SeasonChoice | None:
    try:
        return SeasonChoice(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise PlatformError(f"{file} cannot be read ({error}): restore it, {_OTHER}") from error
