"""The supervisor's state file."""

from __future__ import annotations

from pathlib import Path

import pytest

from betting.supervision import state
from betting.supervision.errors import PlatformError
from betting.supervision.process import describe_exit


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    """Phases, ports and process ids survive the file."""
    process = state.ProcessState("bet-service-1", state.ProcessPhase.PAUSED, pid=12, boot_id="ab", restarts=3)
    saved = state.PlatformState(1, 2, {"http": 8080}, [process])
    state.save(tmp_path / "state.json", saved)
    assert state.load(tmp_path / "state.json") == saved


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
