"""Odds (decimal and American) and handicap lines, read from text exactly: no float is ever involved."""

from __future__ import annotations

import re
from math import gcd
from typing import NamedTuple

from betting.engine import prices

# Bookmakers stop at odds of 1,001; averages of exchanges go somewhat beyond. More is a typing error.
MAX_DECIMAL_ODDS = 5_000
# More goals of handicap, or of a total, than this is a typing error.
MAX_LINE_GOALS = 20

# American odds are the profit on a stake of 100, or, with a minus, the stake for a profit of 100.
_AMERICAN_MIN = 100

# ASCII digits only: \d alone also means those of other scripts.
_ODDS = re.compile(r"(\d{1,6})(?:\.(\d{1,6}))?", re.ASCII)
_AMERICAN = re.compile(r"([+-]?)(\d{1,7})(?:\.0+)?", re.ASCII)
_LINE = re.compile(r"([+-]?)(\d{1,3})(?:\.(\d{1,4}))?", re.ASCII)


class Odds(NamedTuple):
    """Profit per unit staked, in lowest terms."""

    numerator: int
    denominator: int


def parse_odds(text: str) -> Odds:
    """The profit fraction of decimal odds: "1.91" is 91/100, "4.5" is 7/2.

    Raises ValueError saying what is wrong and what is expected.
    """
    match = _ODDS.fullmatch(text)
    if match is None:
        hint = "; write the decimal point as a dot" if "," in text else ""
        raise ValueError(f"{text[:40]!r} is not decimal odds: expected a number such as 1.91{hint}")
    whole, decimals = int(match[1]), match[2] or ""
    scale: int = 10 ** len(decimals)
    total = whole * scale + int(decimals or "0")
    return _profit(text, total - scale, scale)


def parse_american(text: str) -> Odds:
    """The profit fraction of American odds: "150" or "+150" is 3/2, "-110" is 10/11.

    Raises ValueError saying what is wrong and what is expected.
    """
    match = _AMERICAN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not American odds: expected a whole number such as -110 or +150")
    size = int(match[2])
    if size < _AMERICAN_MIN:
        raise ValueError(f"odds {text} are not American: they are at least {_AMERICAN_MIN}, with or without a minus")
    return _profit(text, _AMERICAN_MIN, size) if match[1] == "-" else _profit(text, size, _AMERICAN_MIN)


def _profit(text: str, profit: int, scale: int) -> Odds:
    if profit <= 0:
        raise ValueError(f"odds {text} pay no profit: decimal odds include the stake and must be above 1")
    if profit + scale > MAX_DECIMAL_ODDS * scale:
        raise ValueError(f"odds {text} are absurd: at most {MAX_DECIMAL_ODDS} is believed; check the cell")
    divisor = gcd(profit, scale)
    odds = Odds(profit // divisor, scale // divisor)
    if not prices.is_price(*odds):
        raise ValueError(f"odds {text} are too fine: the fraction's parts may be {prices.MAX_PRICE_PART} at most")
    return odds


def parse_line_quarters(text: str, goals_max: int = MAX_LINE_GOALS) -> int:
    """A line in goals as whole quarters: "-0.75" is -3, "2.5" is 10. Some sports believe in more goals (points).

    Raises ValueError saying what is wrong and what is expected.
    """
    match = _LINE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a line: expected goals in quarters, such as -0.75")
    decimals = match[3] or ""
    scale: int = 10 ** len(decimals)
    quarters, rest = divmod(4 * int(match[2] + decimals), scale)
    if rest:
        raise ValueError(f"line {text} is not a whole number of quarter goals (such as -0.75, 0, 1.25)")
    if quarters > 4 * goals_max:
        raise ValueError(f"line {text} is absurd: at most {goals_max} goals are believed; check the cell")
    return -quarters if match[1] == "-" else quarters
