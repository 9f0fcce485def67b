"""The kinds of entry. An entry is a fact with its amounts already computed; see `records` for the bodies' bytes.

The order of `Entry`'s fields is the order of the journal's columns. Amounts are signed changes in minor units; the five
ledger columns of every entry sum to zero (double entry), and Postgres checks that too.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Kind(IntEnum):
    """What happened. Numbers are in the journal for ever: never reuse one."""

    ACCOUNT_OPENED = 1
    DEPOSITED = 2
    WITHDRAWN = 3
    BET_PLACED = 10
    REFUSED = 11
    MARKET_RESULTED = 20
    BET_SETTLED = 21
    BETS_KEPT = 22
    BET_RESETTLED = 23
    BET_REOPENED = 24
    MARKET_SETTLED = 25


# The format each kind is written in now. `apply` for a released format is never edited: a change is a new number.
FORMAT = 1
READABLE_FORMATS = frozenset({1})


class Entry(NamedTuple):
    """One immutable state change of one shard."""

    sequence: int
    kind: int
    format: int
    at_us: int
    account: bytes | None
    bet: bytes | None
    request_key: bytes | None
    market: int | None
    cash_minor: int
    stakes_minor: int
    house_minor: int
    clearing_minor: int
    receivable_minor: int
    body: bytes
