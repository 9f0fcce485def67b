"""Reads a football-data.co.uk season file: any division, any season, exact prices, every problem with its line."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median_low

from betting.feeds.seasons import identity, quotes
from betting.feeds.seasons.columns import AWAY, AWAY_GOALS, DATE, DIVISION, HOME, HOME_GOALS, RESULT, TIME
from betting.feeds.seasons.model import Match, Season, SeasonError
from betting.feeds.seasons.rows import ProblemList, Row, read_rows

# Files before 2019 have no times; British football's customary hour.
USUAL_KICK_OFF = "15:00"
MAX_GOALS = 50
MAX_NAME_CHARACTERS = 60
# A season runs at most this far from its middle match (2019-20, with its long pause: 352 days in all).
MAX_DAYS_FROM_MIDDLE = 300
# A season that starts in June or later is named after that year and the next.
_SEASON_STARTS_MONTH = 6

_NAME = re.compile(r"[^\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class _Draft:
    """A row whose own cells are right; ids need the whole file."""

    row: Row
    division: str
    kick_off: datetime
    home: str
    away: str
    goals: tuple[int, int]
    markets: tuple[quotes.DraftMarket, ...]


@dataclass(slots=True)
class _Seen:
    """What earlier lines used, to refuse what would be ambiguous."""

    fixtures: dict[tuple[str, str, str], int] = field(default_factory=dict)
    ids: dict[int, int] = field(default_factory=dict)
    meetings: Counter[tuple[str, str]] = field(default_factory=Counter)


def read_season(content: bytes, source: str) -> Season:
    """The season in a file's bytes; `source` names it in errors.

    Raises SeasonError with every problem found (bounded): cells that cannot be read, contradicting results, repeated
    fixtures, dates far from the rest, or a file that is no season file at all.
    """
    problems = ProblemList()
    rows = read_rows(content, problems)
    drafts = [draft for row in rows if (draft := _draft(row, problems)) is not None]
    if not problems:
        _check_whole(drafts, problems)
    season = _season(drafts, problems) if not problems else None
    if season is None or problems:
        raise SeasonError(source, sorted(problems.kept), problems.total)
    return season


def _draft(row: Row, problems: ProblemList) -> _Draft | None:
    before = problems.total
    division = _name(row, DIVISION, problems)
    kick_off = _kick_off(row, problems)
    home, away = _name(row, HOME, problems), _name(row, AWAY, problems)
    if home and home == away:
        problems.add(row.line, row.first(AWAY)[0], f"{home} cannot play itself: name the away team")
    goals = _goals(row, problems)
    markets = quotes.read_markets(row, problems)
    if problems.total > before or kick_off is None or goals is None:
        return None
    return _Draft(row, division, kick_off, home, away, goals, markets)


def _name(row: Row, names: tuple[str, ...], problems: ProblemList) -> str:
    column, text = row.first(names)
    if not text:
        problems.add(row.line, column, "is blank: every match needs it; fill it in or remove the line")
    elif len(text) > MAX_NAME_CHARACTERS or not _NAME.fullmatch(text):
        problems.add(row.line, column, f"{text[:40]!r} is no name of 1 to {MAX_NAME_CHARACTERS} printable characters")
    return text


def _kick_off(row: Row, problems: ProblemList) -> datetime | None:
    column, date_text = row.first(DATE)
    time_column, time_text = row.first(TIME)
    day = _parsed(date_text, ("%d/%m/%Y", "%d/%m/%y"))
    if day is None:
        problems.add(row.line, column, f"{date_text[:40]!r} is not a date: expected dd/mm/yyyy or dd/mm/yy")
    hour = _parsed(time_text or USUAL_KICK_OFF, ("%H:%M", "%H:%M:%S"))
    if hour is None:
        problems.add(row.line, time_column, f"{time_text[:40]!r} is not a time: expected hh:mm, or leave it blank")
    if day is None or hour is None:
        return None
    return day + timedelta(hours=hour.hour, minutes=hour.minute)


def _parsed(text: str, formats: tuple[str, ...]) -> datetime | None:
    for pattern in formats:
        try:
            return datetime.strptime(text, pattern).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def _goals(row: Row, problems: ProblemList) -> tuple[int, int] | None:
    home, away = _goal(row, HOME_GOALS, problems), _goal(row, AWAY_GOALS, problems)
    if home is None or away is None:
        return None
    column, letter = row.first(RESULT)
    right = "H" if home > away else "A" if away > home else "D"
    if letter and letter != right:
        problems.add(row.line, column, f"{letter[:10]!r} contradicts the score {home}-{away}, which is {right!r}")
    return home, away


def _goal(row: Row, names: tuple[str, ...], problems: ProblemList) -> int | None:
    column, text = row.first(names)
    if not text:
        problems.add(row.line, column, "is blank: a season is replayed to its results; fill it in or remove the line")
        return None
    if not (text.isascii() and text.isdigit() and int(text[:9]) <= MAX_GOALS and len(text) < 9):
        problems.add(row.line, column, f"{text[:40]!r} is not a number of goals from 0 to {MAX_GOALS}")
        return None
    return int(text)


def _check_whole(drafts: list[_Draft], problems: ProblemList) -> None:
    if not drafts:
        problems.add(1, "", "holds no match: expected one line per match below the header")
        return
    division = drafts[0].division
    middle = median_low(draft.kick_off for draft in drafts)
    for draft in drafts:
        if draft.division != division:
            message = f"division {draft.division} in a file of {division}: give one division per file"
            problems.add(draft.row.line, draft.row.first(DIVISION)[0], message)
        if abs(draft.kick_off - middle) > timedelta(days=MAX_DAYS_FROM_MIDDLE):
            message = (
                f"{draft.kick_off:%d/%m/%Y} is over {MAX_DAYS_FROM_MIDDLE} days from the season's middle "
                f"({middle:%d/%m/%Y}): correct the year, or give one season per file"
            )
            problems.add(draft.row.line, draft.row.first(DATE)[0], message)
    if not any(draft.markets for draft in drafts):
        problems.add(1, "", "no match has prices in a known bookmaker's columns (B365H, PSH, AvgH …)")


def season_label(first: datetime) -> str:
    """The season's name from its first match: 2024-25."""
    year = first.year if first.month >= _SEASON_STARTS_MONTH else first.year - 1
    return f"{year}-{(year + 1) % 100:02d}"


def _season(drafts: list[_Draft], problems: ProblemList) -> Season:
    ordered = sorted(drafts, key=lambda draft: (draft.kick_off, draft.row.line))
    label = season_label(ordered[0].kick_off)
    seen = _Seen()
    matches = [match for draft in ordered if (match := _match(draft, label, seen, problems)) is not None]
    bookmakers = Counter(market.bookmaker for match in matches for market in match.markets)
    matches.sort(key=lambda match: (match.kick_off_us, match.event_id))
    return Season(ordered[0].division, label, tuple(matches), dict(bookmakers.most_common()))


def _match(draft: _Draft, label: str, seen: _Seen, problems: ProblemList) -> Match | None:
    line, sides = draft.row.line, (draft.home, draft.away)
    same_day = (*sides, f"{draft.kick_off:%d/%m/%Y}")
    earlier = seen.fixtures.setdefault(same_day, line)
    if earlier != line:
        problems.add(line, "", f"{' v '.join(sides)} on {same_day[2]} already stands in line {earlier}: remove one")
        return None
    seen.meetings[sides] += 1
    event = identity.event_id(draft.division, label, *sides, meeting=seen.meetings[sides])
    markets = tuple(quotes.with_ids(event, draft.markets))
    for id_ in (event, *(market.market_id for market in markets)):
        if id_ in seen.ids:
            # About one file in two thousand million; another spelling of a team's name ends it.
            problems.add(line, "", f"its id {id_} is also that of line {seen.ids[id_]}: respell one team's name")
        seen.ids[id_] = line
    kick_off_us = int(draft.kick_off.timestamp()) * 1_000_000
    return Match(event, line, kick_off_us, *sides, *draft.goals, markets)
