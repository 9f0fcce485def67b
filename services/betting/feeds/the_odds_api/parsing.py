"""From the source's answers to events and scores. Pure: any document is read, what cannot be used is skipped and named.

Source of the format: https://the-odds-api.com/liveapi/guides/v4/
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from betting.feeds.the_odds_api import decoding, markets
from betting.feeds.the_odds_api.decoding import Number, SkipError
from betting.feeds.the_odds_api.markets import Rules, Sides
from betting.feeds.the_odds_api.model import Skip, SourceEvent, SourceScore

# More events of one sport than this is not an answer of theirs; nothing grows without bound.
EVENTS_MAX = 1_000
GOALS_MAX = 999

_GOALS = re.compile(r"(\d{1,3})(\.0+)?", re.ASCII)

T = TypeVar("T")


def error_code(body: bytes) -> str:
    """The error_code of an answer that is an error; empty when it has none."""
    try:
        return decoding.key(decoding.decode(body), "error_code")
    except SkipError:
        return ""


def sports(document: object) -> frozenset[str]:
    """The keys of the sports in season. Raises SkipError when this is no list."""
    listed = decoding.items(document, "the answer")
    return frozenset(key for each in listed if isinstance(each, dict) and isinstance(key := each.get("key"), str))


def events(document: object, rules: Rules, now_us: int) -> tuple[list[SourceEvent], list[Skip]]:
    """The events of an odds answer. Raises SkipError when it is no list; a bad event is skipped, the others count."""
    skips: list[Skip] = []

    def read(raw: object) -> SourceEvent:
        event, left_out = _event(raw, rules, now_us)
        skips.extend(Skip(f"{_named(raw)}, {what}", why) for what, why in left_out)
        return event

    found, bad = _each(document, read)
    return _distinct(found, skips), [*bad, *skips]


def scores(document: object) -> tuple[list[SourceScore], list[Skip]]:
    """The results in a scores answer. Raises SkipError when it is no list; games that go on are no results."""
    found, skips = _each(document, _score)
    return [score for score in found if score is not None], skips


def _each(document: object, read: Callable[[object], T]) -> tuple[list[T], list[Skip]]:
    listed = decoding.items(document, "the answer")
    found: list[T] = []
    skips: list[Skip] = []
    for raw in listed[:EVENTS_MAX]:
        try:
            found.append(read(raw))
        except SkipError as error:
            skips.append(Skip(_named(raw), str(error)))
    if len(listed) > EVENTS_MAX:
        skips.append(Skip("the answer", f"it has {len(listed)} events: only {EVENTS_MAX} are read"))
    return found, skips


def _event(raw: object, rules: Rules, now_us: int) -> tuple[SourceEvent, list[Skip]]:
    source_id, sport_key, home, away = _identity(raw)
    starts_at_us = decoding.time_us(raw, "commence_time")
    league = decoding.label(raw, "sport_title")
    # Their bookmakers go on in play; ours stop.
    offered, skips = (
        markets.read(Sides(sport_key, home, away), raw, rules, now_us) if starts_at_us > now_us else ([], [])
    )
    return SourceEvent(source_id, sport_key, league, home, away, starts_at_us, tuple(offered)), skips


def _score(raw: object) -> SourceScore | None:
    source_id, _, home, away = _identity(raw)
    if not decoding.truth(raw, "completed"):
        return None
    starts_at_us = decoding.time_us(raw, "commence_time")
    goals: dict[str, int] = {}
    for each in decoding.items(decoding.field(raw, "scores"), "scores"):
        name = decoding.folded(decoding.text(each, "name"))
        if name in goals:
            raise SkipError(f"{decoding.shown(name)} has two scores")
        goals[name] = _goals(each)
    if goals.keys() != {home, away}:
        raise SkipError("the scores are not those of its two sides")
    return SourceScore(source_id, home, away, starts_at_us, goals[home], goals[away])


def _identity(raw: object) -> tuple[str, str, str, str]:
    home, away = decoding.label(raw, "home_team"), decoding.label(raw, "away_team")
    if home == away:
        raise SkipError(f"{decoding.shown(home)} cannot play itself")
    return decoding.key(raw, "id"), decoding.key(raw, "sport_key"), home, away


def _goals(raw: object) -> int:
    value = decoding.field(raw, "score")
    written = value.strip() if isinstance(value, str) else ""  # a Number is one too
    match = _GOALS.fullmatch(written)
    if match is None:
        raise SkipError("a score is not a whole number from 0 to 999")
    return int(match[1])


def _distinct(found: list[SourceEvent], skips: list[Skip]) -> list[SourceEvent]:
    """Events that are there once; which of two is right nobody knows."""
    counts: dict[str, int] = {}
    for event in found:
        counts[event.source_id] = counts.get(event.source_id, 0) + 1
    skips.extend(Skip(f"event {source_id}", "it is there twice") for source_id, count in counts.items() if count > 1)
    return [event for event in found if counts[event.source_id] == 1]


def _named(raw: object) -> str:
    """What to call an event that may be anything."""
    value = raw.get("id") if isinstance(raw, dict) else None
    return f"event {decoding.shown(value)}" if isinstance(value, str) and not isinstance(value, Number) else "an event"
