"""The bytes of an open bet and of every entry's body, format 1. Big-endian, fixed width: SQL reads them with `substr`.

Bet record (what an owner keeps in memory; the head of a BET_PLACED body):

| offset | bytes | field                                              |
| ------ | ----- | -------------------------------------------------- |
| 0      | 16    | account                                            |
| 16     | 8     | stake, minor units                                 |
| 24     | 8     | placed at, µs since 1970                           |
| 32     | 1     | number of legs n                                   |
| 33+26i | 8+8   | event, market                                      |
|        | 2     | selection                                          |
|        | 4+4   | price taken: numerator, denominator                |

A BET_PLACED body goes on with: price change policy 1, potential payout 8, and per leg the evidence of its price: seen
numerator 4, seen denominator 4, quote version 8, quote closes at 8, quote age in ms 4, quote status 1 (29 bytes a leg).

| kind            | body                                                                                               |
| --------------- | -------------------------------------------------------------------------------------------------- |
| ACCOUNT_OPENED  | user 16, currency 3                                                                                |
| DEPOSITED       | account 16, amount 8, then the balance after: cash 8, open stakes 8, receivable 8                  |
| WITHDRAWN       | the same                                                                                           |
| REFUSED         | account 16, refusal code 2, leg index 1, figure 8, refused command's kind 1, its content           |
|                 | (BET_PLACED: stake 8, policy 1, n 1, per leg market 8, selection 2, seen price 4+4; else amount 8) |
| MARKET_RESULTED | version 4, n 1, per selection: id 2, outcome 1                                                     |
| BET_SETTLED     | market version 4, settlement number of this bet 2, payout 8                                        |
| BETS_KEPT       | market version 4, cursor 16 (zeros: none), n 2, ids of bets looked at and left open 16n            |
| BET_RESETTLED   | market version 4, settlement number 2, payout before 8, payout now 8                               |
| BET_REOPENED    | market version 4, settlement number 2, payout before 8, bet record                                 |
| MARKET_SETTLED  | version 4, bets 8, sum of payouts 8                                                                |

The figure of a refusal is the one number that its request does not hold and its message needs: for PRICE_MOVED the
price there was (numerator 4, denominator 4), for others as in `RefusedBody`. It is 0 where there is none, and for
refusals other than PRICE_MOVED in entries that were written before there were figures.
"""

from __future__ import annotations

from functools import cache
from struct import Struct
from typing import NamedTuple

RECORD_HEAD = 33
LEG_SIZE = 26
EVIDENCE_HEAD = 9
EVIDENCE_LEG = 29
BET_CONTENT_HEAD = 10
BET_CONTENT_LEG = 18

NO_CURSOR = bytes(16)


class BetLeg(NamedTuple):
    """One selection inside a bet, at the price taken."""

    event: int
    market: int
    selection: int
    numerator: int
    denominator: int


class SeenLeg(NamedTuple):
    """What a bettor asked for: a selection at the price seen."""

    market: int
    selection: int
    numerator: int
    denominator: int


class BetRecord(NamedTuple):
    """An open bet, unpacked."""

    account: bytes
    stake_minor: int
    placed_at_us: int
    legs: tuple[BetLeg, ...]


class PlacedBody(NamedTuple):
    """A BET_PLACED body, unpacked."""

    record: BetRecord
    policy: int
    potential_payout_minor: int
    seen: tuple[SeenLeg, ...]


class RefusedBody(NamedTuple):
    """A REFUSED body. `content` is (stake, policy, legs) for a bet, (amount,) for cash.

    `figure` by code: PRICE_MOVED the price there was, see `current_price`; STAKE_BELOW_MINIMUM, STAKE_ABOVE_MAXIMUM,
    PAYOUT_ABOVE_MAXIMUM, BALANCE_ABOVE_MAXIMUM the limit and INSUFFICIENT_FUNDS what was missing and OWES_RECEIVABLE
    what was owed, in minor units; TOO_MANY_OPEN_BETS the limit; MARKET_NOT_OPEN the market's status; MARKET_CLOSED its
    closing time in µs since 1970; 0: not recorded.
    """

    account: bytes
    code: int
    leg_index: int
    figure: int
    command_kind: int
    content: bytes

    @property
    def current_price(self) -> tuple[int, int]:
        """Numerator and denominator of the price there was; meaningful for PRICE_MOVED."""
        return self.figure >> 32, self.figure & 0xFFFFFFFF


ACCOUNT_BODY = Struct(">16s3s")
MOVED_BODY = Struct(">16sqqqq")
REFUSED_HEAD = Struct(">16sHBQB")
AMOUNT = Struct(">q")
SETTLED_BODY = Struct(">IHq")
RESETTLED_BODY = Struct(">IHqq")
KEPT_HEAD = Struct(">I16sH")
TOTALS_BODY = Struct(">Iqq")


@cache
def record_struct(legs: int) -> Struct:
    """Packs account, stake, placed at, n, and n legs."""
    return Struct(">16sqqB" + "qqHII" * legs)


@cache
def evidence_struct(legs: int) -> Struct:
    """Packs policy, potential payout, and the evidence of n prices."""
    return Struct(">Bq" + "IIqqIB" * legs)


@cache
def placed_struct(legs: int) -> Struct:
    """Packs a whole BET_PLACED body: a record and its evidence."""
    return Struct(record_struct(legs).format + evidence_struct(legs).format.removeprefix(">"))


@cache
def bet_content_struct(legs: int) -> Struct:
    """Packs the content of a refused bet."""
    return Struct(">qBB" + "qHII" * legs)


@cache
def _legs_struct(legs: int) -> Struct:
    return Struct(">" + "qqHII" * legs)


@cache
def _markets_struct(legs: int) -> Struct:
    return Struct(">" + "8xq10x" * legs)


def markets_of(record: bytes) -> tuple[int, ...]:
    """The market of each leg."""
    markets: tuple[int, ...] = _markets_struct(record[32]).unpack_from(record, RECORD_HEAD)
    return markets


def legs_of(record: bytes) -> tuple[int, ...]:
    """The legs as one flat tuple: event, market, selection, numerator, denominator, event, …"""
    flat: tuple[int, ...] = _legs_struct(record[32]).unpack_from(record, RECORD_HEAD)
    return flat


def unpack_record(record: bytes) -> BetRecord:
    """Raises struct.error if the bytes are no bet record."""
    account, stake, placed_at, _n = Struct(">16sqqB").unpack_from(record)
    flat = legs_of(record)
    legs = tuple(BetLeg(*flat[i : i + 5]) for i in range(0, len(flat), 5))
    return BetRecord(account, stake, placed_at, legs)


def unpack_placed(body: bytes) -> PlacedBody:
    """Raises struct.error if the bytes are no BET_PLACED body."""
    record = unpack_record(body)
    policy, potential, *flat = evidence_struct(body[32]).unpack_from(body, RECORD_HEAD + LEG_SIZE * body[32])
    seen = tuple(SeenLeg(leg.market, leg.selection, flat[6 * i], flat[6 * i + 1]) for i, leg in enumerate(record.legs))
    return PlacedBody(record, policy, potential, seen)


def pack_bet_content(stake_minor: int, policy: int, legs: tuple[SeenLeg, ...]) -> bytes:
    """What a refused bet asked for, so that a repeat can be told from a reuse of its key."""
    flat = [part for leg in legs for part in leg]
    return bet_content_struct(len(legs)).pack(stake_minor, policy, len(legs), *flat)


def unpack_bet_content(content: bytes) -> tuple[int, int, tuple[SeenLeg, ...]]:
    """Stake, policy, legs of a refused bet."""
    stake, policy, _n, *flat = bet_content_struct(content[9]).unpack(content)
    return stake, policy, tuple(SeenLeg(*flat[i : i + 4]) for i in range(0, len(flat), 4))


def unpack_refused(body: bytes) -> RefusedBody:
    """Raises struct.error if the bytes are no REFUSED body."""
    account, code, index, figure, kind = REFUSED_HEAD.unpack_from(body)
    return RefusedBody(account, code, index, figure, kind, body[REFUSED_HEAD.size :])


def price_figure(numerator: int, denominator: int) -> int:
    """A price as the figure of a refusal."""
    return numerator << 32 | denominator


def refusal_code(body: bytes) -> int:
    """The reason in a REFUSED body."""
    return int.from_bytes(body[16:18])


def pack_result(version: int, outcomes: dict[int, int]) -> bytes:
    """A MARKET_RESULTED body; selections in ascending order."""
    flat = [part for selection in sorted(outcomes) for part in (selection, outcomes[selection])]
    return Struct(">IB" + "HB" * len(outcomes)).pack(version, len(outcomes), *flat)


def unpack_result(body: bytes) -> tuple[int, dict[int, int]]:
    """Version and outcome per selection."""
    version, n, *flat = Struct(">IB" + "HB" * body[4]).unpack(body)
    return version, {flat[2 * i]: flat[2 * i + 1] for i in range(n)}


def pack_kept(version: int, cursor: bytes, kept: list[bytes]) -> bytes:
    """A BETS_KEPT body."""
    return KEPT_HEAD.pack(version, cursor, len(kept)) + b"".join(kept)


def unpack_kept(body: bytes) -> tuple[int, bytes, list[bytes]]:
    """Version, cursor, ids."""
    version, cursor, n = KEPT_HEAD.unpack_from(body)
    start = KEPT_HEAD.size
    if len(body) != start + 16 * n:
        raise ValueError(f"{n} ids do not fit {len(body)} bytes")
    return version, cursor, [body[start + 16 * i : start + 16 * (i + 1)] for i in range(n)]
