"""The seasons that come with the package, and finding one by name or path."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from betting.feeds.seasons.content import MAX_FILE_BYTES
from betting.feeds.seasons.model import Problem, Season, SeasonError
from betting.feeds.seasons.reader import read_season

DEFAULT_SEASON = "E0-2024-25"


def shipped_seasons() -> list[str]:
    """Names of the season files in the package, in order."""
    folder = resources.files(__package__)
    return sorted(entry.name.removesuffix(".csv") for entry in folder.iterdir() if entry.name.endswith(".csv"))


def load_season(name_or_path: str, *, trust_goals: bool = False) -> Season:
    """A shipped season by name ("E0-2024-25"), or any season file by path; `trust_goals` as in `read_season`.

    Raises SeasonError, also when there is no such file or it cannot be opened.
    """
    if name_or_path in shipped_seasons():
        shipped = resources.files(__package__).joinpath(f"{name_or_path}.csv")
        return read_season(shipped.read_bytes(), name_or_path, trust_goals=trust_goals)
    return read_season(_read_file(name_or_path), name_or_path, trust_goals=trust_goals)


def _read_file(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        shipped = ", ".join(shipped_seasons())
        message = f"cannot be opened ({reason}): give the path of a season file, or one of {shipped}"
        raise SeasonError(path, [Problem(0, "", message)], 1) from error
