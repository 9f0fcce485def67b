"""What request keys were used for. The reference forgets nothing; `recent` says what an owner must have in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from betting.engine.commands import Deposit, PlaceBet, Withdraw
from betting.engine.entries import Kind
from betting.engine.ids import account_id, key_time_ms
from betting.engine.refusals import Refusal

PROMISED = timedelta(minutes=15)
KEPT = PROMISED + timedelta(minutes=5)  # clock slack
LIFETIME = timedelta(days=30)
AHEAD = timedelta(minutes=5)

MoneyCommand = PlaceBet | Deposit | Withdraw


@dataclass(frozen=True)
class Answer:
    """The first request of a key, the entry it was answered with, and the minute it is remembered by."""

    command: MoneyCommand
    kind: int
    body: bytes
    minute: int


@dataclass
class Answers:
    """Every answer ever given, by whose request key it was and the key."""

    given: dict[tuple[bytes, bytes], Answer] = field(default_factory=dict)

    def find(self, command: MoneyCommand) -> Answer | None:
        """The first answer to this key of this user, if it was ever used."""
        account = account_id(command.user, command.currency)
        return self.given.get((account, command.key)) or self.given.get((command.user, command.key))

    def give(self, command: MoneyCommand, kind: int, body: bytes, now_us: int) -> None:
        """A key is remembered by the minute it was made in; an old one, by the minute it was used in.

        It is the user's, whatever the currency. Only a deposit that would leave too much is the account's: it may be
        the first, and then there is no account yet that names its user.
        """
        made, used = key_time_ms(command.key) // 60_000, minute_of(now_us)
        is_old = made <= used - PROMISED // timedelta(minutes=1)
        too_much = kind == Kind.REFUSED and isinstance(command, Deposit)
        owner = account_id(command.user, command.currency) if too_much else command.user
        self.given[owner, command.key] = Answer(command, kind, body, used if is_old else made)

    def recent(self, now_us: int) -> tuple[tuple[bytes, int, bytes], ...]:
        """Key, kind and body of every answer that an owner must have in memory at this time, sorted."""
        oldest = minute_of(now_us) - KEPT // timedelta(minutes=1)
        return tuple(sorted((key, a.kind, a.body) for (_owner, key), a in self.given.items() if a.minute >= oldest))


def minute_of(time_us: int) -> int:
    """Whole minutes since 1970."""
    return time_us // 60_000_000


def key_refusal(key: bytes, now_us: int) -> Refusal | None:
    """Why a key that was never answered may not be used, or None."""
    age = timedelta(milliseconds=now_us // 1000 - key_time_ms(key))
    if age > LIFETIME:
        return Refusal.KEY_EXPIRED
    if age < -AHEAD:
        return Refusal.KEY_IN_FUTURE
    return None


def differing_field(now: MoneyCommand, first: MoneyCommand) -> str:
    """The first field in which two requests differ; empty when they ask for the same."""
    if type(now) is not type(first):
        return "method"
    if account_id(now.user, now.currency) != account_id(first.user, first.currency):
        return "account"
    if isinstance(now, PlaceBet) and isinstance(first, PlaceBet):
        if now.stake_minor != first.stake_minor:
            return "stake_minor"
        if now.legs != first.legs:
            return "legs"
        return "price_change_policy" if now.policy != first.policy else ""
    assert not isinstance(now, PlaceBet)
    assert not isinstance(first, PlaceBet)
    return "amount_minor" if now.amount_minor != first.amount_minor else ""


def method_of(command: MoneyCommand) -> Kind:
    """The kind of entry that a successful command makes."""
    if isinstance(command, PlaceBet):
        return Kind.BET_PLACED
    return Kind.DEPOSITED if isinstance(command, Deposit) else Kind.WITHDRAWN
