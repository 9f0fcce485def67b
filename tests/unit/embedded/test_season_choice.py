"""A folder plays one season, at one speed, whatever a later run asks for."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from betting.embedded import season_choice
from betting.feeds.seasons.shipped import DEFAULT_SEASON
from betting.supervision.errors import PlatformError


def test_a_new_folder_plays_what_was_asked_for(tmp_path: Path) -> None:
    """And the shipped season at life's pace when nothing was."""
    assert season_choice.choose(tmp_path / "season.json", None, None) == season_choice.SeasonChoice(
        DEFAULT_SEASON, DEFAULT_SEASON, 1.0
    )
    assert season_choice.choose(tmp_path / "season.json", None, 60.0).settings()["BETTING_SPEED"] == "60.000"


def test_the_next_run_goes_on_with_the_same(tmp_path: Path) -> None:
    """Nothing asked for, or the same again."""
    file = tmp_path / "season.json"
    first = season_choice.choose(file, None, 60.0)
    season_choice.record(file, first)
    assert season_choice.choose(file, None, None) == first
    assert season_choice.choose(file, DEFAULT_SEASON, 60.0) == first


def test_another_speed_or_season_is_refused_in_one_line(tmp_path: Path, other_season: Path) -> None:
    """Bets of the season before would stay open for ever."""
    file = tmp_path / "season.json"
    season_choice.record(file, season_choice.choose(file, None, None))
    with pytest.raises(PlatformError, match="plays at speed 1: leave --speed out"):
        season_choice.choose(file, None, 2.0)
    with pytest.raises(PlatformError, match=f"plays season {DEFAULT_SEASON}, not D1-2024-25"):
        season_choice.choose(file, str(other_season), None)


def test_what_is_odd_in_the_season_is_said_at_every_start(tmp_path: Path, other_season: Path) -> None:
    """A sentence each, the first ten; nothing of it is recorded."""
    text = other_season.read_text(encoding="utf-8")
    other_season.write_text(
        re.sub(r"(\nD1,[^,]*,[^,]*,[^,]*,[^,]*),\d,\d,[HDA],", r"\1,4,0,D,", text, count=12), "utf-8"
    )
    file = tmp_path / "season.json"
    for _ in range(2):
        chosen = season_choice.choose(file, str(other_season), None)
        assert len(chosen.odd) == season_choice.ODD_SHOWN + 1
        assert chosen.odd[0].startswith("season D1-2024-25, line 2, column FTR: 'D' contradicts the score 4-0")
        assert "more odd places" in chosen.odd[-1]
        season_choice.record(file, chosen)
    assert '"odd"' not in file.read_text()


def test_trusting_goals_is_remembered(tmp_path: Path) -> None:
    """Asked for once, also by a later run; a record of an earlier version has not asked for it."""
    file = tmp_path / "season.json"
    file.write_text('{"source": "E0-2024-25", "name": "E0-2024-25", "speed": 1.0}')
    assert not season_choice.choose(file, None, None).trust_goals
    season_choice.record(file, season_choice.choose(file, None, None, trust_goals=True))
    assert season_choice.choose(file, None, None).settings()["BETTING_TRUST_GOALS"] == "true"


def test_a_record_that_cannot_be_read_is_not_guessed(tmp_path: Path) -> None:
    """It says so, and what to do."""
    file = tmp_path / "season.json"
    file.write_text("{")
    with pytest.raises(PlatformError, match=r"season\.json cannot be read"):
        season_choice.choose(file, None, None)


@pytest.fixture
def other_season(tmp_path: Path) -> Path:
    """The shipped matches as if of another league."""
    text = resources.files("betting.feeds.seasons").joinpath(f"{DEFAULT_SEASON}.csv").read_text(encoding="utf-8-sig")
    file = tmp_path / "other.csv"
    file.write_text(text.replace("\nE0,", "\nD1,"), encoding="utf-8")
    return file
