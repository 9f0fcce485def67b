"""The markets of one event: which bookmaker's offer is taken, whole or not at all. Pure.

- h2h: football's three outcomes are a match result. Two outcomes, in other sports, are an Asian handicap of 0: who
  wins, stakes back on a draw. Three outcomes in other sports count the regular time, which scores do not tell: skipped.
- totals: over/under. spreads: Asian handicap, told from the home side.

Of the bookmakers, those preferred come first, in their order, then the others by name; the first whose offer is
complete, fresh and believable is taken. Selections are found by their names, never by their place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from betting.feeds.decimals import Odds, parse_american, parse_line_quarters, parse_odds
from betting.feeds.the_odds_api import decoding
from betting.feeds.the_odds_api.decoding import SkipError
from betting.feeds.the_odds_api.model import Skip, SourceMarket
from betting.v1 import event_pb2

BOOKMAKERS_MAX = 200
OUTCOMES_MAX = 20
# What the catalogue believes, in points of any sport.
LINE_POINTS_MAX = 100
FOOTBALL = "soccer"
# What a market's probabilities may add up to: bookmakers keep 2 to 15 %, in minor leagues somewhat more.
PROBABILITIES_MAX = Fraction(13, 10)

_RESULT = int(event_pb2.MARKET_KIND_MATCH_RESULT)
_TOTAL = int(event_pb2.MARKET_KIND_OVER_UNDER)
_HANDICAP = int(event_pb2.MARKET_KIND_ASIAN_HANDICAP)
_PARSERS: dict[str, Callable[[str], Odds]] = {"decimal": parse_odds, "american": parse_american}


@dataclass(frozen=True, slots=True)
class Rules:
    """How to read offers: the format of prices, the bookmakers preferred, and how old prices may be."""

    odds_format: str
    preferred: tuple[str, ...]
    max_age_us: int


@dataclass(frozen=True, slots=True)
class Sides:
    """Who plays, and what."""

    sport_key: str
    home: str
    away: str

    @property
    def is_football(self) -> bool:
        """Whether three outcomes are the regular time's result."""
        return self.sport_key.partition("_")[0] == FOOTBALL


@dataclass(frozen=True, slots=True)
class _Bookmaker:
    key: str
    as_of_us: int
    raw: object


def read(sides: Sides, raw: object, rules: Rules, now_us: int) -> tuple[list[SourceMarket], list[Skip]]:
    """An event's markets, one per kind and line; and the kinds that were offered but by nobody usably. Never raises."""
    found: dict[tuple[int, int], SourceMarket] = {}
    skips: list[Skip] = []
    bookmakers, problems = _bookmakers(raw, rules, now_us)
    for key, reader in _READERS.items():
        market, why = _first(sides, key, reader, bookmakers, rules, now_us)
        if market is not None:
            found.setdefault((market.kind, market.line_quarters), market)
        elif why:
            skips.append(Skip(key, why))
    if problems and not found:
        skips.append(Skip("bookmakers", problems[0]))
    return list(found.values()), skips


def _bookmakers(raw: object, rules: Rules, now_us: int) -> tuple[list[_Bookmaker], list[str]]:
    """In the order of preference; of one that is there twice the newer offer comes first."""
    found, problems = [], []
    try:
        listed = decoding.items(decoding.field(raw, "bookmakers"), "bookmakers")[:BOOKMAKERS_MAX]
    except SkipError as error:
        return [], [str(error)]
    for each in listed:
        try:
            as_of_us = min(decoding.time_us(each, "last_update"), now_us)
            found.append(_Bookmaker(decoding.key(each, "key"), as_of_us, each))
        except SkipError as error:
            problems.append(str(error))
    places = {key: place for place, key in enumerate(rules.preferred)}
    found.sort(key=lambda each: (places.get(each.key, len(places)), each.key, -each.as_of_us))
    return found, problems


_Reader = Callable[[Sides, Sequence[object], Callable[[str], Odds]], tuple[int, int, tuple[Odds, ...]]]


def _first(
    sides: Sides, key: str, reader: _Reader, bookmakers: Sequence[_Bookmaker], rules: Rules, now_us: int
) -> tuple[SourceMarket | None, str]:
    """The first usable offer; else None and the most preferred bookmaker's reason (empty: nobody offers this)."""
    why = ""
    for bookmaker in bookmakers:
        try:
            raw = _market(bookmaker, key)
            if raw is None:
                continue
            as_of_us = _as_of_us(bookmaker, raw, now_us)
            if as_of_us < now_us - rules.max_age_us:
                raise SkipError("its prices are old")
            outcomes = decoding.items(decoding.field(raw, "outcomes"), "outcomes")
            kind, line, prices = reader(sides, outcomes, _PARSERS[rules.odds_format])
            _check_believable(prices)
            return SourceMarket(kind, line, bookmaker.key, as_of_us, prices), ""
        except (SkipError, ValueError) as error:
            why = why or f"{bookmaker.key}: {error}"
    return None, why


def _market(bookmaker: _Bookmaker, key: str) -> object:
    """The bookmaker's only market of that key, or None. Raises SkipError when there are two."""
    listed = decoding.items(decoding.field(bookmaker.raw, "markets"), "markets")
    found = [each for each in listed if isinstance(each, dict) and each.get("key") == key]
    if len(found) > 1:
        raise SkipError(f"{key} is there twice")
    return found[0] if found else None


def _as_of_us(bookmaker: _Bookmaker, raw: object, now_us: int) -> int:
    """When the prices were seen: a market may say it itself. Times ahead of ours are our clock's fault."""
    if decoding.field(raw, "last_update") is None:
        return bookmaker.as_of_us
    return min(decoding.time_us(raw, "last_update"), now_us)


def _named(outcomes: Sequence[object]) -> dict[str, object]:
    found: dict[str, object] = {}
    for outcome in outcomes[:OUTCOMES_MAX]:
        name = decoding.folded(decoding.text(outcome, "name"))
        if name in found:
            raise SkipError(f"outcome {decoding.shown(name)} is there twice")
        found[name] = outcome
    return found


def _exactly(outcomes: Sequence[object], *names: str) -> list[object]:
    """The outcomes of these names, in this order, and no others. Raises SkipError."""
    named = _named(outcomes)
    missing = [name for name in names if name not in named]
    if missing:
        raise SkipError(f"outcome {decoding.shown(missing[0])} is missing")
    if len(named) > len(names) or len(outcomes) > OUTCOMES_MAX:
        raise SkipError(f"there are {len(outcomes)} outcomes where {len(names)} are expected")
    return [named[name] for name in names]


def _prices(outcomes: Sequence[object], parse: Callable[[str], Odds]) -> tuple[Odds, ...]:
    return tuple(parse(decoding.number(outcome, "price")) for outcome in outcomes)


def _points(outcome: object) -> int:
    return parse_line_quarters(decoding.number(outcome, "point"), LINE_POINTS_MAX)


def _winner(
    sides: Sides, outcomes: Sequence[object], parse: Callable[[str], Odds]
) -> tuple[int, int, tuple[Odds, ...]]:
    if sides.is_football:
        return _RESULT, 0, _prices(_exactly(outcomes, sides.home, "Draw", sides.away), parse)
    return _HANDICAP, 0, _prices(_exactly(outcomes, sides.home, sides.away), parse)


def _total(
    _sides: Sides, outcomes: Sequence[object], parse: Callable[[str], Odds]
) -> tuple[int, int, tuple[Odds, ...]]:
    both = _exactly(outcomes, "Over", "Under")
    over, under = map(_points, both)
    if over != under or over <= 0:
        raise SkipError("over and under have not one total above 0")
    return _TOTAL, over, _prices(both, parse)


def _spread(
    sides: Sides, outcomes: Sequence[object], parse: Callable[[str], Odds]
) -> tuple[int, int, tuple[Odds, ...]]:
    both = _exactly(outcomes, sides.home, sides.away)
    home, away = map(_points, both)
    if home != -away:
        raise SkipError("the two handicaps are not opposite")
    return _HANDICAP, home, _prices(both, parse)


_READERS: dict[str, _Reader] = {"h2h": _winner, "totals": _total, "spreads": _spread}


def _check_believable(prices: tuple[Odds, ...]) -> None:
    """Raises SkipError when no bookmaker would mean these prices.

    The probabilities that they imply add up to 1 plus the bookmaker's margin. Below 1, backing every selection wins for
    certain. Far above 1 it is an exchange where nobody offers anything yet, or a mistake.
    """
    total = sum(Fraction(odds.denominator, odds.numerator + odds.denominator) for odds in prices)
    if total < 1:
        raise SkipError("its prices offer a sure win")
    if total > PROBABILITIES_MAX:
        raise SkipError(
            f"its prices' probabilities add up to {float(total):.2f}: more than {float(PROBABILITIES_MAX)} is no offer"
        )
