"""Decimal odds and lines read exactly from text."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from betting.feeds.decimals import MAX_DECIMAL_ODDS, Odds, parse_american, parse_line_quarters, parse_odds


@pytest.mark.parametrize(
    ("text", "odds"),
    [
        ("1.91", Odds(91, 100)),
        ("4.5", Odds(7, 2)),
        ("13", Odds(12, 1)),
        ("2.00", Odds(1, 1)),
        ("1.001", Odds(1, 1000)),
        ("16.22", Odds(761, 50)),
        ("1.1", Odds(1, 10)),
    ],
)
def test_odds_become_the_exact_profit_fraction(text: str, odds: Odds) -> None:
    """Known values, in lowest terms."""
    assert parse_odds(text) == odds


@given(st.integers(min_value=101, max_value=MAX_DECIMAL_ODDS * 100))
def test_every_hundredth_is_exact(hundredths: int) -> None:
    """For all odds with two decimals the fraction plus the stake is the odds, exactly."""
    text = f"{hundredths // 100}.{hundredths % 100:02d}"
    odds = parse_odds(text)
    assert Fraction(*odds) + 1 == Fraction(hundredths, 100)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not decimal odds"),
        ("abc", "not decimal odds"),
        ("1,91", "as a dot"),
        ("1.91.2", "not decimal odds"),
        ("-2.5", "not decimal odds"),
        ("1e3", "not decimal odds"),
        ("١.٩", "not decimal odds"),
        ("1", "no profit"),
        ("1.00", "no profit"),
        ("0.5", "no profit"),
        ("5000.01", "absurd"),
        ("999999", "absurd"),
        ("1.0000001", "not decimal odds"),
        ("2.999999", "too fine"),
    ],
)
def test_bad_odds_say_why(text: str, complaint: str) -> None:
    """Each kind of nonsense has its own words."""
    with pytest.raises(ValueError, match=complaint):
        parse_odds(text)


@given(st.text(max_size=12))
def test_no_text_crashes_the_parser(text: str) -> None:
    """Any text gives a price with parts in range, or a ValueError."""
    try:
        odds = parse_odds(text)
    except ValueError:
        return
    assert 1 <= odds.numerator <= 1_000_000
    assert 1 <= odds.denominator <= 1_000_000


@pytest.mark.parametrize(
    ("text", "quarters"), [("0", 0), ("-0.75", -3), ("+1.5", 6), ("2.25", 9), ("-2", -8), ("-0", 0), ("0.50", 2)]
)
def test_lines_become_quarters(text: str, quarters: int) -> None:
    """Known values."""
    assert parse_line_quarters(text) == quarters


@pytest.mark.parametrize(
    ("text", "complaint"), [("0.3", "quarter goals"), ("x", "not a line"), ("21", "absurd"), ("", "not a line")]
)
def test_bad_lines_say_why(text: str, complaint: str) -> None:
    """Each kind of nonsense has its own words."""
    with pytest.raises(ValueError, match=complaint):
        parse_line_quarters(text)


@pytest.mark.parametrize(
    ("text", "odds"),
    [
        ("-110", Odds(10, 11)),
        ("150", Odds(3, 2)),
        ("+150", Odds(3, 2)),
        ("100", Odds(1, 1)),
        ("-100", Odds(1, 1)),
        ("-115.0", Odds(20, 23)),
        ("-100000", Odds(1, 1000)),
    ],
)
def test_american_odds_become_the_exact_profit_fraction(text: str, odds: Odds) -> None:
    """Profit on 100 staked, or the stake for a profit of 100."""
    assert parse_american(text) == odds


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not American"),
        ("1.91", "not American"),
        ("99", "at least 100"),
        ("-50", "at least 100"),
        ("0", "at least 100"),
        ("-110.5", "not American"),
        ("1e3", "not American"),
        ("9999999", "absurd"),
        ("-9999999", "too fine"),
    ],
)
def test_bad_american_odds_say_why(text: str, complaint: str) -> None:
    """Decimal odds by mistake, and numbers nobody offers."""
    with pytest.raises(ValueError, match=complaint):
        parse_american(text)
