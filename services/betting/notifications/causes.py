"""Which journal entries make a notification. Pure. A placed bet makes none: its bettor has just had the reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from betting.engine.entries import Entry, Kind
from betting.engine.records import MOVED_BODY, RESETTLED_BODY, SETTLED_BODY
from betting.v1 import notification_pb2 as pb

_DEPOSIT: Final = int(pb.NOTIFICATION_KIND_DEPOSIT)
_WITHDRAWAL: Final = int(pb.NOTIFICATION_KIND_WITHDRAWAL)
_WON: Final = int(pb.NOTIFICATION_KIND_BET_WON)
_LOST: Final = int(pb.NOTIFICATION_KIND_BET_LOST)
_RETURNED: Final = int(pb.NOTIFICATION_KIND_BET_RETURNED)
_CORRECTED: Final = int(pb.NOTIFICATION_KIND_BET_CORRECTED)
_REOPENED: Final = int(pb.NOTIFICATION_KIND_BET_REOPENED)


class Notice(NamedTuple):
    """One notification, in the order of its table's columns. Amounts in minor units."""

    account: bytes
    sequence: int
    kind: int
    bet: bytes | None
    stake_minor: int
    amount_minor: int
    amount_before_minor: int
    at_us: int


def notice_of(entry: Entry) -> Notice | None:
    """The notification of an entry; None: it makes none. Raises struct.error for a body that is not of its kind."""
    make = _MAKERS.get(entry.kind)
    return None if make is None or entry.account is None else make(entry, entry.account)


def _deposited(entry: Entry, account: bytes) -> Notice:
    amount = MOVED_BODY.unpack(entry.body)[1]
    return Notice(account, entry.sequence, _DEPOSIT, None, 0, amount, 0, entry.at_us)


def _withdrawn(entry: Entry, account: bytes) -> Notice:
    amount = MOVED_BODY.unpack(entry.body)[1]
    return Notice(account, entry.sequence, _WITHDRAWAL, None, 0, amount, 0, entry.at_us)


def _settled(entry: Entry, account: bytes) -> Notice:
    payout = SETTLED_BODY.unpack(entry.body)[2]
    stake = -entry.stakes_minor
    kind = _WON if payout > stake else _LOST if payout == 0 else _RETURNED
    return Notice(account, entry.sequence, kind, entry.bet, stake, payout, 0, entry.at_us)


def _resettled(entry: Entry, account: bytes) -> Notice:
    before, after = RESETTLED_BODY.unpack(entry.body)[2:]
    return Notice(account, entry.sequence, _CORRECTED, entry.bet, 0, after, before, entry.at_us)


def _reopened(entry: Entry, account: bytes) -> Notice:
    before = SETTLED_BODY.unpack_from(entry.body)[2]
    return Notice(account, entry.sequence, _REOPENED, entry.bet, entry.stakes_minor, 0, before, entry.at_us)


_MAKERS: Final[dict[int, Callable[[Entry, bytes], Notice]]] = {
    Kind.DEPOSITED: _deposited,
    Kind.WITHDRAWN: _withdrawn,
    Kind.BET_SETTLED: _settled,
    Kind.BET_RESETTLED: _resettled,
    Kind.BET_REOPENED: _reopened,
}
