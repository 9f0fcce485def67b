"""The flight record: every tick in one line, so that every plan can be made again and compared.

The first line of a file holds the version and the memory before its first tick; each later line one observation with
the policy in force, and the diagnoses and plan that came of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from betting_operator.healing.brain import Tick, decide
from betting_operator.healing.codec import Unreadable, from_json, to_json
from betting_operator.healing.diagnoses import Diagnosis
from betting_operator.healing.memory import Memory
from betting_operator.healing.plan import Plan
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Observation

VERSION = 10


class BadRecord(ValueError):
    """A flight record that cannot be replayed; the message names the line and what is wrong with it."""


class OtherVersion(BadRecord):
    """Another release wrote it."""


@dataclass(frozen=True, slots=True)
class Record:
    """One tick as it was. wall_us: when, in microseconds since 1970; outcomes: what came of the actions. For people."""

    wall_us: int
    policy: Policy
    seen: Observation
    diagnoses: tuple[Diagnosis, ...]
    plan: Plan
    outcomes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """A tick whose plan would be another today."""

    line: int
    recorded: Plan
    derived: Plan


def opening(memory: Memory) -> str:
    """The first line of a file."""
    return _line({"flight": VERSION, "memory": to_json(memory)})


def line(record: Record) -> str:
    """One tick."""
    return _line(to_json(record))


def read(lines: Iterable[str]) -> tuple[Memory, Iterator[Record]]:
    """The memory before, and the ticks. Raises BadRecord, also while the ticks are read."""
    numbered = enumerate(lines, start=1)
    try:
        _number, first = next(numbered)
    except StopIteration:
        raise BadRecord("line 1: the record is empty") from None
    head = _parsed(1, first)
    if not isinstance(head, dict) or "flight" not in head:
        raise BadRecord("line 1: this is no flight record")
    if head["flight"] != VERSION:
        raise OtherVersion(f"line 1: version {head['flight']} cannot be read by this release, which writes {VERSION}")
    memory: Memory = _decoded(Memory, head.get("memory"), 1)
    return memory, (_decoded(Record, _parsed(number, text), number) for number, text in numbered)


def replay(lines: Iterable[str]) -> Iterator[Difference | None]:
    """One item a tick: None where the plan comes out as recorded. Raises BadRecord."""
    memory, records = read(lines)
    for number, record in enumerate(records, start=2):
        tick: Tick = decide(memory, record.seen, record.policy)
        memory = tick.memory
        yield None if tick.plan == record.plan else Difference(number, record.plan, tick.plan)


def _line(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _parsed(number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise BadRecord(f"line {number}: cut off or damaged") from None


def _decoded(kind: Any, raw: Any, number: int) -> Any:
    try:
        return from_json(kind, raw)
    except Unreadable as error:
        raise BadRecord(f"line {number}: {error}") from None
