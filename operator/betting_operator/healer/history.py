"""What happened, for people: every action once, every diagnosis with its beginning and its end. Heals nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from betting.runtime import logs, metrics
from betting.runtime.loops import FailureLog
from betting_operator.healer.executor import Span
from betting_operator.healing import causes
from betting_operator.healing.actions import Action, Alert, describe
from betting_operator.healing.causes import Target
from betting_operator.healing.diagnoses import TABLE, Certainty, Diagnosis, Kind
from betting_operator.healing.flight import Record
from betting_operator.healing.plan import Declined
from betting_operator.healing.repairs import Episode, Failover, Repairs, follow
from betting_operator.healing.signals import Exit

# What is declined for the same reason for so long is told: a kill that waits for its end is shorter.
DECLINED_AFTER_MS = 5_000
# The same action with the same outcome is told again only after so long without it.
AGAIN_AFTER_MS = 60_000
# Of what was done about one diagnosis, so much is told to have helped.
ANSWERS_MAX = 100
# From a container that restarts to a node that is lost, and to a person who is called.
REPAIR_BUCKETS_S = (0.5, 1, 2, 3, 5, 8, 15, 30, 60, 120, 300, 900, 3_600)

_log = logs.get(__name__)


class Outcome(StrEnum):
    """How an action ended."""

    DONE = "Done"
    UNCHANGED = "Unchanged"  # there was nothing to do any more: somebody else had done it, or it was another life
    FAILED = "Failed"
    DECLINED = "Declined"  # it was not begun


class Number(NamedTuple):
    """Which entry: the time of its flight record, in microseconds since 1970, and its place in it. It never repeats."""

    wall_us: int
    place: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One action, or one that was declined. action: its name, "" of a declined one; message: its outcome in words.

    evidence_us, began_us, ended_us: microseconds since 1970.
    """

    number: Number
    term: int
    diagnosis: Kind | None
    about: str
    certainty: Certainty | None
    evidence: tuple[str, ...]
    evidence_us: int
    target: Target
    action: str
    decision: str
    reason: str
    outcome: Outcome
    message: str
    began_us: int
    ended_us: int


@dataclass(frozen=True, slots=True)
class Repaired:
    """A diagnosis is over, and these entries were about it. ended_us: since 1970; took_ms: from its evidence on."""

    diagnosis: Kind
    about: str
    entries: tuple[Number, ...]
    ended_us: int
    took_ms: int


class Lasting(NamedTuple):
    """An episode that lasts. since_us: the beginning of its evidence, microseconds since 1970."""

    episode: Episode
    since_us: int


@dataclass(frozen=True, slots=True)
class Present:
    """After a tick. lasting: what is shown; over: what ended with it; last: the newest action.

    offset_us: from the clock of the ticks to microseconds since 1970.
    """

    term: int
    offset_us: int
    lasting: tuple[Lasting, ...] = ()
    over: tuple[Episode, ...] = ()
    failover: Failover | None = None
    last: Entry | None = None


@dataclass
class _Reason:
    since_ms: int
    told: bool = False


@dataclass
class History:
    """Of this healer's term. happened: told of everything to be kept; present: told after every tick. Neither may wait.

    None: nobody but the metrics is told.
    """

    happened: Callable[[Entry | Repaired], None] | None = None
    present: Callable[[Present], None] | None = None
    _repairs: Repairs = field(default_factory=Repairs)
    _since_us: dict[tuple[Kind, str], int] = field(default_factory=dict)  # by the clock of when it was seen first
    _answers: dict[tuple[Kind, str], list[Number]] = field(default_factory=dict)
    _done: dict[str, tuple[str, int]] = field(default_factory=dict)  # an action: its outcome, and when it was last had
    _declined: dict[tuple[Kind, str, str], _Reason] = field(default_factory=dict)
    _last: Entry | None = None

    def __post_init__(self) -> None:
        self._failures = FailureLog(_log, "history not told")
        self._seconds = metrics.histogram(
            "betting_healer_repair_seconds",
            "From the beginning of the evidence for a confirmed diagnosis until it was over",
            ("diagnosis",),
            buckets=REPAIR_BUCKETS_S,
        )
        self._standing = metrics.gauge("betting_healer_diagnoses", "Confirmed diagnoses that stand", ("diagnosis",))
        for kind in Kind:  # from 0 on: Prometheus sees no increase where a series begins
            self._seconds.labels(kind.value)
            self._standing.labels(kind.value).set(0)

    def note(self, term: int, record: Record, exits: Sequence[Exit], looked_us: int, spans: Sequence[Span]) -> None:
        """After every tick. Raises nothing: the healer goes on without it.

        exits: of the window (`Memory.exits`). looked_us: when `record.seen` was looked at, in microseconds since 1970.
        spans: of the actions, in their order.
        """
        try:
            self._take(term, record, exits, looked_us, spans)
        except Exception as error:
            self._failures.failed(error, exc_info=error)

    def _take(self, term: int, record: Record, exits: Sequence[Exit], looked_us: int, spans: Sequence[Span]) -> None:
        standing = Counter(each.kind for each in record.diagnoses if each.confirmed)
        for kind in Kind:
            self._standing.labels(kind.value).set(standing[kind])
        at_ms = record.seen.at_ms
        followed = follow(self._repairs, record.seen, record.diagnoses, exits)
        self._repairs = followed.repairs
        offset_us = looked_us - at_ms * 1_000
        self._since_us = {
            each.key: self._since_us.get(each.key, offset_us + each.began_ms * 1_000)
            for each in (*followed.repairs.episodes, *followed.over)
        }
        for entry in self._entries(term, record, spans, offset_us):
            self._note(entry)
        for each in followed.over:
            self._seconds.labels(each.kind.value).observe(each.took_ms / 1_000)
            entries = tuple(self._answers.pop(each.key, ()))
            if entries and self.happened is not None:
                ended_us = self._since_us[each.key] + each.took_ms * 1_000
                self.happened(Repaired(each.kind, each.target, entries, ended_us, each.took_ms))
        lasting = {each.key for each in self._repairs.episodes}
        self._answers = {key: found for key, found in self._answers.items() if key in lasting}
        if self.present is not None:
            shown = tuple(Lasting(each, self._since_us[each.key]) for each in self._repairs.standing(at_ms))
            self.present(Present(term, offset_us, shown, followed.over, followed.failover, self._last))

    def _note(self, entry: Entry) -> None:
        if entry.diagnosis is not None:
            answers = self._answers.setdefault((entry.diagnosis, entry.about), [])
            if len(answers) < ANSWERS_MAX:
                answers.append(entry.number)
        if entry.outcome is not Outcome.DECLINED:
            self._last = entry
        if self.happened is not None:
            self.happened(entry)

    def _entries(self, term: int, record: Record, spans: Sequence[Span], offset_us: int) -> Iterator[Entry]:
        index = 0
        for action, line, span in zip(record.plan.actions, record.outcomes, spans, strict=False):
            cause = causes.cause_of(action, record.diagnoses, record.seen)
            outcome, message = outcome_of(action, line)
            if self._is_news(action, cause, outcome, message, record.seen.at_ms):
                yield Entry(
                    Number(record.wall_us, index),
                    term,
                    *self._about(cause, record, offset_us),
                    target=causes.target_of(action),
                    action=type(action).__name__,
                    decision=describe(action),
                    reason="" if cause is None else TABLE[cause.kind].heals,
                    outcome=outcome,
                    message=message,
                    began_us=span.began_us,
                    ended_us=span.ended_us,
                )
                index += 1
        for declined in self._lasting(record):
            yield self._not_done(term, Number(record.wall_us, index), declined, record, offset_us)
            index += 1

    def _is_news(self, action: Action, cause: Diagnosis | None, outcome: Outcome, message: str, at_ms: int) -> bool:
        """Planned moves are one thing, however many ticks they take."""
        name, how = describe(action), f"{outcome}: {without_digits(message)}"
        if cause is not None and cause.kind is Kind.SHARDS_MISPLACED:
            name, how = cause.kind, outcome
        before, last_ms = self._done.get(name, ("", at_ms - AGAIN_AFTER_MS))
        self._done = {each: found for each, found in self._done.items() if at_ms - found[1] < AGAIN_AFTER_MS}
        self._done[name] = how, at_ms
        return before != how or at_ms - last_ms >= AGAIN_AFTER_MS

    def _about(
        self, cause: Diagnosis | None, record: Record, offset_us: int
    ) -> tuple[Kind | None, str, Certainty | None, tuple[str, ...], int]:
        """diagnosis, about, certainty, evidence, evidence_us."""
        if cause is None:
            return None, "", None, (), offset_us + record.seen.at_ms * 1_000
        since_us = self._since_us[cause.kind, cause.target]
        return cause.kind, cause.target, cause.certainty, cause.evidence, since_us

    def _lasting(self, record: Record) -> Iterator[Declined]:
        """What is confirmed, could be healed, and for the same reason is not: once for each reason."""
        at_ms, before = record.seen.at_ms, self._declined
        self._declined = {}
        for each in record.plan.declined:
            key = (each.kind, each.target, without_digits(each.reason))
            if key in self._declined or not _is_decision(each, record.diagnoses):
                continue
            found = self._declined[key] = before.get(key, _Reason(at_ms))
            if not found.told and at_ms - found.since_ms >= DECLINED_AFTER_MS:
                found.told = True
                yield each

    def _not_done(self, term: int, number: Number, each: Declined, record: Record, offset_us: int) -> Entry:
        same = (d for d in record.diagnoses if d.confirmed and (d.kind, d.target) == (each.kind, each.target))
        cause = next(same, None)
        kind, about, certainty, evidence, evidence_us = self._about(cause, record, offset_us)
        life = None if cause is None else cause.life
        at_us = offset_us + record.seen.at_ms * 1_000
        return Entry(
            number,
            term,
            kind or each.kind,
            about or each.target,
            certainty,
            evidence,
            evidence_us,
            target=Target(each.target) if life is None else causes.of_life(life),
            action="",
            decision="nothing is done" if cause is not None else f"not done: {each.target}",
            reason=each.reason,
            outcome=Outcome.DECLINED,
            message=each.reason,
            began_us=at_us,
            ended_us=at_us,
        )


def outcome_of(action: Action, line: str) -> tuple[Outcome, str]:
    """Of a line of the executor: "what: how it ended"."""
    words = line.removeprefix(f"{describe(action)}: ")
    if words in ("done", "sent"):
        return Outcome.DONE, action.text if isinstance(action, Alert) else words
    if words.startswith("failed: "):
        return Outcome.FAILED, words.removeprefix("failed: ")
    return Outcome.UNCHANGED, words


def without_digits(text: str) -> str:
    """A text without its numbers, which change with every tick."""
    return "".join(letter for letter in text if not letter.isdigit())


def _is_decision(each: Declined, diagnoses: Sequence[Diagnosis]) -> bool:
    """Whether something could have been done: neither is it unsure, nor is nothing ever done about it."""
    if each.reason == TABLE[each.kind].heals:
        return False
    same = [found for found in diagnoses if (found.kind, found.target) == (each.kind, each.target)]
    return not same or any(found.confirmed for found in same)
