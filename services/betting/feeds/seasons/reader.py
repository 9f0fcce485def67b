"""Reads a football-data.co.uk season file: any division, any season, exact prices.

Real files have odd cells. Each costs as little as it can (a bookmaker, a market, a match's bets, a line) and is a
warning with its line and column. A file that is something else than one season of one division is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from statistics import median_low

from betting.feeds.seasons import content, dates, identity, quotes, scores
from betting.feeds.seasons.columns import AWAY, DATE, DIVISION, HOME, TIME
from betting.feeds.seasons.model import Match, Problem, Season, SeasonError
from betting.feeds.seasons.rows import ProblemList, Refusal, Row, clean, read_rows

# Files before 2019 have no times; British football's customary hour.
USUAL_KICK_OFF = timedelta(hours=15)
MAX_NAME_CHARACTERS = 60
# A season runs at most this far from its middle match, and this long in all (2019-20, with its long pause: 352 days).
MAX_DAYS_FROM_MIDDLE = 300
MAX_DAYS = 366
# A season whose middle match is in June or later is named after that year and the next.
_SEASON_STARTS_MONTH = 6
# So many lines, or so many in a hundred, may be of another division by mistake; but fewer than one in three.
_OTHER_DIVISION_LINES = 3
_OTHER_DIVISION_PERCENT = 5
_OTHER_DIVISION_PART = 3
_DIVISIONS_SHOWN = 3
# Where more of the pairings stand twice, that is how the league plays (Scotland).
_SECOND_MEETINGS_PERCENT = 2

_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::\d{2})?", re.ASCII)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_APOSTROPHES = str.maketrans(dict.fromkeys("’‘`´ʼ", "'"))
_LEFT_OUT = "; the line is left out"


@dataclass(frozen=True, slots=True)
class _Draft:
    """A row whose own cells make a match; ids need the whole file."""

    row: Row
    division: str
    kick_off: datetime
    home: str
    away: str
    score: scores.Score
    markets: tuple[quotes.DraftMarket, ...]


@dataclass(slots=True)
class _Seen:
    """What earlier lines used, to refuse what would be ambiguous."""

    ids: dict[int, int] = field(default_factory=dict)
    meetings: Counter[tuple[str, str]] = field(default_factory=Counter)


def read_season(data: bytes, source: str, *, trust_goals: bool = False) -> Season:
    """The season in a file's bytes; `source` names it in errors.

    A match whose result, half-time score or second mention contradicts its goals has no markets; with `trust_goals`
    its goals count. Raises SeasonError when this is not a file of one season, or when too little of it can be used.
    """
    problems = ProblemList()
    try:
        return _read(data, problems, trust_goals=trust_goals)
    except Refusal as refusal:
        found = [refusal.problem, *_in_order(problems)]
        raise SeasonError(source, found, 1 + problems.total) from None


def _read(data: bytes, problems: ProblemList, *, trust_goals: bool) -> Season:
    rows = read_rows(content.decode(data), problems)
    if not rows:
        raise Refusal(1, "", "the file has a header and no match below it: download it again once matches were played")
    dates.check_order((dates.DateCell(row.line, *row.first(DATE)) for row in rows), problems)
    read = [draft for row in rows if (draft := _draft(row, problems, trust_goals=trust_goals)) is not None]
    drafts = _one_spelling(_of_one_division(_of_one_season(read, problems), problems), problems)
    drafts = _without_repeats(drafts, problems)
    _note_second_meetings(drafts, problems)
    if len(drafts) * 2 < len(rows):
        message = f"only {len(drafts)} of {len(rows)} lines are matches that can be played: look at the lines named"
        raise Refusal(1, "", message)
    season = _season(drafts)
    if not season.bookmakers:
        raise Refusal(1, "", "no match has usable prices in a known bookmaker's columns (B365H, PSH, AvgH …)")
    return replace(season, warnings=tuple(_in_order(problems)), warnings_total=problems.total)


def _in_order(problems: ProblemList) -> list[Problem]:
    return sorted(problems.kept)


def _draft(row: Row, problems: ProblemList, *, trust_goals: bool) -> _Draft | None:
    kick_off = _kick_off(row, problems)
    home, away = _club(row, HOME, problems), _club(row, AWAY, problems)
    if home and home == away:
        problems.add(row.line, row.first(AWAY)[0], f"{home} cannot play itself{_LEFT_OUT}")
        return None
    score = scores.read_score(row, problems, trust_goals=trust_goals)
    if kick_off is None or not home or not away or score is None:
        return None
    markets = quotes.read_markets(row, problems)
    return _Draft(row, clean(row.first(DIVISION)[1]), kick_off, home, away, score, markets if score.certain else ())


def _club(row: Row, names: tuple[str, ...], problems: ProblemList) -> str:
    """A club's name; empty when there is none."""
    column, text = row.first(names)
    name = clean(unicodedata.normalize("NFC", text))
    if not name:
        problems.add(row.line, column, f"is blank: every match needs it{_LEFT_OUT}")
    elif len(name) > MAX_NAME_CHARACTERS or _CONTROL.search(name):
        message = f"{name[:40]!r} is no name of 1 to {MAX_NAME_CHARACTERS} printable characters{_LEFT_OUT}"
        problems.add(row.line, column, message)
        return ""
    return name


def _kick_off(row: Row, problems: ProblemList) -> datetime | None:
    column, text = row.first(DATE)
    day = dates.parse_date(text)
    if day is None:
        what = f"{text[:40]!r} is not a date (dd/mm/yyyy)" if text else "is blank: every match needs a date"
        problems.add(row.line, column, f"{what}{_LEFT_OUT}")
        return None
    column, text = row.first(TIME)
    match = _TIME.fullmatch(text)
    if match is not None and int(match[1]) < 24 and int(match[2]) < 60:
        return day + timedelta(hours=int(match[1]), minutes=int(match[2]))
    if text:
        problems.add(row.line, column, f"{text[:40]!r} is not a time (hh:mm); it kicks off at 15:00")
    return day + USUAL_KICK_OFF


def _of_one_season(drafts: list[_Draft], problems: ProblemList) -> list[_Draft]:
    """Without the matches whose date cannot be right. Raises Refusal when the file holds more than a season."""
    if not drafts:
        return []
    middle = median_low(draft.kick_off for draft in drafts)
    kept = []
    for draft in drafts:
        if abs(draft.kick_off - middle) <= timedelta(days=MAX_DAYS_FROM_MIDDLE):
            kept.append(draft)
            continue
        column = draft.row.first(DATE)[0]
        message = (
            f"{draft.kick_off:%d/%m/%Y} is over {MAX_DAYS_FROM_MIDDLE} days from the season's middle "
            f"({middle:%d/%m/%Y}){_LEFT_OUT}"
        )
        problems.add(draft.row.line, column, message)
    first, last = min(draft.kick_off for draft in kept), max(draft.kick_off for draft in kept)
    if last - first > timedelta(days=MAX_DAYS):
        message = f"the matches go from {first:%d/%m/%Y} to {last:%d/%m/%Y}: give one season per file"
        raise Refusal(1, kept[0].row.first(DATE)[0], message)
    return kept


def _of_one_division(drafts: list[_Draft], problems: ProblemList) -> list[_Draft]:
    """A blank division is the file's; a few lines of others are left out. Raises Refusal where there are many."""
    named = Counter(draft.division for draft in drafts if draft.division)
    if not named:
        if drafts:
            raise Refusal(drafts[0].row.line, "Div", "no line names its division: write it, such as E0, in each line")
        return []
    division = named.most_common(1)[0][0]
    if len(division) > MAX_NAME_CHARACTERS or _CONTROL.search(division):
        raise Refusal(drafts[0].row.line, "Div", f"{division[:40]!r} is no division such as E0")
    others = [draft for draft in drafts if draft.division not in {"", division}]
    few = max(_OTHER_DIVISION_LINES, len(drafts) * _OTHER_DIVISION_PERCENT // 100)
    if others and (len(others) > few or len(others) * _OTHER_DIVISION_PART >= len(drafts)):
        counted = ", ".join(f"{name[:40]!r}: {count}" for name, count in named.most_common(_DIVISIONS_SHOWN))
        message = f"the lines are of {len(named)} divisions ({counted}): give one division per file"
        raise Refusal(others[0].row.line, "Div", message)
    for draft in others:
        problems.add(draft.row.line, "Div", f"{draft.division[:40]!r} is not the file's division {division}{_LEFT_OUT}")
    for draft in drafts:
        if not draft.division:
            problems.add(draft.row.line, "Div", f"is blank: read as {division}")
    return [replace(draft, division=division) for draft in drafts if draft.division in {"", division}]


def _one_spelling(drafts: list[_Draft], problems: ProblemList) -> list[_Draft]:
    """One club is one club: spellings that differ in case, accents or apostrophes become the commonest of them."""
    used: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for draft in drafts:
        for name in (draft.home, draft.away):
            used[club_key(name)][name] += 1
    spelling = {name: names.most_common(1)[0][0] for names in used.values() for name in names}
    reported: set[str] = set()
    for draft in drafts:
        for column, name in ((draft.row.first(HOME)[0], draft.home), (draft.row.first(AWAY)[0], draft.away)):
            if spelling[name] != name and name not in reported:
                reported.add(name)
                problems.add(draft.row.line, column, f"{name!r} is {spelling[name]!r} in other lines: taken for one")
    return [replace(draft, home=spelling[draft.home], away=spelling[draft.away]) for draft in drafts]


def club_key(name: str) -> str:
    """Equal for two spellings of one club's name."""
    if name.isascii():
        return name.translate(_APOSTROPHES).casefold()
    letters = unicodedata.normalize("NFKD", name.translate(_APOSTROPHES))
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold()


def _without_repeats(drafts: list[_Draft], problems: ProblemList) -> list[_Draft]:
    """The first of the lines that name one match; without markets when the others give it another score."""
    first: dict[tuple[str, str, str], int] = {}
    kept: list[_Draft] = []
    for draft in drafts:
        day = f"{draft.kick_off:%d/%m/%Y}"
        at = first.setdefault((club_key(draft.home), club_key(draft.away), day), len(kept))
        if at == len(kept):
            kept.append(draft)
            continue
        before = kept[at]
        what = f"{draft.home} v {draft.away} on {day} already stands in line {before.row.line}"
        if draft.score[:2] == before.score[:2]:
            problems.add(draft.row.line, "", f"{what}{_LEFT_OUT}")
        else:
            problems.add(draft.row.line, "", f"{what} with another score: the match plays without bets")
            kept[at] = replace(before, score=before.score._replace(certain=False), markets=())
    return kept


def _note_second_meetings(drafts: list[_Draft], problems: ProblemList) -> None:
    """Where clubs meet once at home, a second time may be a match that was put off, named under both its days."""
    meetings: defaultdict[tuple[str, str], list[_Draft]] = defaultdict(list)
    for draft in drafts:
        meetings[draft.home, draft.away].append(draft)
    again = [each for each in meetings.values() if len(each) > 1]
    if len(again) * 100 > len(meetings) * _SECOND_MEETINGS_PERCENT:
        return
    for first, *others in again:
        for draft in others:
            message = (
                f"{draft.home} v {draft.away} stands in line {first.row.line} too, on another day: both are played"
            )
            problems.add(draft.row.line, draft.row.first(DATE)[0], message)


def season_label(middle: datetime) -> str:
    """The season's name from its middle match: 2024-25. One mistyped date does not change it."""
    year = middle.year if middle.month >= _SEASON_STARTS_MONTH else middle.year - 1
    return f"{year}-{(year + 1) % 100:02d}"


def _season(drafts: list[_Draft]) -> Season:
    """Raises Refusal when two ids are the same."""
    ordered = sorted(drafts, key=lambda draft: (draft.kick_off, draft.row.line))
    label = season_label(ordered[(len(ordered) - 1) // 2].kick_off)
    seen = _Seen()
    matches = [_match(draft, label, seen) for draft in ordered]
    matches.sort(key=lambda match: (match.kick_off_us, match.event_id))
    return Season(ordered[0].division, label, tuple(matches), _bookmakers(matches))


def _bookmakers(matches: Iterable[Match]) -> dict[str, int]:
    return dict(Counter(market.bookmaker for match in matches for market in match.markets).most_common())


def _match(draft: _Draft, label: str, seen: _Seen) -> Match:
    line, sides = draft.row.line, (draft.home, draft.away)
    seen.meetings[sides] += 1
    event = identity.event_id(draft.division, label, *sides, meeting=seen.meetings[sides])
    markets = tuple(quotes.with_ids(event, draft.markets))
    for id_ in (event, *(market.market_id for market in markets)):
        if id_ in seen.ids:
            # About one file in two thousand million; another spelling of a team's name ends it.
            raise Refusal(line, "", f"its id {id_} is also that of line {seen.ids[id_]}: respell one team's name")
        seen.ids[id_] = line
    kick_off_us = int(draft.kick_off.timestamp()) * 1_000_000
    home_goals, away_goals, certain = draft.score
    return Match(event, line, kick_off_us, *sides, home_goals, away_goals, markets, certain)
