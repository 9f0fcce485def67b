"""Exact prices and payouts. A price is a fraction of profit per unit staked; nothing is ever a float."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

MAX_PRICE_PART = 1_000_000
INT64_MAX = 2**63 - 1

MAX_LEGS = 20


class Limits(NamedTuple):
    """What one bettor may do at most; amounts in minor units of the account's currency."""

    min_stake_minor: int = 1
    max_stake_minor: int = 100_000_000
    max_payout_minor: int = 100_000_000_000
    max_open_bets: int = 1_000
    max_cash_minor: int = 1_000_000_000_000_000

    def check(self) -> Limits:
        """Returns itself if the limits can all hold at once; raises ValueError naming the one that cannot."""
        if not 0 < self.min_stake_minor <= self.max_stake_minor:
            raise ValueError("min_stake_minor must be positive and at most max_stake_minor")
        if not self.max_stake_minor <= self.max_payout_minor:
            raise ValueError("max_payout_minor must be at least max_stake_minor: a void bet pays its stake back")
        if not 0 < self.max_open_bets <= 100_000:
            raise ValueError("max_open_bets must be from 1 to 100,000")
        # Everything a user can own must fit an int64 with room for any further settlement.
        if self.max_cash_minor + self.max_open_bets * self.max_payout_minor > INT64_MAX // 4:
            raise ValueError("max_cash_minor + max_open_bets x max_payout_minor must stay far below 2^63")
        return self


def is_price(numerator: int, denominator: int) -> bool:
    """Whether both parts are from 1 to 1,000,000."""
    return 1 <= numerator <= MAX_PRICE_PART and 1 <= denominator <= MAX_PRICE_PART


def compare(numerator_a: int, denominator_a: int, numerator_b: int, denominator_b: int) -> int:
    """Negative, zero or positive as price a is shorter than, equal to or longer than price b."""
    return numerator_a * denominator_b - numerator_b * denominator_a


def potential_payout(stake_minor: int, prices: Iterable[tuple[int, int]]) -> int:
    """What a bet pays if every leg wins, stake included: computed exactly and rounded once, down."""
    top, bottom = stake_minor, 1
    for numerator, denominator in prices:
        top *= numerator + denominator
        bottom *= denominator
    return top // bottom
