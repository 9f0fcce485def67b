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
    """Matches, markets by kind, the bookmaker's columns, no problems."""
    result = CliRunner().invoke(app, ["E0-2024-25"])
    assert result.exit_code == 0
    assert all(text in result.output for text in ("380", "541", "161", "B365 (1301)", "none"))


def test_shows_every_problem_and_fails(app: typer.Typer, tmp_path: Path) -> None:
    """Exit code 1, the line, the column, and cells that look like markup shown as they are."""
    file = tmp_path / "broken.csv"
    file.write_text("Div,Date,HomeTeam,AwayTeam,FTHG,FTAG\nE0,[red]x[/nope],A,B,1,0\nE0,01/01/2024,A,B,1,\n")
    result = CliRunner().invoke(app, [str(file)])
    assert result.exit_code == 1
    assert "2 problems" in result.output
    assert all(text in result.output for text in ("Date", "[red]x", "FTAG"))
