"""The healer's flight record as drills read it: the only place where they meet the healer."""

from __future__ import annotations

from pathlib import Path

from betting.drills.target import ReadTicks, Tick
from betting_operator import flight_files
from betting_operator.healing.actions import Alert, Place, describe
from betting_operator.healing.diagnoses import Kind
from betting_operator.healing.flight import Record

# Whatever else a healer does would harm what is well; an action that is new is not harmless until it is named here.
HARMLESS = (Place, Alert)
# What may come and go beside a fault, and is not the detection of one.
ASIDE = (Kind.SHARDS_MISPLACED, Kind.OVERLOADED)


def reader(folder: Path) -> ReadTicks:
    """Reads every tick so far of a flight folder, oldest first; what is being written, or damaged, is left out."""
    return lambda: map(_tick, flight_files.records(folder))


def _tick(record: Record) -> Tick:
    confirmed = (each for each in record.diagnoses if each.confirmed and each.kind not in ASIDE)
    return Tick(
        wall_us=record.wall_us,
        confirmed=frozenset((each.kind.value, each.target) for each in confirmed),
        diagnoses=tuple(f"{each.certainty} {each.kind}" for each in record.diagnoses),
        destructive=tuple(describe(action) for action in record.plan.actions if not isinstance(action, HARMLESS)),
    )
