"""`betting heal` on flight records as they are found in a data folder."""

from __future__ import annotations

from pathlib import Path

from healing_scenes import recorded
from typer.testing import CliRunner

from betting.cli import main
from betting_operator.healing import flight


def test_records_of_another_release_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    """What this release wrote itself is told all the same, also when its last line is still being written."""
    folder = tmp_path / "flight"
    folder.mkdir()
    opening, *ticks = recorded()
    older = opening.replace(f'"flight":{flight.VERSION}', f'"flight":{flight.VERSION - 1}')
    (folder / "flight-1.jsonl").write_text("".join(f"{line}\n" for line in (older, *ticks)))
    (folder / "flight-2.jsonl").write_text("".join(f"{line}\n" for line in (opening, *ticks)) + ticks[0][:40])
    arguments = ["heal", "log", "--data", str(tmp_path)]
    shown = CliRunner().invoke(main.build(arguments), arguments)
    assert shown.exit_code == 0, shown.output
    assert "flight-1.jsonl is left out: line 1: version" in shown.stderr
    assert "bet-service-2" in shown.stdout
