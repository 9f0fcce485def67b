"""The record of a healer on a disk that fills up: healing goes on, nothing good is lost, and it can be read again."""

from __future__ import annotations

import gzip
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from healing_scenes import calm
from typer.testing import CliRunner

from betting.cli import main
from betting_operator import flight_files
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
    return [record.wall_us for record in flight_files.records(folder)]


def replayed(folder: Path) -> bool:
    """Whether every file that is there can be replayed, and comes out as recorded."""
    for file in flight_files.files(folder):
        with flight_files.opened(file) as lines:
            if any(difference is not None for difference in flight.replay(lines)):
                return False
    return True


def test_a_full_disk_stops_neither_healing_nor_for_ever_the_record(tmp_path: Path) -> None:
    """Also in the middle of a line; what could not be written meanwhile is written when there is room again."""
    life = Life(Recorder(tmp_path, retry_s=0.0))
    life.tick(5)
    assert not life.kept.problem
    [file] = flight_files.files(tmp_path)
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
    assert len(flight_files.files(tmp_path)) == 1


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
    assert len(flight_files.files(tmp_path)) == 8
    life = Life(Recorder(tmp_path, file_bytes_max=20_000))
    life.tick(600)
    life.kept.close()
    sizes = [file.stat().st_size for file in flight_files.files(tmp_path)]
    assert 40_000 < sum(sizes) < 100_000
    assert told(tmp_path)[-1] == 599


def four_files(folder: Path) -> list[Path]:
    """Of four healers, with ten ticks each."""
    for number in range(4):
        life = Life(Recorder(folder))
        life.ticks = 10 * number
        life.tick(10)
        life.kept.close()
    return flight_files.files(folder)


def test_all_but_the_newest_files_are_compressed_and_read_as_before(tmp_path: Path) -> None:
    """`betting heal replay` takes one as it is, and names a damaged one."""
    first, *_ = before = four_files(tmp_path)
    size = first.stat().st_size
    flight_files.pack(tmp_path)
    packed = Path(f"{first}.gz")
    assert flight_files.files(tmp_path) == [packed, Path(f"{before[1]}.gz"), *before[2:]]
    assert packed.stat().st_size < size / 4
    assert packed.stat().st_mode & 0o777 == 0o600
    assert told(tmp_path) == list(range(40))
    assert replayed(tmp_path)
    with flight_files.opened(first) as lines:  # as of somebody who had listed the folder before
        assert lines.readline()
    arguments = ["heal", "replay", str(packed)]
    assert "10 ticks, 0 decided differently" in CliRunner().invoke(main.build(arguments), arguments).output
    packed.write_bytes(packed.read_bytes()[:-100])
    broken = CliRunner().invoke(main.build(arguments), arguments)
    assert "damaged" in str(broken.exception)
    assert told(tmp_path)[-30:] == list(range(10, 40))


def test_files_are_compressed_as_soon_as_others_are_full(tmp_path: Path) -> None:
    """Beside the ticks, which do not wait for it."""
    life = Life(Recorder(tmp_path, file_bytes_max=20_000))
    life.tick(100)
    life.kept.close()
    assert {file.suffix for file in flight_files.files(tmp_path)} == {".gz", ".jsonl"}
    assert told(tmp_path)[-1] == 99
    assert replayed(tmp_path)


def test_a_file_that_is_not_compressed_whole_stays_as_it_is(tmp_path: Path) -> None:
    """By a full disk, or a healer that was killed at it: nothing is lost, and nothing told twice."""
    first, *_ = before = four_files(tmp_path)
    with room_for(100):
        flight_files.pack(tmp_path)
    assert sorted(tmp_path.iterdir()) == before
    Path(f"{first}.gz").write_bytes(gzip.compress(first.read_bytes()))
    (tmp_path / f".{before[1].name}.gz").write_bytes(b"a part")
    assert told(tmp_path) == list(range(40))
    flight_files.pack(tmp_path)
    assert told(tmp_path) == list(range(40))
    assert sorted(tmp_path.iterdir()) == [Path(f"{first}.gz"), Path(f"{before[1]}.gz"), *before[2:]]


def test_damaged_files_are_skipped_and_named(tmp_path: Path) -> None:
    """`betting heal log` tells the rest."""
    folder = tmp_path / "flight"
    life = Life(Recorder(folder))
    life.tick(2)
    [good] = flight_files.files(folder)
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
