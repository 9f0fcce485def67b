"""Prices between opening and closing."""

from __future__ import annotations

import itertools
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from betting.feeds.decimals import Odds
from betting.feeds.replay import path

_ODDS = (
    st.integers(102, 30_000)
    .map(lambda cents: Fraction(cents - 100, 100))
    .map(lambda f: Odds(f.numerator, f.denominator))
)


def probability(odds: Odds) -> Fraction:
    return Fraction(odds.denominator, odds.numerator + odds.denominator)


@given(st.integers(0, 2**52), st.integers(1, 400))
def test_a_pace_goes_from_opening_to_closing_and_stays_between(seed: int, moves: int) -> None:
    """It begins at 0, ends whole, never leaves that range, and is the same each time."""
    found = path.pace(seed, moves)
    assert len(found) == moves
    assert found[0] == 0
    assert found[-1] == (path.WHOLE if moves > 1 else 0)
    assert all(0 <= at <= path.WHOLE for at in found)
    path.pace.cache_clear()
    assert path.pace(seed, moves) == found


def test_released_paces_do_not_change() -> None:
    """A restarted replay under another Python must continue the same walk."""
    assert path.pace(2159488907247268, 8) == (0, 1547, 2261, 3808, 5356, 7737, 8451, 10000)


def test_paces_of_different_events_differ() -> None:
    """Seeds matter, and walks go both ways: they are no ramps."""
    walks = [path.pace(seed, 200) for seed in range(20)]
    assert len(set(walks)) == 20
    assert any(later < earlier for walk in walks for earlier, later in itertools.pairwise(walk))


@given(_ODDS, _ODDS, st.integers(0, path.WHOLE))
def test_prices_stay_between_their_ends(opening: Odds, closing: Odds, part: int) -> None:
    """Exactly the ends at the ends; between them never shorter or longer than both; always legal."""
    price = path.price_at(opening, closing, part)
    assert path.price_at(opening, closing, 0) == opening
    assert path.price_at(opening, closing, path.WHOLE) == closing
    low, high = sorted((Fraction(*opening), Fraction(*closing)))
    assert low <= Fraction(*price) <= high
    assert 1 <= price.numerator <= 1_000_000
    assert 1 <= price.denominator <= 1_000_000


@given(st.lists(st.tuples(_ODDS, _ODDS), min_size=2, max_size=3), st.integers(0, path.WHOLE))
def test_no_step_offers_a_sure_win_the_bookmaker_did_not(pairs: list[tuple[Odds, Odds]], part: int) -> None:
    """Implied probabilities add up to at least the smaller of their sums at opening and closing."""
    least = min(sum(probability(opening) for opening, _ in pairs), sum(probability(closing) for _, closing in pairs))
    assert sum(probability(path.price_at(*pair, part)) for pair in pairs) >= least
