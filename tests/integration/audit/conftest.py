"""Journals written by hand: every byte is packed here, every amount comes from the test, nothing from the engine."""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID
from zlib import crc32

import psycopg
import pytest

from betting.audit import audit
from betting.audit.report import CheckResult

SHARD_COUNT = 16
SHARD = 3
START_US = 1_760_000_000_000_000
LOST, HALF_LOST, VOID, HALF_WON, WON = 1, 2, 3, 4, 5


class Leg(NamedTuple):
    """One selection at the price taken; the price seen and the quote's facts can be given apart."""

    event: int
    market: int
    selection: int
    numerator: int
    denominator: int
    seen: tuple[int, int] | None = None
    status: int = 1
    closes_in_us: int = 3_600_000_000


@dataclass
class Account:
    """One user's money, as the hand-written journal has it so far."""

    id: UUID
    user: UUID
    currency: str
    shard: int
    cash: int = 0
    stakes: int = 0
    receivable: int = 0


@dataclass
class Bet:
    """A bet as placed, and how it stands."""

    id: UUID
    key: UUID
    account: Account
    stake: int
    legs: tuple[Leg, ...]
    record: bytes
    potential: int
    placed_at_us: int
    placed_sequence: int
    number: int = 0
    payout: int | None = None
    settled: list[tuple[int, int, int, int, int, int]] = field(default_factory=list)


class Row(NamedTuple):
    """One journal row."""

    shard: int
    sequence: int
    kind: int
    format: int
    at_us: int
    account: UUID | None
    bet: UUID | None
    request_key: UUID | None
    market: int | None
    cash_minor: int
    stakes_minor: int
    house_minor: int
    clearing_minor: int
    receivable_minor: int
    body: bytes


def uuid8(material: bytes) -> UUID:
    """The first 16 bytes of SHA-256 with the version and variant of a UUIDv8."""
    raw = bytearray(hashlib.sha256(material).digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    return UUID(bytes=bytes(raw))


class HandJournal:
    """Entries one after the other. Amounts come from the test; only running balances are kept here."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.accounts: list[Account] = []
        self.bets: list[Bet] = []
        self.told: list[dict[str, Any]] = []
        self.results: dict[tuple[int, int, int], tuple[int, int]] = {}
        self._sequences: dict[int, int] = {}
        self._now_us = START_US
        self._keys = itertools.count(1)
        self._users = itertools.count(1)

    def open(self, deposit: int, *, shard: int = SHARD, currency: str = "GBP") -> Account:
        """A new user of that shard, with a first deposit."""
        user = next(u for u in map(self._user, self._users) if crc32(u.bytes) % SHARD_COUNT == shard)
        account = Account(uuid8(user.bytes + currency.encode()), user, currency, shard)
        self.accounts.append(account)
        self._add(shard, 1, user.bytes + currency.encode(), account=account)
        self.deposit(account, deposit)
        return account

    def deposit(self, account: Account, amount: int, *, repaid: int = 0) -> None:
        """Money in, of which `repaid` goes to what the account owes."""
        key = self.key()
        account.cash += amount - repaid
        account.receivable += repaid
        body = self._moved(account, amount)
        self._add(
            account.shard, 2, body, account=account, key=key, cash=amount - repaid, clearing=-amount, receivable=repaid
        )  # fmt: skip
        self._tell("deposit", key, account, amount_minor=amount)

    def withdraw(self, account: Account, amount: int) -> None:
        """Money out."""
        key = self.key()
        account.cash -= amount
        self._add(
            account.shard, 3, self._moved(account, amount), account=account, key=key, cash=-amount, clearing=amount
        )
        self._tell("withdrawal", key, account, amount_minor=amount)

    def refuse(self, account: Account, code: int, amount: int, name: str) -> None:
        """A withdrawal that was refused."""
        key = self.key()
        body = struct.pack(">16sHBIIB", account.id.bytes, code, 0, 0, 0, 3) + struct.pack(">q", amount)
        self._add(account.shard, 11, body, account=account, key=key)
        self._tell("refusal", key, account, code=name)

    def place(self, account: Account, stake: int, *legs: Leg, potential: int, policy: int = 0) -> Bet:
        """A bet with the potential payout the test worked out."""
        key = self.key()
        at_us = self._now_us + 1
        bet_id = uuid8(account.id.bytes + key.bytes)
        record = struct.pack(">16sqqB", account.id.bytes, stake, at_us, len(legs))
        record += b"".join(struct.pack(">qqHII", *leg[:5]) for leg in legs)
        evidence = struct.pack(">Bq", policy, potential)
        for leg in legs:
            seen = leg.seen or (leg.numerator, leg.denominator)
            evidence += struct.pack(">IIqqIB", *seen, 7, at_us + leg.closes_in_us, 12, leg.status)
        account.cash -= stake
        account.stakes += stake
        row = self._add(
            account.shard, 10, record + evidence, account=account, bet=bet_id, key=key, cash=-stake, stakes=stake
        )  # fmt: skip
        bet = Bet(bet_id, key, account, stake, legs, record, potential, row.at_us, row.sequence)
        self.bets.append(bet)
        told_legs = [[leg.market, leg.selection, leg.numerator, leg.denominator] for leg in legs]
        self._tell("bet", key, account, bet_id=str(bet_id), stake_minor=stake, legs=told_legs)
        return bet

    def result(self, market: int, version: int, outcomes: dict[int, int], *, shard: int = SHARD) -> None:
        """A result comes into force."""
        body = struct.pack(">IB", version, len(outcomes))
        body += b"".join(struct.pack(">HB", *item) for item in sorted(outcomes.items()))
        self.results[shard, market, version] = (0, 0)
        self._add(shard, 20, body, market=market)

    def settle(self, bet: Bet, market: int, version: int, payout: int, *, repaid: int = 0) -> None:
        """An open bet is decided."""
        bet.number += 1
        bet.payout = payout
        body = struct.pack(">IHq", version, bet.number, payout)
        self._post(bet, 21, market, version, body, payout, cash=payout - repaid, stakes=-bet.stake, receivable=repaid)

    def resettle(self, bet: Bet, market: int, version: int, payout: int, *, receivable: int = 0) -> None:
        """A settled bet pays another amount; `receivable` of the difference is owed or repaid."""
        before = bet.payout
        assert before is not None
        bet.number += 1
        bet.payout = payout
        body = struct.pack(">IHqq", version, bet.number, before, payout)
        self._post(bet, 23, market, version, body, payout, cash=payout - before - receivable, receivable=receivable)

    def reopen(self, bet: Bet, market: int, version: int, *, receivable: int = 0) -> None:
        """A settled bet is open again; `receivable` of what it had paid is owed now."""
        before = bet.payout
        assert before is not None
        bet.payout = None
        body = struct.pack(">IHq", version, bet.number, before) + bet.record
        self._post(
            bet, 24, market, version, body, 0, cash=-before - receivable, stakes=bet.stake, receivable=receivable
        )

    def keep(self, market: int, version: int, *bets: Bet, cursor: UUID | None = None, shard: int = SHARD) -> None:
        """Bets looked at and left open."""
        body = struct.pack(">I16sH", version, cursor.bytes if cursor else bytes(16), len(bets))
        self._add(shard, 22, body + b"".join(bet.id.bytes for bet in bets), market=market)

    def close(self, market: int, version: int, *, shard: int = SHARD) -> None:
        """A version ends."""
        self._add(shard, 25, struct.pack(">Iqq", version, *self.results[shard, market, version]), market=market)

    def key(self) -> UUID:
        """A UUIDv7 of now."""
        number = (self._now_us // 1000) << 80 | 0x7 << 76 | 0b10 << 62 | next(self._keys)
        return UUID(int=number)

    def _user(self, number: int) -> UUID:
        return UUID(int=(START_US // 1000) << 80 | 0x7 << 76 | 0b10 << 62 | number)

    def _moved(self, account: Account, amount: int) -> bytes:
        balance = (account.cash, account.stakes, account.receivable)
        return struct.pack(">16sqqqq", account.id.bytes, amount, *balance)

    def _post(
        self, bet: Bet, kind: int, market: int, version: int, body: bytes, payout: int, *, cash: int, stakes: int = 0,
        receivable: int = 0,
    ) -> None:  # fmt: skip
        account = bet.account
        account.cash += cash
        account.stakes += stakes
        account.receivable += receivable
        row = self._add(
            account.shard, kind, body, account=account, bet=bet.id, market=market, cash=cash, stakes=stakes,
            house=-(cash + stakes + receivable), receivable=receivable,
        )  # fmt: skip
        bets, total = self.results[account.shard, market, version]
        self.results[account.shard, market, version] = (bets + 1, total + payout)
        bet.settled.append((row.sequence, kind, market, version, bet.number, payout))

    def _add(
        self, shard: int, kind: int, body: bytes, *, account: Account | None = None, bet: UUID | None = None,
        key: UUID | None = None, market: int | None = None, cash: int = 0, stakes: int = 0, house: int = 0,
        clearing: int = 0, receivable: int = 0,
    ) -> Row:  # fmt: skip
        self._now_us += 1
        sequence = self._sequences[shard] = self._sequences.get(shard, 0) + 1
        row = Row(
            shard, sequence, kind, 1, self._now_us, account.id if account else None, bet, key, market, cash, stakes,
            house, clearing, receivable, body,
        )  # fmt: skip
        self.rows.append(row)
        return row

    def _tell(self, kind: str, key: UUID, account: Account, **content: Any) -> None:
        told = {"kind": kind, "request_key": str(key), "user_id": str(account.user), "currency": account.currency}
        self.told.append(told | content | {"acknowledged_at_us": self._now_us})

    def write(self, dsn: str, *, watermark: int | None = None, only: tuple[str, ...] = ()) -> None:
        """Everything into a migrated database: the journal, the request keys, and read models up to `watermark`."""
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("INSERT INTO betting.install (shard_count) VALUES (%s)", [SHARD_COUNT])
            connection.execute("INSERT INTO betting.shards (shard_id) SELECT generate_series(0, %s - 1)", [SHARD_COUNT])
            for table, rows in self._tables(watermark).items():
                if only and table not in only:
                    continue
                with connection.cursor() as cursor, cursor.copy(f"COPY betting.{table} FROM STDIN") as copy:
                    for row in rows:
                        copy.write_row(row)

    def write_projected(self, dsn: str) -> None:
        """The journal and the request keys; the read models come from the platform's own projector."""
        self.write(dsn, only=("journal", "requests"))
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("INSERT INTO betting.projector (shard) SELECT shard_id FROM betting.shards")
            for shard in range(SHARD_COUNT):
                connection.execute("SELECT * FROM betting.project(%s, %s)", [shard, len(self.rows)])

    def write_acknowledgements(self, path: Path) -> Path:
        """What clients were told, as a file."""
        path.write_text("".join(json.dumps(told) + "\n" for told in self.told), encoding="utf-8")
        return path

    def _tables(self, watermark: int | None) -> dict[str, list[tuple[Any, ...]]]:
        """The rows of each table, in the order of its columns."""
        limit = watermark or 2**62
        heads = dict.fromkeys((row.shard for row in self.rows), 0)
        for row in self.rows:
            heads[row.shard] = max(heads[row.shard], row.sequence)
        seen = [row for row in self.rows if row.sequence <= limit]
        keyed = [row for row in self.rows if row.request_key]
        settlements = [(bet, made) for bet in self.bets for made in bet.settled if made[0] <= limit]
        return {
            "journal": list(self.rows),
            "requests": [(row.request_key, row.shard, row.sequence, row.account) for row in keyed],
            "projector": [(shard, min(head, limit)) for shard, head in heads.items()],
            "accounts": [self._account_row(row) for row in seen if row.kind == 1],
            "balances": self._balance_rows(seen),
            "bets": [self._bet_row(bet, limit) for bet in self.bets if bet.placed_sequence <= limit],
            "bet_legs": sorted(
                {(leg.market, bet.account.shard, bet.id) for bet, _made in settlements for leg in bet.legs}
            ),
            "bet_settlements": [self._settlement_row(bet, made) for bet, made in settlements],
            "ledger": [
                (
                    row.account,
                    row.sequence,
                    row.shard,
                    row.kind,
                    row.cash_minor,
                    row.receivable_minor,
                    row.bet,
                    row.at_us,
                )
                for row in seen
                if row.cash_minor or row.receivable_minor
            ],
            "market_settlements": self._market_rows(seen),
        }

    def _account_row(self, row: Row) -> tuple[Any, ...]:
        account = next(a for a in self.accounts if a.id == row.account)
        return (account.id, account.user, account.currency, account.shard, row.at_us)

    def _balance_rows(self, seen: list[Row]) -> list[tuple[Any, ...]]:
        balances: dict[UUID, list[int]] = {}
        for row in seen:
            if row.account is not None and row.kind != 11:
                moved = (row.cash_minor, row.stakes_minor, row.receivable_minor)
                before = balances.get(row.account, [0, 0, 0, 0])
                balances[row.account] = [*(b + m for b, m in zip(before, moved, strict=False)), row.sequence]
        return [(account, *values) for account, values in balances.items()]

    def _bet_row(self, bet: Bet, limit: int) -> tuple[Any, ...]:
        policy = next(r.body[len(bet.record)] for r in self.rows if r.kind == 10 and r.bet == bet.id)
        made = [m for m in bet.settled if m[0] <= limit]
        settled = made[-1] if made and made[-1][1] != 24 else None
        at_us = next(
            (r.at_us for r in self.rows if settled and (r.shard, r.sequence) == (bet.account.shard, settled[0])), None
        )
        return (
            bet.id, bet.account.id, bet.key, bet.account.shard, 2 if settled else 1, policy, made[-1][4] if made else 0,
            bet.placed_sequence, bet.placed_at_us, bet.stake, bet.potential, settled[5] if settled else None,
            settled[0] if settled else None, at_us, bet.record,
        )  # fmt: skip

    def _settlement_row(self, bet: Bet, made: tuple[int, int, int, int, int, int]) -> tuple[Any, ...]:
        sequence, kind, market, version, number, payout = made
        at_us = next(r.at_us for r in self.rows if (r.shard, r.sequence) == (bet.account.shard, sequence))
        return (bet.account.shard, sequence, kind, bet.id, bet.account.id, number, version, market, payout, at_us)

    def _market_rows(self, seen: list[Row]) -> list[tuple[Any, ...]]:
        payouts = {(bet.account.shard, made[0]): made[5] for bet in self.bets for made in bet.settled}
        counted: dict[tuple[int, int, int], list[Any]] = {}
        for row in seen:
            if row.kind in (21, 23, 24, 25):
                assert row.market is not None
                found = counted.setdefault((row.shard, row.market, int.from_bytes(row.body[:4], "big")), [0, 0, None])
                if row.kind == 25:
                    found[2] = found[2] or row.sequence
                else:
                    found[0] += 1
                    found[1] += payouts[row.shard, row.sequence]
        return [(*key, *values) for key, values in counted.items()]


class Season(HandJournal):
    """One of everything: singles, accumulators, quarter lines, voids, corrections, what is owed, reopened bets."""

    def __init__(self) -> None:
        super().__init__()
        self.alice = self.open(10_000)
        self.bob = self.open(5_000)
        self.carol = self.open(2_000, shard=5)
        self._place()
        self._settle_first_market()
        self._correct_it()
        self._settle_lines()
        self._correct_it_again()

    def _place(self) -> None:
        self.single = self.place(self.alice, 1_000, Leg(1, 11, 1, 9, 2), potential=5_500)
        self.loser = self.place(self.alice, 40, Leg(1, 11, 2, 3, 1), potential=160)
        # 100 x 2/1 x 191/100
        self.double = self.place(self.bob, 100, Leg(1, 11, 1, 1, 1), Leg(2, 21, 1, 91, 100), potential=382)
        self.quarter = self.place(self.bob, 333, Leg(3, 31, 1, 91, 100), potential=636)
        self.void = self.place(self.bob, 77, Leg(4, 41, 1, 5, 1), potential=462)
        # 50 x 191/100 x 6/1 x 3/1
        self.treble = self.place(
            self.alice, 50, Leg(3, 31, 2, 91, 100), Leg(4, 41, 1, 5, 1), Leg(5, 51, 2, 2, 1), potential=1_719
        )
        self.better = self.place(self.bob, 10, Leg(2, 21, 2, 3, 1, seen=(5, 2)), potential=40, policy=1)
        self.any_price = self.place(self.bob, 10, Leg(2, 21, 2, 2, 1, seen=(5, 2)), potential=30, policy=2)
        self.elsewhere = self.place(self.carol, 200, Leg(1, 11, 1, 9, 2), potential=1_100)
        self.refuse(self.alice, 11, 10**6, "INSUFFICIENT_FUNDS")

    def _settle_first_market(self) -> None:
        for shard in (SHARD, 5):
            self.result(11, 1, {1: WON, 2: LOST, 3: LOST}, shard=shard)
        self.settle(self.single, 11, 1, 5_500)
        self.settle(self.loser, 11, 1, 0)
        self.keep(11, 1, self.double)
        self.close(11, 1)
        self.settle(self.elsewhere, 11, 1, 1_100)
        self.close(11, 1, shard=5)
        self.withdraw(self.alice, 14_000)

    def _correct_it(self) -> None:
        for shard in (SHARD, 5):
            self.result(11, 2, {1: LOST, 2: WON, 3: LOST}, shard=shard)
        self.settle(self.double, 11, 2, 0)
        # 410 in cash is all there is of 5,500.
        self.resettle(self.single, 11, 2, 0, receivable=-5_090)
        self.resettle(self.loser, 11, 2, 160, receivable=160)
        self.close(11, 2)
        self.resettle(self.elsewhere, 11, 2, 0)
        self.close(11, 2, shard=5)
        self.deposit(self.alice, 6_000, repaid=4_930)

    def _settle_lines(self) -> None:
        self.result(31, 1, {1: HALF_WON, 2: HALF_LOST})
        # 333 x (191 + 100) / 200 = 484.515
        self.settle(self.quarter, 31, 1, 484)
        self.keep(31, 1, self.treble)
        self.close(31, 1)
        self.result(41, 1, {1: VOID, 2: VOID})
        self.settle(self.void, 41, 1, 77)
        self.keep(41, 1, self.treble)
        self.close(41, 1)
        self.result(51, 1, {1: LOST, 2: WON})
        # 50 x 100/200 x 2/2 x 3/1
        self.settle(self.treble, 51, 1, 75)
        self.close(51, 1)

    def _correct_it_again(self) -> None:
        self.result(11, 3, {1: WON, 2: LOST, 3: LOST})
        self.reopen(self.double, 11, 3)
        self.resettle(self.single, 11, 3, 5_500)
        self.resettle(self.loser, 11, 3, 0)
        self.keep(11, 3, cursor=self.single.id)
        self.close(11, 3)
        self.result(21, 1, {1: WON, 2: LOST})
        self.settle(self.double, 21, 1, 382)
        self.settle(self.better, 21, 1, 0)
        self.settle(self.any_price, 21, 1, 0)
        self.close(21, 1)
        self.still_open = self.place(self.bob, 300, Leg(6, 61, 1, 1, 2), potential=450)


@dataclass(frozen=True)
class Audited:
    """A database under audit, and how to forge it behind the platform's back."""

    dsn: str

    def write(self, journal: HandJournal, *, watermark: int | None = None) -> None:
        """The journal and everything derived from it."""
        journal.write(self.dsn, watermark=watermark)

    def tamper(self, statement: str, *values: Any) -> None:
        """One statement with the append-only triggers off. It must hit something."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            assert connection.execute(statement, values).rowcount != 0

    async def failed(self, acks: Path | None = None) -> dict[str, CheckResult]:
        """The checks that do not hold."""
        report = await audit(self.dsn, acks)
        return {check.name: check for check in report.failed}


@pytest.fixture
def audited(database: Any) -> Audited:
    """A fresh migrated database."""
    return Audited(database.dsn)


@pytest.fixture
def season() -> Season:
    """A clean journal with one of everything, not written yet."""
    return Season()
