"""`betting season` on the shipped season and on broken files."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from betting.cli.season import season


@pytest.fixture
def app() -> typer.Typer:
    """The command alone."""
    made = typer.Typer()
    made.command()(season)
    return made


def test_lists_shipped_seasons(app: typer.Typer) -> None:
    """Without an argument: the seasons, their size and dates."""
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 0
    assert all(text in result.output for text in ("E0-2024-25", "380", "2024-08-16", "2025-05-25", "1301"))


def test_summarises_a_good_file(app: typer.Typer) -> None:
    """Matches, markets by kind, the bookmaker's columns, no warnings."""
    result = CliRunner().invoke(app, ["E0-2024-25"])
    assert result.exit_code == 0
    assert all(text in result.output for text in ("380", "541", "161", "B365 (1301)", "none"))


def test_shows_what_is_odd_and_succeeds(app: typer.Typer, tmp_path: Path) -> None:
    """A line per warning with its place; with --trust-goals the match it names has bets."""
    file = tmp_path / "odd.csv"
    file.write_text(
        "Div,Date,HomeTeam,AwayTeam,FTHG,FTAG,FTR,B365H,B365D,B365A\n"
        "E0,14/08/2024,A,B,4,0,D,2.1,3.4,3.6\nE0,15/08/2024,C,D,1,0,H,2.1,0,3.6\nE0,16/08/2024,B,A,1,0,H,2.1,3.4,3.6\n"
    )
    result = CliRunner().invoke(app, [str(file)])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert "2 warnings:" in lines
    assert "line 2, column FTR: 'D' contradicts the score 4-0, which is 'H'; the match plays without bets" in lines
    assert any(line.startswith("line 3, column B365D: odds 0 pay no profit") for line in lines)
    assert "B365 (1)" in result.output
    trusted = CliRunner().invoke(app, ["--trust-goals", str(file)])
    assert "B365 (2)" in trusted.output
    assert "it plays by its goals" in trusted.output


def test_shows_why_a_file_is_refused_and_fails(app: typer.Typer, tmp_path: Path) -> None:
    """Exit code 1, the reason first, then the lines; cells that look like markup are shown as they are."""
    file = tmp_path / "broken.csv"
    file.write_text("Div,Date,HomeTeam,AwayTeam,FTHG,FTAG\nE0,[red]x[/nope],A,B,1,0\nE0,01/01/2024,A,B,1,\n")
    result = CliRunner().invoke(app, [str(file)])
    assert result.exit_code == 1
    assert "3 problems" in result.output
    assert "only 0 of 2 lines" in result.output
    assert all(text in result.output for text in ("Date", "[red]x", "FTAG"))
