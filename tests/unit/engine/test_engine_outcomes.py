"""Golden tables: quarter lines against every score as two half bets, accumulators in fractions, extreme prices."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction
from math import floor, prod

import pytest

from betting.engine.outcomes import MarketKind, Outcome, decide_market
from betting.engine.prices import potential_payout
from betting.engine.records import record_struct
from betting.engine.settlement import payout_of
from betting.engine.state import MarketResult

SCORES = list(itertools.product(range(5), repeat=2))
LINES = range(-12, 13)  # quarter goals: -3 to +3
PRICES = [Fraction(1), Fraction(91, 100), Fraction(9, 2), Fraction(1, 10**6), Fraction(10**6)]


def half_lines(line: Fraction) -> tuple[Fraction, Fraction]:
    """A quarter line is half a bet on each neighbouring half or whole line; another line is the same one twice."""
    return (line - Fraction(1, 4), line + Fraction(1, 4)) if (4 * line) % 2 else (line, line)


def two_half_bets(margins: list[Fraction], price: Fraction) -> Fraction:
    """What a unit returns when half of it is on each margin: above zero wins, zero comes back, below loses."""
    returns = [1 + price if margin > 0 else Fraction(margin == 0) for margin in margins]
    return sum(returns, Fraction(0)) / 2


def engine_return(outcome: int, price: Fraction, stake: int = 4_000_000) -> Fraction:
    """What the engine pays per unit for a single with this outcome; the stake leaves nothing to round."""
    return Fraction(pays(stake, [(price, outcome)]), stake)


def pays(stake: int, legs: list[tuple[Fraction, int | None]]) -> int:
    """What the engine pays for a bet whose legs came out like this."""
    flat = [part for i, (p, _) in enumerate(legs) for part in (i + 1, i + 1, 1, p.numerator, p.denominator)]
    record = record_struct(len(legs)).pack(bytes(16), stake, 0, len(legs), *flat)
    results = {
        i + 1: MarketResult(1, {1: outcome}, 1, done=True, bets=0, payout_minor=0)
        for i, (_, outcome) in enumerate(legs)
        if outcome is not None
    }
    paid = payout_of(record, results)
    assert paid is not None
    return paid


@pytest.mark.parametrize("quarters", LINES)
def test_asian_handicap(quarters: int) -> None:
    """Both sides of every line against every score, in money."""
    for (home, away), price in itertools.product(SCORES, PRICES):
        outcomes = decide_market(MarketKind.ASIAN_HANDICAP, quarters, home, away)
        halves = half_lines(Fraction(quarters, 4))
        for_home = [home + half - away for half in halves]
        assert engine_return(outcomes[1], price) == two_half_bets(for_home, price), (home, away)
        assert engine_return(outcomes[2], price) == two_half_bets([-m for m in for_home], price), (home, away)


@pytest.mark.parametrize("quarters", LINES)
def test_over_under(quarters: int) -> None:
    """Over and under on every line against every score, in money."""
    for (home, away), price in itertools.product(SCORES, PRICES):
        outcomes = decide_market(MarketKind.OVER_UNDER, quarters, home, away)
        over = [home + away - half for half in half_lines(Fraction(quarters, 4))]
        assert engine_return(outcomes[1], price) == two_half_bets(over, price), (home, away)
        assert engine_return(outcomes[2], price) == two_half_bets([-m for m in over], price), (home, away)


@pytest.mark.parametrize(
    ("quarters", "home", "away", "expected"),
    [
        (-3, 1, 0, Outcome.HALF_WON),  # -0.75, won by one: half wins on -0.5, half comes back on -1
        (-3, 0, 0, Outcome.LOST),
        (-1, 0, 0, Outcome.HALF_LOST),  # -0.25, drawn: half comes back on 0, half loses on -0.5
        (1, 0, 0, Outcome.HALF_WON),
        (-4, 1, 0, Outcome.VOID),
        (-5, 1, 0, Outcome.HALF_LOST),
        (2, 0, 1, Outcome.LOST),
        (12, 0, 3, Outcome.VOID),
    ],
)
def test_handicaps_by_hand(quarters: int, home: int, away: int, expected: Outcome) -> None:
    """Written down from bookmakers' help pages, not computed."""
    assert decide_market(MarketKind.ASIAN_HANDICAP, quarters, home, away)[1] is expected


@pytest.mark.parametrize(
    ("quarters", "goals", "expected"),
    [
        (9, (1, 1), Outcome.HALF_LOST), (9, (2, 1), Outcome.WON), (11, (2, 1), Outcome.HALF_WON),
        (10, (1, 1), Outcome.LOST), (10, (2, 1), Outcome.WON), (12, (2, 1), Outcome.VOID),
    ],
)  # fmt: skip
def test_totals_by_hand(quarters: int, goals: tuple[int, int], expected: Outcome) -> None:
    """Over 2.25, 2.5, 2.75 and 3."""
    assert decide_market(MarketKind.OVER_UNDER, quarters, *goals)[1] is expected


@pytest.mark.parametrize(("home", "away"), SCORES)
def test_match_result(home: int, away: int) -> None:
    """Exactly one selection wins, the right one."""
    outcomes = decide_market(MarketKind.MATCH_RESULT, 0, home, away)
    right = 2 if home == away else 1 if home > away else 3
    assert outcomes == {s: Outcome.WON if s == right else Outcome.LOST for s in (1, 2, 3)}


@pytest.mark.parametrize(("kind", "home", "away"), [(MarketKind.OVER_UNDER, -1, 0), (MarketKind.MATCH_RESULT, 0, -1)])
def test_no_negative_scores(kind: MarketKind, home: int, away: int) -> None:
    """A score below zero is a mistake, not a result."""
    with pytest.raises(ValueError, match="negative"):
        decide_market(kind, 10, home, away)


def expected_payout(stake: int, legs: list[tuple[Fraction, int]]) -> int:
    """Two half stakes per leg, multiplied, rounded down once."""
    fates = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 2), 5: (2, 2)}  # per half: 0 loses, 1 comes back, 2 wins
    worth = [sum((Fraction(0), Fraction(1), 1 + price)[half] for half in fates[outcome]) / 2 for price, outcome in legs]
    return floor(stake * prod(worth, start=Fraction(1)))


@pytest.mark.parametrize("count", range(2, 21))
def test_accumulators(count: int) -> None:
    """2 to 20 legs with any mix of outcomes, prices that never come out even; seeded, 60 of each."""
    chance = random.Random(count)
    for _ in range(60):
        legs = [
            (Fraction(chance.randint(1, 10**6), chance.randint(1, 10**6)), chance.choice((2, 3, 4, 5)))
            for _ in range(count)
        ]
        stake = chance.randint(1, 10**8)
        assert pays(stake, list(legs)) == expected_payout(stake, legs)
        lost = [*legs[1:], (legs[0][0], int(Outcome.LOST))]
        assert pays(stake, list(lost)) == 0


def test_rounding_happens_once() -> None:
    """Three thirds: 10 x 4/3 x 4/3 x 4/3 is 23.7, but 13, 17, 22 when rounded leg by leg."""
    legs: list[tuple[Fraction, int | None]] = [(Fraction(1, 3), Outcome.WON)] * 3
    assert pays(10, legs) == 23
    assert potential_payout(10, [(1, 3)] * 3) == 23


def test_rounding_is_down_also_for_halves() -> None:
    """1 unit, half lost: 0.5 is 0; 3 units half won at 1/1: 4.5 is 4."""
    assert pays(1, [(Fraction(1), Outcome.HALF_LOST)]) == 0
    assert pays(3, [(Fraction(1), Outcome.HALF_WON)]) == 4


@pytest.mark.parametrize(
    ("price", "stake", "expected"),
    [
        (Fraction(1, 10**6), 1, 1), (Fraction(1, 10**6), 999_999, 999_999), (Fraction(1, 10**6), 10**6, 10**6 + 1),
        (Fraction(10**6), 1, 10**6 + 1), (Fraction(10**6), 10**8, 10**14 + 10**8),
    ],
)  # fmt: skip
def test_extreme_prices(price: Fraction, stake: int, expected: int) -> None:
    """The shortest price pays nothing below a million units; the longest pays a million and one for one."""
    assert pays(stake, [(price, Outcome.WON)]) == expected
    assert potential_payout(stake, [(price.numerator, price.denominator)]) == expected


def test_twenty_extreme_legs_are_exact() -> None:
    """No overflow and no float: (1,000,001)^20 and (1,000,001 / 1,000,000)^20."""
    assert potential_payout(7, [(10**6, 1)] * 20) == 7 * (10**6 + 1) ** 20
    assert potential_payout(10**8, [(1, 10**6)] * 20) == 10**8 * (10**6 + 1) ** 20 // 10**120


def test_a_lost_leg_decides_at_once() -> None:
    """Whatever is still open, and in whatever order; any other outcome waits."""
    record = record_struct(2).pack(bytes(16), 10, 0, 2, 1, 1, 1, 1, 1, 2, 2, 1, 1, 1)
    lost = MarketResult(1, {1: Outcome.LOST}, 1, done=False, bets=0, payout_minor=0)
    for market in (1, 2):
        assert payout_of(record, {market: lost}) == 0
        for outcome in (2, 3, 4, 5):
            assert payout_of(record, {market: lost._replace(outcomes={1: outcome})}) is None
