"""Compares ticks and describes the changes in lines for people; nothing is repeated while it stays the same."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from betting_operator.healing.actions import Alert
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.flight import Record
from betting_operator.healing.plan import open_alerts

# Said by what is done about them.
_QUIET = frozenset({Kind.SHARDS_MISPLACED})
# The status of the platform has a line for each such shard already.
_SHOWN_BY_SHARD = frozenset({Kind.SHARD_STOPPED})
ALERTS_SHOWN = 20


@dataclass
class Reporter:
    """Keeps what was reported. A diagnosis that is not confirmed may change between suspected and cannot-tell with
    every reply that some caller gets: each of the two is reported once until it is confirmed or over. So is each
    reason why nothing is done about it."""

    _standing: dict[str, frozenset[Certainty]] = field(default_factory=dict)  # a diagnosis, and what was reported of it
    _declined: dict[str, frozenset[str]] = field(default_factory=dict)  # a diagnosis, and the reasons reported of it
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
            if each.certainty not in self._standing.get(name, ()):
                yield f"{each.certainty}: {name} ({'; '.join(each.evidence)})"
        self._standing = {name: _reported(self._standing.get(name, frozenset()), each) for name, each in now.items()}

    def _not_done(self, record: Record) -> Iterator[str]:
        now: dict[str, frozenset[str]] = {}
        for each in record.plan.declined:
            name, reason = f"{each.kind} {each.target}", _without_numbers(each.reason)
            before = now.get(name, self._declined.get(name, frozenset()))
            if reason not in before:
                yield f"not done: {name}: {each.reason}"
            now[name] = before | {reason}
        self._declined = now


def alert_lines(diagnoses: Iterable[Diagnosis], standing: Collection[str]) -> tuple[str, ...]:
    """The alerts that stand, for the status of the platform: the most urgent ones first, and how many more there are.

    standing: `Memory.alerted`.
    """
    alerts = open_alerts((each for each in diagnoses if each.kind not in _SHOWN_BY_SHARD), standing)
    lines = tuple(f"{each.about}: {each.text}" for each in alerts)
    more = len(lines) - ALERTS_SHOWN
    return lines if more <= 0 else (*lines[:ALERTS_SHOWN], f"{more} more alerts of the healer: see betting heal log")


def mode(record: Record) -> str:
    """The mode of healing other than normal operation; "": none."""
    paused = f"healing is paused: {record.policy.paused}" if record.policy.paused else ""
    dry_run = "dry run: nothing is done" if record.policy.dry_run else ""
    return "; ".join(filter(None, (paused, dry_run)))


def _reported(before: frozenset[Certainty], each: Diagnosis) -> frozenset[Certainty]:
    if each.confirmed:
        return frozenset((Certainty.CONFIRMED,))
    return before - {Certainty.CONFIRMED} | {each.certainty}


def _name(each: Diagnosis) -> str:
    return f"{each.kind} {each.target}"


def _without_numbers(reason: str) -> str:
    """A reason without its numbers, which change with every tick."""
    return "".join(letter for letter in reason if not letter.isdigit())
