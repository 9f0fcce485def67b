"""How a price walks from opening to closing. Pure, exact and the same in every run.

All selections of an event's markets share one pace, a random walk from 0 (opening) to 1 (closing) that stays between.
A price is interpolated in implied probability, so a market's probabilities always add up to at least the smaller of
their opening and closing sums: no step of the walk offers a sure win that the bookmaker did not.
"""

from __future__ import annotations

import functools
import random
from math import gcd, isqrt

from betting.feeds.decimals import Odds

# Paces are counted in these parts of the way.
WHOLE = 10_000
# How far a walk strays: about this part of the way, at half time.
_STRAY = 2_500
# Moves of a price land on hundredths, as bookmakers' decimal odds do.
_TICKS_PER_UNIT = 100
_PACES_KEPT = 512


@functools.lru_cache(maxsize=_PACES_KEPT)
def pace(seed: int, moves: int) -> tuple[int, ...]:
    """Where the walk is at each of `moves` moves, in parts of WHOLE: first 0, last WHOLE (a single move stays at 0)."""
    assert moves >= 1
    last = moves - 1
    if last == 0:
        return (0,)
    # random() is the one method whose numbers Python promises to keep for a seed.
    generator = random.Random(seed)
    walk = [0]
    for _ in range(last):
        walk.append(walk[-1] + int(generator.random() * 3) - 1)
    stray = last * (isqrt(last) + 1)
    bridged = [(at * last - index * walk[-1]) * _STRAY // stray for index, at in enumerate(walk)]
    return tuple(min(WHOLE, max(0, index * WHOLE // last + off)) for index, off in enumerate(bridged))


def price_at(opening: Odds, closing: Odds, part: int) -> Odds:
    """The price when the walk is at `part` of WHOLE: exactly the opening at 0 and the closing price at WHOLE."""
    assert 0 <= part <= WHOLE
    if part == 0 or opening == closing:
        return opening
    if part == WHOLE:
        return closing
    # With decimal odds D = returned/staked, the implied probability is staked/returned.
    opened, closed = opening.numerator + opening.denominator, closing.numerator + closing.denominator
    probability = (WHOLE - part) * opening.denominator * closed + part * closing.denominator * opened
    ticks = _TICKS_PER_UNIT * (WHOLE * opened * closed - probability) // probability
    divisor = gcd(ticks, _TICKS_PER_UNIT)
    walked = Odds(ticks // divisor, _TICKS_PER_UNIT // divisor)
    floor = opening if _is_shorter(opening, closing) else closing
    # Rounding down must not take it below both ends.
    return floor if _is_shorter(walked, floor) else walked


def _is_shorter(a: Odds, b: Odds) -> bool:
    return a.numerator * b.denominator < b.numerator * a.denominator
