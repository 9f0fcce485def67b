"""What the healer's flight record says of a time: read by the demo and the quiet runs."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from pathlib import Path

from betting_operator.healing import flight
from betting_operator.healing.diagnoses import Kind
from betting_operator.healing.flight import Record
from betting_operator.local import recorder

# Moves for balance go on long after whatever made them necessary.
_UNREST = frozenset({Kind.SHARDS_MISPLACED})


def records(folder: Path) -> Iterator[Record]:
    """Every tick so far, oldest first; one that is being written is left out."""
    for file in recorder.files(folder):
        lines = [line for line in file.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]
        if lines:
            yield from flight.read(lines)[1]


def detections_s(folder: Path, faults_us: Sequence[int]) -> list[float | None]:
    """For moments in ascending order (microseconds since 1970): seconds until something new was confirmed, or None.

    What was confirmed after the next moment is the next one's.
    """
    found: list[float | None] = [None] * len(faults_us)
    standing: set[tuple[Kind, str]] = set()
    for record in records(folder):
        confirmed = {
            (each.kind, each.target) for each in record.diagnoses if each.confirmed and each.kind not in _UNREST
        }
        number = bisect.bisect_right(faults_us, record.wall_us) - 1
        if number >= 0 and found[number] is None and confirmed - standing:
            found[number] = (record.wall_us - faults_us[number]) / 1e6
        standing = confirmed
    return found
