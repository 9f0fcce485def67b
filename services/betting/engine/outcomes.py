"""What became of a selection, and how the kinds of market are decided by a score."""

from __future__ import annotations

from enum import IntEnum


class Outcome(IntEnum):
    """Result of a selection; numbers as in betting.v1.Outcome."""

    LOST = 1
    HALF_LOST = 2
    VOID = 3
    HALF_WON = 4
    WON = 5


class MarketKind(IntEnum):
    """Numbers as in betting.v1.MarketKind."""

    MATCH_RESULT = 1
    OVER_UNDER = 2
    ASIAN_HANDICAP = 3


HOME, DRAW, AWAY = 1, 2, 3
OVER, UNDER = 1, 2
HANDICAP_HOME, HANDICAP_AWAY = 1, 2

SELECTIONS: dict[MarketKind, tuple[int, ...]] = {
    MarketKind.MATCH_RESULT: (HOME, DRAW, AWAY),
    MarketKind.OVER_UNDER: (OVER, UNDER),
    MarketKind.ASIAN_HANDICAP: (HANDICAP_HOME, HANDICAP_AWAY),
}

# A leg's return per unit is (wins x (n + d) + returns x d) / 2d: halves of the stake that win and that come back.
HALVES: dict[int, tuple[int, int]] = {
    Outcome.LOST: (0, 0),
    Outcome.HALF_LOST: (0, 1),
    Outcome.VOID: (0, 2),
    Outcome.HALF_WON: (1, 1),
    Outcome.WON: (2, 0),
}

_OPPOSITE = {
    Outcome.LOST: Outcome.WON,
    Outcome.HALF_LOST: Outcome.HALF_WON,
    Outcome.VOID: Outcome.VOID,
    Outcome.HALF_WON: Outcome.HALF_LOST,
    Outcome.WON: Outcome.LOST,
}


def decide_market(kind: MarketKind, line_quarters: int, home_goals: int, away_goals: int) -> dict[int, Outcome]:
    """The outcome of every selection of a market, from the score.

    line_quarters: quarter goals; the total for over/under, the home side's handicap for an Asian handicap.
    Raises ValueError for a negative score or an unknown kind.
    """
    if home_goals < 0 or away_goals < 0:
        raise ValueError(f"a score cannot be negative: {home_goals}-{away_goals}")
    match kind:
        case MarketKind.MATCH_RESULT:
            winner = HOME if home_goals > away_goals else AWAY if away_goals > home_goals else DRAW
            return {s: Outcome.WON if s == winner else Outcome.LOST for s in SELECTIONS[kind]}
        case MarketKind.OVER_UNDER:
            first = _by_quarters(4 * (home_goals + away_goals) - line_quarters)
        case MarketKind.ASIAN_HANDICAP:
            first = _by_quarters(4 * (home_goals - away_goals) + line_quarters)
    return {1: first, 2: _OPPOSITE[first]}


def possible_results(kind: MarketKind, line_quarters: int) -> list[dict[int, Outcome]]:
    """The different results of a market that some score gives. `kind` and `line_quarters` as in `decide_market`."""
    near = abs(line_quarters) // 4
    goals = sorted({0, max(0, near - 1), near, near + 1, near + 2}, reverse=True)
    scores = [*((n, 0) for n in goals), *((0, n) for n in reversed(goals))]
    results: list[dict[int, Outcome]] = []
    for score in scores:
        result = decide_market(kind, line_quarters, *score)
        if result not in results:
            results.append(result)
    return results


def _by_quarters(margin: int) -> Outcome:
    """A quarter line is half a bet on each neighbouring half line; a margin of one quarter wins one and pushes one."""
    if margin >= 2:
        return Outcome.WON
    if margin <= -2:
        return Outcome.LOST
    return {1: Outcome.HALF_WON, 0: Outcome.VOID, -1: Outcome.HALF_LOST}[margin]
