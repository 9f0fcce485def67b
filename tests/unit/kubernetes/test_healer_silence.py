"""When the operator takes its healer for hanging: by a file that it touches."""

from __future__ import annotations

import os
from pathlib import Path

from betting_operator.kubernetes.healer_process import LOOK_S, Silence


def touched(file: Path, at_s: int) -> None:
    file.touch()
    os.utime(file, (at_s, at_s))


def test_silence_counts_from_the_last_sign_of_life(tmp_path: Path) -> None:
    file = tmp_path / "signs"
    silence = Silence(file)
    assert [silence.seconds(now) for now in (0.0, 1.0)] == [0.0, 0.0], "it starts"
    touched(file, 1)
    assert [silence.seconds(now) for now in (2.0, 3.0, 4.0)] == [0.0, 1.0, 2.0]
    touched(file, 2)
    assert [silence.seconds(now) for now in (5.0, 6.0)] == [0.0, 1.0]
    file.unlink()
    assert silence.seconds(7.0) == 0.0, "without the file nobody can tell"


def test_what_the_healer_before_has_written_is_no_sign_of_life(tmp_path: Path) -> None:
    """This one waits for its database, say, and has not begun yet."""
    file = tmp_path / "signs"
    touched(file, 1)
    silence = Silence(file)
    assert not any(silence.seconds(float(now)) for now in range(100))


def test_time_in_which_nobody_looked_does_not_count(tmp_path: Path) -> None:
    """The operator was stopped, or the machine asleep, and the healer with it."""
    file = tmp_path / "signs"
    silence = Silence(file)
    touched(file, 1)
    silence.seconds(0.0)
    assert silence.seconds(1_000.0) == 2 * LOOK_S


def test_where_no_file_is_named_nobody_hangs() -> None:
    silence = Silence(None)
    assert not any(silence.seconds(float(now)) for now in range(100))
