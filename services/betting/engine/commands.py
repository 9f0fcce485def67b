"""What can be asked of a shard, and what it answers. Values only."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from betting.engine.entries import Entry
from betting.engine.records import SeenLeg
from betting.engine.refusals import Refusal


class PricePolicy(IntEnum):
    """What to do when the price moved; numbers as in betting.v1.PriceChangePolicy."""

    AS_SEEN = 0  # against the bettor: refuse; in the bettor's favour: bet at the price seen
    ACCEPT_BETTER = 1  # against: refuse; in favour: bet at the better price
    ACCEPT_ANY = 2  # bet at the price there is now


class MarketStatus(IntEnum):
    """Numbers as in betting.v1.MarketStatus."""

    OPEN = 1
    SUSPENDED = 2
    CLOSED = 3
    RESULTED = 4
    VOID = 5


class Quote(NamedTuple):
    """What the price book says of one selection at the moment of the command."""

    event: int
    numerator: int
    denominator: int
    version: int
    status: int
    closes_at_us: int
    age_ms: int


class PlaceBet(NamedTuple):
    """Stake in minor units. `quotes[i]` belongs to `legs[i]`; None where the book does not know the selection."""

    key: bytes
    user: bytes
    currency: bytes
    stake_minor: int
    legs: tuple[SeenLeg, ...]
    policy: int
    quotes: tuple[Quote | None, ...]


class Deposit(NamedTuple):
    """Money in; the first deposit in a currency opens the account."""

    key: bytes
    user: bytes
    currency: bytes
    amount_minor: int


class Withdraw(NamedTuple):
    """Money out."""

    key: bytes
    user: bytes
    currency: bytes
    amount_minor: int


class ResultMarket(NamedTuple):
    """Starts settling a market: result `version` with an outcome per selection."""

    market: int
    version: int
    outcomes: dict[int, int]


class ColdBet(NamedTuple):
    """A settled bet, from the read model."""

    bet: bytes
    record: bytes
    settlements: int
    payout_minor: int


class ColdPage(NamedTuple):
    """Settled bets with a leg on the market, ascending by id, after the cursor; with the read model's totals."""

    after: bytes
    bets: tuple[ColdBet, ...]
    last: bool
    version_bets: int
    version_payout_minor: int


class SettleChunk(NamedTuple):
    """Goes on settling: at most `limit` open bets, or the cold bets given."""

    market: int
    version: int
    limit: int
    cold: ColdPage | None


Command = PlaceBet | Deposit | Withdraw | ResultMarket | SettleChunk


class PriorAnswer(NamedTuple):
    """What a request key was answered with the first time."""

    kind: int
    body: bytes


class Recorded(NamedTuple):
    """The entry that answers a money command: now, or (repeated) the first time."""

    kind: int
    key: bytes
    body: bytes
    repeated: bool


class Rejected(NamedTuple):
    """Not recorded; the request key stays free. field: what it is about; for KEY_REUSED, what differs."""

    refusal: Refusal
    field: str = ""


class Progress(NamedTuple):
    """How far a market version's settlement is on this shard."""

    done: bool
    bets: int
    payout_minor: int


class Conflict(NamedTuple):
    """A settlement command that does not fit what this shard knows. `reason` is for a person; `retry`: ask later."""

    reason: str
    retry: bool = False


Reply = Recorded | Rejected | Progress | Conflict


class Decision(NamedTuple):
    """What `decide` returns: the entries to append (perhaps none) and the answer once they are durable."""

    entries: tuple[Entry, ...]
    reply: Reply
