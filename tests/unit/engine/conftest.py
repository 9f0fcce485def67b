"""A small betting shop that any command can be thrown at; engine and reference run in lockstep behind it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, settings
from reference import Lockstep

from betting.engine.commands import (
    Deposit,
    MarketStatus,
    PlaceBet,
    Quote,
    Recorded,
    Reply,
    ResultMarket,
    SettleChunk,
    Withdraw,
)
from betting.engine.prices import Limits
from betting.engine.records import SeenLeg

_SLOW_MACHINE = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("fast", max_examples=80, stateful_step_count=40, deadline=None)
settings.register_profile(
    "thorough", max_examples=2_000, stateful_step_count=80, deadline=None, suppress_health_check=_SLOW_MACHINE
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

START_US = 1_800_000_000_000_000
MINUTE_US = 60_000_000
MINUTE_MS = 60_000

USERS = tuple(bytes([number]) * 16 for number in (1, 2, 3))
CURRENCIES = (b"GBP", b"EUR")
EVENT_OF = {101: 1, 102: 1, 201: 2, 202: 2, 301: 3, 401: 4}
MARKETS = tuple(EVENT_OF)
SELECTIONS = {market: (1, 2, 3) if market % 100 == 1 else (1, 2) for market in MARKETS}
# Around evens, thirds that never come out even, the longest and the shortest there can be.
PRICES = ((1, 1), (91, 100), (9, 2), (1, 3), (2, 3), (7, 5), (999_999, 1_000_000), (1, 1_000_000), (1_000_000, 1))
LIMITS = Limits(
    min_stake_minor=10, max_stake_minor=5_000, max_payout_minor=200_000, max_open_bets=12, max_cash_minor=50_000
)


def uuid7(time_ms: int, number: int) -> bytes:
    """A request key made at a time; the number keeps keys of one millisecond apart."""
    rest = bytearray(hashlib.sha256(number.to_bytes(8)).digest()[:10])
    rest[0] = 0x70 | (rest[0] & 0x0F)
    rest[2] = 0x80 | (rest[2] & 0x3F)
    return time_ms.to_bytes(6) + bytes(rest)


class World:
    """A shop with three users, six markets over four events, and a price book that the caller moves."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.twins = Lockstep(7, limits)
        self.now_us = START_US
        self.past: list[PlaceBet | Deposit | Withdraw] = []
        self.made = 0
        self.round = 0
        self.book: dict[tuple[int, int], Quote] = {}
        self._open_markets()

    def _open_markets(self) -> None:
        closes_at_us = self.now_us + 7 * 24 * 60 * MINUTE_US
        for market, event in EVENT_OF.items():
            for selection in SELECTIONS[market]:
                quote = Quote(event + 10 * self.round, 1, 1, 1, MarketStatus.OPEN, closes_at_us, 50)
                self.book[self.market(market), selection] = quote

    def next_round(self) -> None:
        """Six more markets over four more events; bets go there, the old ones can still be settled and corrected."""
        self.round += 1
        self._open_markets()

    def market(self, number: int, back: int = 0) -> int:
        """The market of this round, or of a round before."""
        return number + 1_000 * max(0, self.round - back)

    def key(self, age_ms: int = 0) -> bytes:
        """A fresh request key, made this long ago."""
        self.made += 1
        return uuid7(self.now_us // 1000 - age_ms, self.made)

    def place(
        self,
        picks: Sequence[tuple[int, int]],
        stake: int = 100,
        *,
        user: int = 0,
        currency: int = 0,
        policy: int = 0,
        seen: tuple[int, int] | None = None,
        key: bytes | None = None,
    ) -> Reply:
        """A bet on (market, selection) picks; `seen` replaces the price of the first leg."""
        quotes = tuple(self.book.get(pick) for pick in picks)
        prices = [(quote.numerator, quote.denominator) if quote else (1, 1) for quote in quotes]
        if seen is not None:
            prices[0] = seen
        legs = tuple(SeenLeg(*pick, *price) for pick, price in zip(picks, prices, strict=True))
        command = PlaceBet(key or self.key(), USERS[user], CURRENCIES[currency], stake, legs, policy, quotes)
        return self.money(command)

    def deposit(self, amount: int, *, user: int = 0, currency: int = 0, key: bytes | None = None) -> Reply:
        """Money in."""
        return self.money(Deposit(key or self.key(), USERS[user], CURRENCIES[currency], amount))

    def withdraw(self, amount: int, *, user: int = 0, currency: int = 0, key: bytes | None = None) -> Reply:
        """Money out."""
        return self.money(Withdraw(key or self.key(), USERS[user], CURRENCIES[currency], amount))

    def cash(self, user: int = 0, currency: int = 0) -> int:
        """What the account has, 0 without an account."""
        account = self.twins.state.account_ids.get(USERS[user] + CURRENCIES[currency])
        return self.twins.state.accounts[account].cash_minor if account is not None else 0

    def money(self, command: PlaceBet | Deposit | Withdraw) -> Reply:
        """Any money command; kept, so that it can be repeated."""
        reply = self.twins.execute(command, self.now_us)
        if isinstance(reply, Recorded) and not reply.repeated:
            self.past.append(command)
        return reply

    def repeat(self, index: int, change: str) -> Reply | None:
        """Sends an earlier command again, with one thing changed. None: there is nothing to repeat."""
        if not self.past:
            return None
        return self.money(changed(self.past[index % len(self.past)], change))

    def next_version(self, market: int) -> int:
        """The number the market's next result has."""
        known = self.twins.state.results.get(market)
        return 1 if known is None else known.version + 1

    def result(self, market: int, outcomes: dict[int, int], step: int = 0) -> Reply:
        """A result; `step` off the version that is due."""
        command = ResultMarket(market, max(1, self.next_version(market) + step), dict(outcomes))
        return self.twins.execute(command, self.now_us)

    def chunk(self, market: int, limit: int, page_size: int, wrong: str = "") -> Reply:
        """A settlement chunk of the version in force; `wrong`: the cursor, the totals or the version."""
        version = self.next_version(market) - 1 + (1 if wrong == "version" else 0)
        page = self.twins.page(market, page_size)
        if page is not None and wrong == "cursor":
            page = page._replace(after=b"\xff" * 16)
        if page is not None and wrong == "totals":
            page = page._replace(version_payout_minor=page.version_payout_minor + 1)
        if wrong == "no page":
            page = None
        return self.twins.execute(SettleChunk(market, version, limit, page), self.now_us)

    def settle(self, market: int, outcomes: dict[int, int], limit: int = 3, page_size: int = 2) -> Reply:
        """The next version of a market's result, settled to the end."""
        command = ResultMarket(market, self.next_version(market), dict(outcomes))
        return self.twins.settle_all(command, limit, page_size, self.now_us)

    def quote(self, market: int, selection: int, **fields: int) -> None:
        """The book says something else of one selection from now on."""
        self.book[market, selection] = self.book[market, selection]._replace(**fields)


def changed(command: PlaceBet | Deposit | Withdraw, change: str) -> PlaceBet | Deposit | Withdraw:
    """The same request key with one thing changed; unchanged where the command has no such thing."""
    key, user, currency = command.key, command.user, command.currency
    match change:
        case "user":
            return command._replace(user=USERS[(USERS.index(user) + 1) % 3])
        case "currency":
            return command._replace(currency=CURRENCIES[(CURRENCIES.index(currency) + 1) % 2])
        case "amount" if isinstance(command, PlaceBet):
            return command._replace(stake_minor=command.stake_minor + 1)
        case "amount":
            assert not isinstance(command, PlaceBet)
            return command._replace(amount_minor=command.amount_minor + 1)
        case "method":
            return Withdraw(key, user, currency, 5) if isinstance(command, Deposit) else Deposit(key, user, currency, 5)
        case "legs" if isinstance(command, PlaceBet):
            first = command.legs[0]._replace(numerator=command.legs[0].numerator % 1_000_000 + 1)
            return command._replace(legs=(first, *command.legs[1:]))
        case "policy" if isinstance(command, PlaceBet):
            return command._replace(policy=(command.policy + 1) % 3)
        case _:
            return command


@pytest.fixture(scope="session")
def world_type() -> type[World]:
    """The class, for tests that need many shops."""
    return World


@pytest.fixture
def world() -> World:
    """A shop whose first user has 10,000 in the first currency."""
    shop = World()
    shop.deposit(10_000)
    return shop
