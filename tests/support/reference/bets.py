"""Bets, and what they pay. Everything in fractions; one rounding, down, at the very end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import floor, prod

from betting.engine.records import record_struct

# A result is a fate of the two halves of a stake. A half that wins pays 1 + price, one that is void comes back.
LOST, HALF_LOST, VOID, HALF_WON, WON = 1, 2, 3, 4, 5

Results = Mapping[int, Mapping[int, int]]  # market -> selection -> outcome


@dataclass(frozen=True)
class Leg:
    """One selection at the price taken."""

    event: int
    market: int
    selection: int
    numerator: int
    denominator: int

    @property
    def price(self) -> Fraction:
        """Profit per unit staked."""
        return Fraction(self.numerator, self.denominator)


@dataclass
class Bet:
    """A bet from its placing on; `payout_minor` is None while it is open."""

    id: bytes
    account: bytes
    stake_minor: int
    placed_at_us: int
    legs: tuple[Leg, ...]
    payout_minor: int | None = None
    settlements: int = 0

    @property
    def is_open(self) -> bool:
        return self.payout_minor is None

    def is_on(self, market: int) -> bool:
        """Whether a leg is on the market."""
        return any(leg.market == market for leg in self.legs)

    def record(self) -> bytes:
        """The bet's bytes, as the journal has them."""
        flat = [part for g in self.legs for part in (g.event, g.market, g.selection, g.numerator, g.denominator)]
        return record_struct(len(self.legs)).pack(
            self.account, self.stake_minor, self.placed_at_us, len(self.legs), *flat
        )


def return_per_unit(outcome: int, price: Fraction) -> Fraction:
    """What one unit staked on a selection gives back, the unit included."""
    win, back, nothing = 1 + price, Fraction(1), Fraction(0)
    halves = {
        LOST: (nothing, nothing),
        HALF_LOST: (nothing, back),
        VOID: (back, back),
        HALF_WON: (back, win),
        WON: (win, win),
    }
    return sum(halves[outcome], Fraction(0)) / 2


def potential_payout(stake_minor: int, legs: tuple[Leg, ...]) -> int:
    """What the bet pays if everything wins: each leg's return is the next one's stake."""
    return floor(stake_minor * prod((1 + leg.price for leg in legs), start=Fraction(1)))


def payout(bet: Bet, results: Results) -> int | None:
    """What the bet pays under these results; None while that is open. A lost leg loses the bet at once."""
    outcomes = [results.get(leg.market, {}).get(leg.selection) for leg in bet.legs]
    if LOST in outcomes:
        return 0
    returns = Fraction(1)
    for leg, outcome in zip(bet.legs, outcomes, strict=True):
        if outcome is None:
            return None
        returns *= return_per_unit(outcome, leg.price)
    return floor(bet.stake_minor * returns)
