"""Compares ticks and describes the changes in lines for people; nothing is repeated while it stays the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from betting_operator.healing.actions import Alert
from betting_operator.healing.diagnoses import Diagnosis, Kind
from betting_operator.healing.flight import Record
from betting_operator.healing.plan import Declined

# Said by what is done about them.
_QUIET = frozenset({Kind.SHARDS_MISPLACED})


@dataclass
class Reporter:
    """Keeps what was reported."""

    _standing: dict[str, str] = field(default_factory=dict)  # a diagnosis, and how certain it was
    _declined: set[str] = field(default_factory=set)
    _mode: str = ""

    def lines(self, record: Record) -> Iterator[str]:
        """The lines about what changed with this tick."""
        yield from self._modes(record)
        yield from self._diagnoses(record)
        for action, outcome in zip(record.plan.actions, record.outcomes, strict=False):
            yield f"{'alert' if isinstance(action, Alert) else 'action'}: {outcome}"
        yield from self._not_done(record)

    def _modes(self, record: Record) -> Iterator[str]:
        now = mode(record)
        if now != self._mode:
            self._mode = now
            yield f"mode: {now}" if now else "mode: healing is on again"

    def _diagnoses(self, record: Record) -> Iterator[str]:
        now = {_name(each): each for each in record.diagnoses if each.kind not in _QUIET}
        for name in sorted(self._standing.keys() - now.keys()):
            yield f"over: {name}"
        for name, each in now.items():
            if self._standing.get(name) != each.certainty:
                yield f"{each.certainty}: {name} ({'; '.join(each.evidence)})"
        self._standing = {name: each.certainty for name, each in now.items()}

    def _not_done(self, record: Record) -> Iterator[str]:
        now = {_undone(each): each for each in record.plan.declined}
        for name, each in now.items():
            if name not in self._declined:
                yield f"not done: {each.kind} {each.target}: {each.reason}"
        self._declined = set(now)


def mode(record: Record) -> str:
    """The mode of healing other than normal operation; "": none."""
    paused = f"healing is paused: {record.policy.paused}" if record.policy.paused else ""
    dry_run = "dry run: nothing is done" if record.policy.dry_run else ""
    return "; ".join(filter(None, (paused, dry_run)))


def _name(each: Diagnosis) -> str:
    return f"{each.kind} {each.target}"


def _undone(each: Declined) -> str:
    """A declined action without its numbers, which change with every tick."""
    return f"{each.kind} {each.target} {''.join(letter for letter in each.reason if not letter.isdigit())}"
