"""What was offered, and the season file as it is now: which match of the file is which. Pure.

A season downloaded again has more rows, and sometimes another spelling, another score or a row less. A match that was
offered is played as it was offered (its id, sides, kick-off and markets); the file only brings its score. What the
file no longer has, or contradicts itself about, waits for a person: its bets are neither settled nor given back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from betting.feeds.replay.schedule import Stage
from betting.feeds.seasons import Match, Season, club_key, identity, with_event_id

DAY_US = 86_400 * 1_000_000
# Where clubs meet several times at home, a match that is further away than this is another meeting.
MOVED_DAYS_MAX = 14


class Offered(NamedTuple):
    """A match as it was offered, and how far it has come. None: an earlier version did not keep it."""

    match: Match | None
    stage: Stage


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What is played, and what there is to say.

    `season` has the offered matches as offered, with their scores, and the file's others. `keep` are matches to be
    stored anew. `attention` is why a person has to look, by event id. `rescored` are ended matches with the score that
    the file has now. `renamed` is each renamed club's old and new name.
    """

    season: Season
    keep: tuple[Match, ...]
    attention: Mapping[int, str]
    rescored: Mapping[int, Match]
    renamed: tuple[tuple[str, str], ...]


def reconcile(season: Season, offered: Mapping[int, Offered]) -> Reconciled:
    """The season to play, given what was offered before, by event id."""
    found, renamed = _find(season, offered)
    matches: list[Match] = []
    keep: list[Match] = []
    attention: dict[int, str] = {}
    rescored: dict[int, Match] = {}
    for event_id, (before, stage) in offered.items():
        now = found.get(event_id)
        match, why = _judge(event_id, before, now, stage)
        if why:
            attention[event_id] = why
        if match is None:
            continue
        matches.append(match)
        if match != before:
            keep.append(match)
        elif why and now is not None:
            rescored[event_id] = _with_score_of(match, now)
    matches += _others(season, found, offered)
    matches.sort(key=lambda match: (match.kick_off_us, match.event_id))
    return Reconciled(replace(season, matches=tuple(matches)), tuple(keep), attention, rescored, renamed)


def _judge(event_id: int, before: Match | None, now: Match | None, stage: Stage) -> tuple[Match | None, str]:
    """The match to play (None: it waits, or is over and gone), and what a person should know (empty: nothing)."""
    if now is None:
        if stage is Stage.SETTLED or (before is not None and not before.markets):
            return None, ""
        name = f"event {event_id}" if before is None else f"{before.home} v {before.away}"
        return None, f"{name} was offered and is not in the season file any more: {_ACT}"
    if before is None:
        return now, ""
    name, had, has = f"{before.home} v {before.away}", _score(before), _score(now)
    if stage >= Stage.FINISHED:
        if had == has or not before.markets:
            return before, ""
        done = "was settled with" if stage is Stage.SETTLED else "ended with"
        return before, f"{name} {done} {had}, the season file says {has} now: it is not settled anew by itself"
    if before.markets and not now.certain:
        return None, f"{name} was offered and the season file contradicts itself about its score: {_ACT}"
    return _with_score_of(before, now), ""


def _with_score_of(match: Match, now: Match) -> Match:
    return replace(match, home_goals=now.home_goals, away_goals=now.away_goals, certain=now.certain)


_ACT = "settle its event or void its markets"


def _score(match: Match) -> str:
    return f"{match.home_goals}-{match.away_goals}"


def _find(season: Season, offered: Mapping[int, Offered]) -> tuple[dict[int, Match], tuple[tuple[str, str], ...]]:
    """Each offered match's match in the file, by event id; and the clubs that are called otherwise there."""
    found: dict[int, Match] = {}
    known = {event_id: each.match for event_id, each in offered.items() if each.match is not None}
    free = {match.event_id: match for match in season.matches}
    for event_id, each in offered.items():
        if each.match is None and event_id in free:
            found[event_id] = free.pop(event_id)
    _claim(found, known, free, _on_day)
    _claim_moved(found, known, free)
    renamed = _renames(season, found, known, free)
    if renamed:
        by_key = {club_key(old): club_key(new) for old, new in renamed}

        def sides(match: Match) -> _Key:
            home, away, day = _on_day(match)
            return by_key.get(home, home), by_key.get(away, away), day

        _claim(found, known, free, sides)
    return found, renamed


_Key = tuple[str, str, int]


def _claim(
    found: dict[int, Match], known: Mapping[int, Match], free: dict[int, Match], key: Callable[[Match], _Key]
) -> None:
    """Takes the free match of the file that has the same sides on the same day as one offered."""
    by_key = {_on_day(match): match for match in free.values()}
    for event_id, match in known.items():
        now = by_key.get(key(match)) if event_id not in found else None
        if now is not None and free.pop(now.event_id, None) is not None:
            found[event_id] = now


def _claim_moved(found: dict[int, Match], known: Mapping[int, Match], free: dict[int, Match]) -> None:
    """The same sides on another day: put off, where there is one candidate and no doubt which meeting it is."""
    left = [match for event_id, match in known.items() if event_id not in found]
    pairs = Counter(map(_sides, free.values()))
    lone = {_sides(match): match for match in free.values() if pairs[_sides(match)] == 1}
    meetings = Counter(_sides(match) for match in (*free.values(), *found.values()))
    once = all(count == 1 for count in meetings.values()) and max(Counter(map(_sides, left)).values(), default=0) < 2
    for match in left:
        now = lone.get(_sides(match))
        if now is None or now.event_id not in free:
            continue
        if once or abs(now.kick_off_us - match.kick_off_us) <= MOVED_DAYS_MAX * DAY_US:
            found[match.event_id] = free.pop(now.event_id)


def _renames(
    season: Season, found: Mapping[int, Match], known: Mapping[int, Match], free: Mapping[int, Match]
) -> tuple[tuple[str, str], ...]:
    """(old name, new name) of clubs that the file has under another name.

    A club that the file no longer knows met, on one day, an opponent that has another club there now: a club plays once
    a day, so the two are one. A name that would stand for two clubs, or a club with two new names, is no renaming.
    """
    present = {club_key(name) for match in season.matches for name in (match.home, match.away)}
    names: dict[str, str] = {}
    candidates: dict[str, set[str]] = {}
    homes = {(club_key(match.home), match.kick_off_us // DAY_US): match for match in free.values()}
    aways = {(club_key(match.away), match.kick_off_us // DAY_US): match for match in free.values()}
    before = {club_key(name) for match in known.values() for name in (match.home, match.away)}
    for event_id, match in known.items():
        home, away, day = _on_day(match)
        if event_id in found or (home in present) == (away in present):
            continue
        now = homes.get((home, day)) if home in present else aways.get((away, day))
        old, new = (match.away, now and now.away) if home in present else (match.home, now and now.home)
        if new and club_key(new) not in before:
            candidates.setdefault(club_key(old), set()).add(club_key(new))
            names[club_key(old)], names[club_key(new)] = old, new
    takers = Counter(new for found_names in candidates.values() for new in found_names)
    pairs = [(old, *news) for old, news in candidates.items() if len(news) == 1]
    return tuple((names[old], names[new]) for old, new in pairs if takers[new] == 1)


def _others(season: Season, found: Mapping[int, Match], offered: Mapping[int, Offered]) -> Iterable[Match]:
    """The file's matches that were not offered yet. Where an id has been given away, the next meeting's is taken."""
    claimed = {match.event_id for match in found.values()}
    used = {*offered, *(match.event_id for match in season.matches if match.event_id not in claimed)}
    for match in season.matches:
        if match.event_id in claimed:
            continue
        if match.event_id not in offered:
            yield match
            continue
        meeting = 1
        while (event_id := identity.event_id(season.division, season.label, match.home, match.away, meeting)) in used:
            meeting += 1
        used.add(event_id)
        yield with_event_id(match, event_id)


def _sides(match: Match) -> tuple[str, str]:
    return club_key(match.home), club_key(match.away)


def _on_day(match: Match) -> _Key:
    return (*_sides(match), match.kick_off_us // DAY_US)
