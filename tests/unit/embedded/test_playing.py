"""A folder plays one season, at one speed, whatever a later run asks for."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from betting.embedded import playing
from betting.feeds.seasons.shipped import DEFAULT_SEASON
from betting.supervision.errors import LocalError


def test_a_new_folder_plays_what_was_asked_for(tmp_path: Path) -> None:
    """And the shipped season at life's pace when nothing was."""
    assert playing.choose(tmp_path / "season.json", None, None) == playing.Playing(DEFAULT_SEASON, DEFAULT_SEASON, 1.0)
    assert playing.choose(tmp_path / "season.json", None, 60.0).settings()["BETTING_SPEED"] == "60.000"


def test_the_next_run_goes_on_with_the_same(tmp_path: Path) -> None:
    """Nothing asked for, or the same again."""
    file = tmp_path / "season.json"
    first = playing.choose(file, None, 60.0)
    playing.record(file, first)
    assert playing.choose(file, None, None) == first
    assert playing.choose(file, DEFAULT_SEASON, 60.0) == first


def test_another_speed_or_season_is_refused_in_one_line(tmp_path: Path, other_season: Path) -> None:
    """Bets of the season before would stay open for ever."""
    file = tmp_path / "season.json"
    playing.record(file, playing.choose(file, None, None))
    with pytest.raises(LocalError, match="plays at speed 1: leave --speed out"):
        playing.choose(file, None, 2.0)
    with pytest.raises(LocalError, match=f"plays season {DEFAULT_SEASON}, not D1-2024-25"):
        playing.choose(file, str(other_season), None)


def test_a_record_that_cannot_be_read_is_not_guessed(tmp_path: Path) -> None:
    """It says so, and what to do."""
    file = tmp_path / "season.json"
    file.write_text("{")
    with pytest.raises(LocalError, match=r"season\.json cannot be read"):
        playing.choose(file, None, None)


@pytest.fixture
def other_season(tmp_path: Path) -> Path:
    """The shipped matches as if of another league."""
    text = resources.files("betting.feeds.seasons").joinpath(f"{DEFAULT_SEASON}.csv").read_text(encoding="utf-8-sig")
    file = tmp_path / "other.csv"
    file.write_text(text.replace("\nE0,", "\nD1,"), encoding="utf-8")
    return file
