"""One shard's state, and nothing but state: `apply` changes it, `decide` reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from betting.engine.commands import PriorAnswer
from betting.engine.entries import Kind
from betting.engine.ids import account_id, key_minute
from betting.engine.records import markets_of, refusal_code
from betting.engine.refusals import Refusal

# A request key is remembered by the minute it was made in. 15 minutes are promised; 5 more absorb clock slack.
RECENT_MINUTES = 15
RECENT_SLACK_MINUTES = 5
US_PER_MINUTE = 60_000_000

_NO_ANSWERS: Final[Mapping[bytes, bytes]] = {}


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
        # minute -> whose key it is (16 bytes) and the key -> first answer: its kind as one byte, then the body. Bytes,
        # because the garbage collector would look at millions of tuples again and again.
        self.recent: dict[int, dict[bytes, bytes]] = {}

    def remembered(self, user: bytes, currency: bytes, key: bytes) -> PriorAnswer | None:
        """The first answer to this user's request key, if it was used recently, whatever the key's own age."""
        account = self.account_ids.get(user + currency) or account_id(user, currency)
        made = key_minute(key)
        bucket = self.recent.get(made, _NO_ANSWERS)
        answer = bucket.get(account + key) or bucket.get(user + key)
        if made <= self.now_us // US_PER_MINUTE - RECENT_MINUTES:
            # An old key is filed under the minute it was used in; there are few.
            slots = (account + key, user + key)
            answer = next((b[slot] for slot in slots for b in self.recent.values() if slot in b), None)
        return PriorAnswer(answer[0], answer[1:]) if answer is not None else None

    def own_answer(self, user: bytes, currency: bytes, priors: Sequence[PriorAnswer]) -> PriorAnswer | None:
        """The one of several users' answers to the same request key that is this user's."""
        account = account_id(user, currency)
        mine = [prior for prior in priors if prior.body[:16] == account]
        mine += [prior for prior in priors if self.key_owner(prior.kind, prior.body) == user]
        return mine[0] if mine else None

    def key_owner(self, kind: int, body: bytes) -> bytes:
        """Whose request key an answer belongs to: the user's, for all accounts the user has.

        A deposit that is refused opens no account, and the user behind an account that was never opened is not known:
        such a key belongs to the account alone.
        """
        account = self.accounts.get(body[:16])
        if account is None or (kind == Kind.REFUSED and refusal_code(body) == Refusal.BALANCE_ABOVE_MAXIMUM):
            return body[:16]
        return account.user


def index_bet(by_market: dict[int, dict[bytes, None]], bet: bytes, record: bytes) -> None:
    """Notes an open bet under the market of each of its legs."""
    for market in markets_of(record):
        bets = by_market.get(market)
        if bets is None:
            by_market[market] = {bet: None}
        else:
            bets[bet] = None
