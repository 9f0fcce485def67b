"""Two readings of the same rules: whatever the engine decides on random commands, the audit must find in order."""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID
from zlib import crc32

import psycopg
import pytest
from reference.cold import record_of

from betting.audit import audit
from betting.engine.apply import apply
from betting.engine.commands import (
    ColdBet,
    ColdPage,
    Deposit,
    PlaceBet,
    Progress,
    Quote,
    ResultMarket,
    SettleChunk,
    Withdraw,
)
from betting.engine.decide import decide
from betting.engine.entries import Entry, Kind
from betting.engine.prices import Limits
from betting.engine.records import SeenLeg, unpack_placed
from betting.engine.state import ShardState

SHARD, SHARD_COUNT = 3, 16
START_US = 1_760_000_000_000_000
MARKETS = range(1, 25)


class Owner:
    """One shard, driven by random commands; keeps every entry, and the settled bets as the read model would."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.state = ShardState(SHARD)
        self.entries: list[Entry] = []
        self.records: dict[bytes, bytes] = {}
        self.settled: dict[bytes, tuple[int, int]] = {}
        self.now_us = START_US
        numbers = (UUID(int=START_US // 1000 << 80 | 0x7 << 76 | 0b10 << 62 | n).bytes for n in range(10_000))
        self.users = [user for user in numbers if crc32(user) % SHARD_COUNT == SHARD][:5]
        self.versions: dict[int, int] = {}

    def run(self, commands: int) -> None:
        """So many random commands."""
        for _ in range(commands):
            self.now_us += self.random.randrange(1, 1_000_000)
            self.random.choices([self._deposit, self._withdraw, self._place, self._result], [3, 3, 20, 2])[0]()

    def _execute(self, command: Any) -> Any:
        decision = decide(self.state, command, self.now_us, Limits())
        for entry in decision.entries:
            apply(self.state, entry)
            self.entries.append(entry)
            self._follow(entry)
        return decision.reply

    def _follow(self, entry: Entry) -> None:
        if entry.kind == Kind.BET_PLACED:
            assert entry.bet is not None
            self.records[entry.bet] = record_of(entry.body)
        elif entry.kind in (Kind.BET_SETTLED, Kind.BET_RESETTLED):
            assert entry.bet is not None
            payout = entry.body[6:14] if entry.kind == Kind.BET_SETTLED else entry.body[14:22]
            self.settled[entry.bet] = (int.from_bytes(entry.body[4:6], "big"), int.from_bytes(payout, "big"))
        elif entry.kind == Kind.BET_REOPENED:
            assert entry.bet is not None
            del self.settled[entry.bet]

    def _key(self) -> bytes:
        return UUID(int=self.now_us // 1000 << 80 | 0x7 << 76 | 0b10 << 62 | self.random.getrandbits(60)).bytes

    def _deposit(self) -> None:
        self._execute(Deposit(self._key(), self.random.choice(self.users), b"GBP", self.random.randrange(1, 20_000)))

    def _withdraw(self) -> None:
        self._execute(Withdraw(self._key(), self.random.choice(self.users), b"GBP", self.random.randrange(1, 30_000)))

    def _place(self) -> None:
        markets = self.random.sample(MARKETS, self.random.choice([1, 1, 2, 3]))
        legs, quotes = [], []
        for market in markets:
            seen = (self.random.randrange(1, 500), 100)
            current = self.random.choice([seen, (self.random.randrange(1, 500), 100)])
            legs.append(SeenLeg(market, self.random.randrange(1, 3), *seen))
            quotes.append(Quote(market * 10, *current, 1, 1, self.now_us + 1_000, 5))
        policy = self.random.randrange(3)
        stake = self.random.randrange(1, 3_000)
        user = self.random.choice(self.users)
        self._execute(PlaceBet(self._key(), user, b"GBP", stake, tuple(legs), policy, tuple(quotes)))

    def _result(self) -> None:
        market = self.random.choice(MARKETS)
        first = self.random.randrange(1, 6)
        version = self.versions[market] = self.versions.get(market, 0) + 1
        self._execute(ResultMarket(market, version, {1: first, 2: 6 - first}))
        after = b""
        while True:
            cold = None if self.state.settling[market].unvisited else self._cold_page(market, version, after)
            reply = self._execute(SettleChunk(market, version, 7, cold))
            assert isinstance(reply, Progress), reply
            if reply.done:
                return
            if cold is not None and cold.bets:
                after = cold.bets[-1].bet

    def _cold_page(self, market: int, version: int, after: bytes) -> ColdPage:
        found = sorted(
            ColdBet(bet, self.records[bet], number, payout)
            for bet, (number, payout) in self.settled.items()
            if bet > after and any(self.records[bet][41 + 26 * i :][:8] == market.to_bytes(8, "big") for i in range(3))
        )
        before = self.state.settling[market].before
        return ColdPage(after, tuple(found[:5]), len(found) <= 5, *before)


def _write(dsn: str, entries: list[Entry]) -> None:
    """The journal and its keys as rows, and read models by the platform's projector."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO betting.install (shard_count) VALUES (%s)", [SHARD_COUNT])
        connection.execute("INSERT INTO betting.projector (shard) VALUES (%s)", [SHARD])
        with connection.cursor() as cursor, cursor.copy("COPY betting.journal FROM STDIN") as copy:
            for entry in entries:
                ids = [None if each is None else UUID(bytes=each) for each in entry[4:7]]
                copy.write_row((SHARD, entry[0], int(entry[1]), *entry[2:4], *ids, *entry[7:]))
        connection.execute(
            "INSERT INTO betting.requests SELECT request_key, shard, sequence FROM betting.journal "
            "WHERE request_key IS NOT NULL"
        )
        connection.execute("SELECT * FROM betting.project(%s, %s)", [SHARD, len(entries)])


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_engine_and_audit_agree(audited: Any, seed: int) -> None:
    """Bets, corrections and debts of every kind the engine makes pass every check."""
    owner = Owner(seed)
    owner.run(1_500)
    kinds = {entry.kind for entry in owner.entries}
    assert kinds == set(Kind), f"seed {seed} never made {set(Kind) - kinds}"
    assert any(entry.receivable_minor < 0 for entry in owner.entries)
    assert any(unpack_placed(e.body).policy == 2 for e in owner.entries if e.kind == Kind.BET_PLACED)
    _write(audited.dsn, owner.entries)
    report = await audit(audited.dsn)
    assert [(check.name, check.examples[:2]) for check in report.failed] == []
    assert report.entries == len(owner.entries)
