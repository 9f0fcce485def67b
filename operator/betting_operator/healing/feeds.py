"""Producers of prices that have gone silent, by the healer's own clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from betting.life import Life
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.evidence import Evidence, lasted_ms, makes_progress
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Observation, Phase

# The process that reports on producers. What it has not heard yet in its present life is no silence, and neither is
# what it reports while it makes no progress itself.
ODDS_SERVICE = "odds-service"


@dataclass(frozen=True, slots=True)
class Silence:
    """The last heartbeat of a producer. life: of its process; None if it is not a process of ours."""

    producer: str
    life: Life | None
    alive_us: int
    since_ms: int


def watch(before: Sequence[Silence], evidence: Evidence, seen: Observation, policy: Policy) -> tuple[Silence, ...]:
    """Those of this look; one starts anew with a sign of life, with a new life, when odds-service was not heard, and as
    long as odds-service makes no progress."""
    counts = makes_progress(evidence, seen, ODDS_SERVICE, policy)
    known = {(each.producer, each.life, each.alive_us): each for each in before if counts}
    lives = _lives(seen)
    found = []
    for feed in seen.feeds or ():
        life = lives.get(feed.instance)
        new = Silence(feed.producer, life, feed.alive_us, seen.at_ms)
        found.append(known.get((feed.producer, life, feed.alive_us), new))
    return tuple(found)


def diagnose(silences: Sequence[Silence], evidence: Evidence, seen: Observation, policy: Policy) -> Iterator[Diagnosis]:
    """Those that have been silent for too long; the process of one can be killed for it."""
    since = {each.producer: each for each in silences}
    for feed in seen.feeds or ():
        silence = since[feed.producer]
        silent_ms = lasted_ms(evidence, seen.at_ms, silence.since_ms, Kind.FEED_SILENT, silence.life, ODDS_SERVICE)
        if silent_ms >= policy.feed_silent_ms:
            text = f"silent for {silent_ms} ms" + (", its markets are suspended" if feed.suspended else "")
            target = feed.instance or feed.producer
            yield Diagnosis(Kind.FEED_SILENT, target, Certainty.CONFIRMED, (text,), silence.life)


def never_heard(silences: Sequence[Silence], evidence: Evidence) -> frozenset[Life]:
    """Lives of producers that have given no sign of life since they began."""
    begun_ms = {each.life: each.since_ms for each in evidence.lives}
    return frozenset(
        each.life
        for each in silences
        if each.life is not None and each.life in begun_ms and each.since_ms <= begun_ms[each.life]
    )


def _lives(seen: Observation) -> dict[str, Life | None]:
    return {p.instance: p.life for p in seen.processes or () if p.phase is Phase.RUNNING}
