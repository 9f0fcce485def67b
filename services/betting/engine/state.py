"""One shard's state, and nothing but state: `apply` changes it, `decide` reads it."""

from __future__ import annotations

from typing import NamedTuple

from betting.engine.commands import Prior
from betting.engine.ids import key_minute
from betting.engine.records import markets_of

# A request key is remembered by the minute it was made in. 15 minutes are promised; 5 more absorb clock slack.
RECENT_MINUTES = 15
RECENT_SLACK_MINUTES = 5
US_PER_MINUTE = 60_000_000


class Account(NamedTuple):
    """One user's money in one currency. Immutable: a snapshot takes references, never copies."""

    user: bytes
    currency: bytes
    cash_minor: int
    open_stakes_minor: int
    receivable_minor: int  # never positive: what the user owes the house
    open_bets: tuple[bytes, ...]


class MarketResult(NamedTuple):
    """The result in force for a market; totals and `done` once settled here."""

    version: int
    outcomes: dict[int, int]
    sequence: int
    done: bool
    bets: int
    payout_minor: int


class Settling:
    """A settlement under way: bets still to look at, the cursor over cold bets, totals so far.

    `before` holds the bets and payouts (minor units) the version before closed with.
    """

    __slots__ = ("before", "bets", "cursor", "payout_minor", "unvisited", "version")

    def __init__(self, version: int, unvisited: dict[bytes, None], before: tuple[int, int]) -> None:
        self.version = version
        self.unvisited = unvisited
        self.before = before
        self.cursor = b""
        self.bets = 0
        self.payout_minor = 0


class ShardState:
    """Accounts, open bets as bytes, an index from market to open bets, results, recent request keys."""

    __slots__ = (
        "account_ids", "accounts", "bets_accepted", "by_market", "clearing_minor", "head", "house_minor", "now_us",
        "open_bets", "recent", "reopened", "results", "settling", "shard",
    )  # fmt: skip

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.head = 0
        self.now_us = 0
        self.bets_accepted = 0
        self.house_minor = 0
        self.clearing_minor = 0
        self.accounts: dict[bytes, Account] = {}
        self.account_ids: dict[bytes, bytes] = {}  # user + currency -> account
        self.open_bets: dict[bytes, bytes] = {}
        self.by_market: dict[int, dict[bytes, None]] = {}
        self.results: dict[int, MarketResult] = {}
        self.settling: dict[int, Settling] = {}
        self.reopened: dict[bytes, int] = {}  # bets settled before and open again -> settlements so far
        # minute -> key -> first answer: its kind as one byte, then the body. Bytes, because the garbage collector would
        # look at millions of tuples again and again.
        self.recent: dict[int, dict[bytes, bytes]] = {}

    def remembered(self, key: bytes) -> Prior | None:
        """The first answer to a request key used recently, whatever the key's own age."""
        made = key_minute(key)
        bucket = self.recent.get(made, {})
        if key not in bucket and made <= self.now_us // US_PER_MINUTE - RECENT_MINUTES:
            # An old key is filed under the minute it was used in; there are few.
            bucket = next((bucket for bucket in self.recent.values() if key in bucket), bucket)
        answer = bucket.get(key)
        return Prior(answer[0], answer[1:]) if answer is not None else None


def index_bet(by_market: dict[int, dict[bytes, None]], bet: bytes, record: bytes) -> None:
    """Notes an open bet under the market of each of its legs."""
    for market in markets_of(record):
        bets = by_market.get(market)
        if bets is None:
            by_market[market] = {bet: None}
        else:
            bets[bet] = None
