"""The supervisor's state file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from betting.supervision import state
from betting.supervision.errors import PlatformError
from betting.supervision.process import describe_exit
from betting.supervision.supervisor import Supervisor


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    """Phases, ports and process ids survive the file."""
    process = state.ProcessState("bet-service-1", state.ProcessPhase.PAUSED, pid=12, boot_id="ab", restarts=3)
    saved = state.PlatformState(1, 2, {"http": 8080}, [process])
    state.save(tmp_path / "state.json", saved)
    assert state.load(tmp_path / "state.json") == saved


def test_a_file_that_cannot_be_written_leaves_the_last_one_and_nothing_else(tmp_path: Path) -> None:
    """As on a full disk: the reader sees the state of before, and no part of a file is left."""
    state.save(tmp_path / "state.json", state.PlatformState(1, 2))
    (tmp_path / "other").mkdir()
    with pytest.raises(OSError):
        state.save(tmp_path / "other", state.PlatformState(1, 3))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["other", "state.json"]
    assert state.load(tmp_path / "state.json").started_at_us == 2


async def test_a_supervisor_that_cannot_write_its_state_reports_it_once_and_stops_in_order(tmp_path: Path) -> None:
    """A full disk takes no state file; what the healer reports is on the screen all the same."""
    notes: list[str] = []
    supervisor = Supervisor(tmp_path, {}, notes.append)  # a folder: nothing can be written in its place
    for number in range(3):
        supervisor.report_healing([f"line {number}"])
        await asyncio.sleep(0)
    await supervisor.stop()
    assert [note for note in notes if note.startswith("healer: ")] == [f"healer: line {n}" for n in range(3)]
    assert len([note for note in notes if "is not written" in note]) == 1


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"processes": [{"name": 1}]}', '{"processes": [], "other": 1}'])
def test_a_foreign_file_is_refused_with_one_line(tmp_path: Path, content: str) -> None:
    """Whatever the file holds, the answer is a sentence and not a traceback."""
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(PlatformError, match="run `betting up` again"):
        state.load(tmp_path / "state.json")


def test_no_file_means_never_started(tmp_path: Path) -> None:
    """The message says what to run."""
    with pytest.raises(PlatformError, match="run `betting up` first"):
        state.load(tmp_path / "state.json")


def test_exits_are_told_in_words() -> None:
    """A signal and a code read differently."""
    assert describe_exit(-9) == "killed by SIGKILL"
    assert describe_exit(1) == "exit code 1"
