"""Double entry in its plainest form: money only ever moves from one account to another, so all accounts sum to zero."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Name(NamedTuple):
    """A ledger account: a purpose, and for a user's money the account id."""

    purpose: str
    account: bytes = b""


HOUSE = Name("house")
CLEARING = Name("clearing")  # the outside world: negative when more came in than went out


def cash(account: bytes) -> Name:
    """What the user can bet with or withdraw."""
    return Name("cash", account)


def stakes(account: bytes) -> Name:
    """The stakes of the user's open bets."""
    return Name("stakes", account)


def receivable(account: bytes) -> Name:
    """What the user owes the house after a corrected result: zero or negative."""
    return Name("receivable", account)


class Move(NamedTuple):
    """An amount in minor units, never negative, from one account to another."""

    source: Name
    target: Name
    amount_minor: int


@dataclass
class Ledger:
    """Balances in minor units, and every move that led to them."""

    moves: list[Move] = field(default_factory=list)
    balances: dict[Name, int] = field(default_factory=dict)

    def balance(self, name: Name) -> int:
        """Zero for an account that never moved."""
        return self.balances.get(name, 0)

    def move(self, source: Name, target: Name, amount_minor: int) -> None:
        """Moves money. Raises ValueError for a negative amount."""
        if amount_minor < 0:
            raise ValueError(f"{amount_minor} cannot be moved from {source.purpose} to {target.purpose}")
        self.moves.append(Move(source, target, amount_minor))
        self.balances[source] = self.balance(source) - amount_minor
        self.balances[target] = self.balance(target) + amount_minor

    def pay_in(self, account: bytes, source: Name, amount_minor: int) -> None:
        """Money for a user repays what the user owes first; the rest is the user's to use."""
        repaid = min(amount_minor, -self.balance(receivable(account)))
        self.move(source, receivable(account), repaid)
        self.move(source, cash(account), amount_minor - repaid)

    def take_back(self, account: bytes, amount_minor: int) -> None:
        """The house takes the cash there is; the user owes the rest."""
        there = min(amount_minor, self.balance(cash(account)))
        self.move(cash(account), HOUSE, there)
        self.move(receivable(account), HOUSE, amount_minor - there)
