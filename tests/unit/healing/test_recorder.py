"""The record of a healer on a disk that fills up: healing goes on, nothing good is lost, and it can be read again."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from healing_scenes import calm
from typer.testing import CliRunner

from betting.cli import main
from betting_operator.healer import recorder
from betting_operator.healer.recorder import Recorder
from betting_operator.healing import flight
from betting_operator.healing.brain import decide
from betting_operator.healing.flight import Record
from betting_operator.healing.memory import Memory
from betting_operator.healing.policy import Policy


@pytest.fixture(autouse=True)
def _output_in_memory(capsys: pytest.CaptureFixture[str]) -> None:
    """What is logged meanwhile would meet the same full disk; `runtime.logs` lets such lines go."""


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Files of this process may not get larger: what goes beyond is cut off or refused, as by a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Life:
    """A healer's ticks, as it records them."""

    def __init__(self, kept: Recorder) -> None:
        self.kept = kept
        self.memory = Memory()
        self.ticks = 0

    def tick(self, count: int = 1) -> None:
        """So many calm ticks."""
        for _ in range(count):
            seen = calm(self.ticks * 500)
            tick = decide(self.memory, seen, Policy())
            self.kept.write(self.memory, Record(self.ticks, Policy(), seen, tick.diagnoses, tick.plan))
            self.memory = tick.memory
            self.ticks += 1


def told(folder: Path) -> list[int]:
    """Which ticks can be read."""
    return [record.wall_us for record in recorder.records(folder)]


def replayed(folder: Path) -> bool:
    """Whether every file that is there can be replayed, and comes out as recorded."""
    return all(
        difference is None
        for file in recorder.files(folder)
        for difference in flight.replay(file.read_text("utf-8").splitlines())
    )


def test_a_full_disk_stops_neither_healing_nor_for_ever_the_record(tmp_path: Path) -> None:
    """Also in the middle of a line; what could not be written meanwhile is written when there is room again."""
    life = Life(Recorder(tmp_path, retry_s=0.0))
    life.tick(5)
    assert not life.kept.problem
    [file] = recorder.files(tmp_path)
    with room_for(file.stat().st_size + 100):
        life.tick(5)
        assert str(tmp_path) in life.kept.problem
    life.tick()
    assert not life.kept.problem
    assert told(tmp_path) == list(range(11))
    assert replayed(tmp_path)


def test_a_healer_that_starts_on_a_full_disk_leaves_no_empty_file_and_prunes_nothing(tmp_path: Path) -> None:
    """However often it starts."""
    Life(Recorder(tmp_path)).tick(3)
    with room_for(0):
        for _ in range(6):
            again = Life(Recorder(tmp_path))
            again.tick(2)
            assert again.kept.problem
            again.kept.close()
    assert told(tmp_path) == [0, 1, 2]
    assert len(recorder.files(tmp_path)) == 1


def test_memory_keeps_the_latest_ticks_and_stays_small(tmp_path: Path) -> None:
    """The oldest go; what is written at last begins with the memory that its first tick began with."""
    life = Life(Recorder(tmp_path, retry_s=0.0))
    with room_for(0):
        life.tick(1_200)
    life.tick()
    found = told(tmp_path)
    assert found == list(range(found[0], 1_201))
    assert 0 < found[0] < 1_100
    assert replayed(tmp_path)


def test_the_oldest_files_go_by_bytes(tmp_path: Path) -> None:
    """And empty ones at once; a small folder keeps everything, however many files it has."""
    (tmp_path / "flight-0001.jsonl").touch()
    for _ in range(8):
        small = Life(Recorder(tmp_path))
        small.tick()
        small.kept.close()
    assert len(recorder.files(tmp_path)) == 8
    life = Life(Recorder(tmp_path, file_bytes_max=20_000))
    life.tick(100)
    sizes = [file.stat().st_size for file in recorder.files(tmp_path)]
    assert 40_000 < sum(sizes) < 100_000
    assert told(tmp_path)[-1] == 99


def test_damaged_files_are_skipped_and_named(tmp_path: Path) -> None:
    """`betting heal log` tells the rest."""
    folder = tmp_path / "flight"
    life = Life(Recorder(folder))
    life.tick(2)
    [good] = recorder.files(folder)
    (folder / "flight-0001.jsonl").touch()
    (folder / "flight-0002.jsonl").write_bytes(b"\x00" * 4_096 + b"\n")
    (folder / "flight-0003.jsonl").write_text("".join(good.read_text().splitlines(keepends=True)[:2]) + '{"is":"Rec\n')
    arguments = ["heal", "log", "--data", str(tmp_path)]
    shown = CliRunner().invoke(main.build(arguments), arguments)
    assert shown.exit_code == 0, shown.output
    assert "flight-0001.jsonl is left out: it is empty" in shown.stderr
    assert "flight-0002.jsonl is left out from there on: line 1: cut off or damaged" in shown.stderr
    assert "flight-0003.jsonl is left out from there on: line 3: cut off or damaged" in shown.stderr
    assert told(folder) == [0, 0, 1]
