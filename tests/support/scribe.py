"""For tests: journals as the engine makes them, without a bet-service. Deterministic but for the time it is given."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from betting.engine.apply import apply
from betting.engine.commands import (
    ColdBet,
    ColdPage,
    Command,
    Conflict,
    Deposit,
    MarketStatus,
    PlaceBet,
    PricePolicy,
    Progress,
    Quote,
    ResultMarket,
    SettleChunk,
    Withdraw,
)
from betting.engine.decide import decide
from betting.engine.entries import Entry
from betting.engine.outcomes import Outcome
from betting.engine.prices import Limits
from betting.engine.records import SeenLeg
from betting.engine.state import ShardState
from betting.journal import append, ownership, read_model
from betting.journal.append import ShardEntries
from betting.runtime.ids import uuid7_from

OWNER = "bet-service-1@0123456789abcdef"
ADDRESS = "127.0.0.1:7101"
MARKETS = range(1, 7)
# The tables of the read models.
DERIVED = ("accounts", "balances", "bets", "bet_legs", "bet_settlements", "ledger", "market_settlements")
LIMITS = Limits(min_stake_minor=1, max_stake_minor=10**9, max_payout_minor=10**12, max_open_bets=10_000)


class Scribe:
    """Executes commands on one shard's state; the entries they make wait in `pending` to be appended."""

    def __init__(self, shard: int, now_us: int, seed: int = 1) -> None:
        self.state = ShardState(shard)
        self.now_us = now_us
        self.pending: list[Entry] = []
        self._random = random.Random(seed * 1_000_003 + shard)

    def key(self) -> bytes:
        """A new request key, made now."""
        self.now_us += 1_000
        return uuid7_from(self.now_us * 1_000, self._random.randbytes(8))

    def execute(self, command: Command) -> object:
        """Decides, applies, keeps the entries; returns the reply."""
        decision = decide(self.state, command, self.now_us, LIMITS)
        for entry in decision.entries:
            apply(self.state, entry)
        self.pending += decision.entries
        return decision.reply

    def deposit(self, user: bytes, amount_minor: int, currency: bytes = b"GBP") -> object:
        """Money in."""
        return self.execute(Deposit(self.key(), user, currency, amount_minor))

    def withdraw(self, user: bytes, amount_minor: int, currency: bytes = b"GBP") -> object:
        """Money out."""
        return self.execute(Withdraw(self.key(), user, currency, amount_minor))

    def place(
        self, user: bytes, stake_minor: int, selections: Sequence[tuple[int, int]], currency: bytes = b"GBP"
    ) -> object:
        """A bet on (market, selection) pairs, each at evens; every market is on an event of the same number."""
        legs = tuple(SeenLeg(market, selection, 1, 1) for market, selection in selections)
        closes = self.now_us + 3_600_000_000
        quotes = tuple(Quote(leg.market, 1, 1, 7, MarketStatus.OPEN, closes, 40) for leg in legs)
        return self.execute(PlaceBet(self.key(), user, currency, stake_minor, legs, PricePolicy.ACCEPT_BETTER, quotes))

    def result(self, market: int, version: int, outcomes: Mapping[int, int]) -> object:
        """Puts a result into force."""
        self.now_us += 1_000
        return self.execute(ResultMarket(market, version, dict(outcomes)))

    def settle_open(self, market: int, version: int, chunk: int = 50) -> bool:
        """Looks at the open bets of a market; whether that finished the version."""
        while True:
            waiting = self.state.settling.get(market)
            if waiting is None:
                return True
            if not waiting.unvisited and version > 1:
                return False
            reply = self.execute(SettleChunk(market, version, chunk, None))
            assert isinstance(reply, Progress)
            if reply.done:
                return True

    async def settle_cold(self, connection: asyncpg.Connection, market: int, version: int, chunk: int = 50) -> None:
        """Settles settled bets of a market anew, from the read model, which must have this version's result."""
        before = self.state.results[market].sequence
        while market in self.state.settling:
            cursor = self.state.settling[market].cursor
            shard = self.state.shard
            rows = await read_model.cold_bets(connection, shard, market, before, cursor or bytes(16), chunk)
            totals = await read_model.version_totals(connection, shard, market, version - 1)
            bets = tuple(ColdBet(row.bet, row.record, row.settlements, row.payout_minor) for row in rows)
            page = ColdPage(cursor, bets, len(rows) < chunk, totals.bets, totals.payout_minor)
            reply = self.execute(SettleChunk(market, version, chunk, page))
            assert not isinstance(reply, Conflict), reply

    def take(self) -> list[Entry]:
        """The pending entries, which are no longer pending."""
        taken, self.pending = self.pending, []
        return taken

    async def commit(self, connection: asyncpg.Connection, owner: str = OWNER, epoch: int = 1) -> list[Entry]:
        """Appends the pending entries; returns them."""
        entries = self.take()
        answer = await append.append(connection, owner, [ShardEntries(self.state.shard, epoch, entries)])
        assert self.state.shard in answer.matched
        return entries


async def own(connection: asyncpg.Connection, shards: Sequence[int], owner: str = OWNER) -> None:
    """Takes free shards at epoch 1."""
    for shard in shards:
        acquired = await ownership.acquire(connection, shard, owner, ADDRESS, 0)
        assert acquired is not None


def users_of(shard: int) -> list[bytes]:
    """A user is in one shard only."""
    return [bytes([16 * shard + n]) * 16 for n in range(1, 9)]


def busy(scribe: Scribe, seed: int, bets: int = 120) -> None:
    """Deposits, withdrawals, singles and doubles, refusals."""
    dice = random.Random(seed)
    users = users_of(scribe.state.shard)
    for user in users:
        scribe.deposit(user, 10_000)
    for _ in range(bets):
        user = dice.choice(users)
        markets = dice.sample(list(MARKETS), dice.choice((1, 1, 2)))
        scribe.place(user, dice.randint(1, 400), [(market, dice.choice((1, 2))) for market in markets])
        if dice.random() < 0.1:
            scribe.withdraw(user, 100)
    scribe.place(users[0], 10**9, [(1, 1)])


def settle(scribe: Scribe, market: int, version: int, winner: int) -> bool:
    """A result, and the open bets of the market settled by it; whether that finished the version."""
    outcomes = {1: Outcome.LOST, 2: Outcome.LOST} | {winner: Outcome.WON}
    scribe.result(market, version, {selection: int(outcome) for selection, outcome in outcomes.items()})
    return scribe.settle_open(market, version)


async def dump(connection: asyncpg.Connection) -> dict[str, list[Any]]:
    """Every row of the read models, as text, in order."""
    rows = {table: await connection.fetch(f"SELECT t::text FROM betting.{table} t ORDER BY 1") for table in DERIVED}
    return {table: [row[0] for row in found] for table, found in rows.items()}
