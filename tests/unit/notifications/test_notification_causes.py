"""Which entries make a notification, and how it reads."""

from __future__ import annotations

import pytest

from betting.engine.entries import Entry, Kind
from betting.engine.records import MOVED_BODY, RESETTLED_BODY, SETTLED_BODY
from betting.notifications import render
from betting.notifications.causes import Notice, notice_of
from betting.notifications.store import Row
from betting.v1 import notification_pb2 as pb

ACCOUNT, BET = b"a" * 16, b"b" * 16
RETURNED = pb.NOTIFICATION_KIND_BET_RETURNED
UNTOLD = [Kind.ACCOUNT_OPENED, Kind.BET_PLACED, Kind.REFUSED, Kind.MARKET_RESULTED, Kind.BETS_KEPT, Kind.MARKET_SETTLED]


def entry(kind: int, body: bytes, *, stakes: int = 0, account: bytes | None = ACCOUNT) -> Entry:
    """The seventh entry of its shard."""
    return Entry(7, kind, 1, 99, account, BET, None, 5, 0, stakes, 0, 0, 0, body)


@pytest.mark.parametrize(
    ("cause", "kind", "amounts"),
    [
        (entry(Kind.DEPOSITED, MOVED_BODY.pack(ACCOUNT, 50, 50, 0, 0)), pb.NOTIFICATION_KIND_DEPOSIT, (0, 50, 0)),
        (entry(Kind.WITHDRAWN, MOVED_BODY.pack(ACCOUNT, 20, 30, 0, 0)), pb.NOTIFICATION_KIND_WITHDRAWAL, (0, 20, 0)),
        (entry(Kind.BET_SETTLED, SETTLED_BODY.pack(1, 1, 25), stakes=-10), pb.NOTIFICATION_KIND_BET_WON, (10, 25, 0)),
        (entry(Kind.BET_SETTLED, SETTLED_BODY.pack(1, 1, 0), stakes=-10), pb.NOTIFICATION_KIND_BET_LOST, (10, 0, 0)),
        (entry(Kind.BET_SETTLED, SETTLED_BODY.pack(1, 1, 10), stakes=-10), RETURNED, (10, 10, 0)),
        (entry(Kind.BET_SETTLED, SETTLED_BODY.pack(1, 1, 5), stakes=-10), RETURNED, (10, 5, 0)),
        (entry(Kind.BET_RESETTLED, RESETTLED_BODY.pack(2, 2, 25, 0)), pb.NOTIFICATION_KIND_BET_CORRECTED, (0, 0, 25)),
        (
            entry(Kind.BET_REOPENED, SETTLED_BODY.pack(2, 1, 25) + b"record", stakes=10),
            pb.NOTIFICATION_KIND_BET_REOPENED,
            (10, 0, 25),
        ),
    ],
)  # fmt: skip
def test_what_moves_money_or_settles_a_bet_is_told(cause: Entry, kind: int, amounts: tuple[int, int, int]) -> None:
    """One notification, at the entry's place, with its amounts."""
    notice = notice_of(cause)
    assert isinstance(notice, Notice)
    assert (notice.account, notice.sequence, notice.kind, notice.at_us) == (ACCOUNT, 7, kind, 99)
    assert (notice.stake_minor, notice.amount_minor, notice.amount_before_minor) == amounts


@pytest.mark.parametrize(
    "kind", [*UNTOLD, 99]
)  # fmt: skip
def test_everything_else_is_not(kind: int) -> None:
    """What the user has just been answered, what is about nobody, and what a newer version writes."""
    assert notice_of(entry(kind, b"")) is None
    assert notice_of(entry(Kind.BET_SETTLED, b"", account=None)) is None


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (1_234_567, "GBP", "12,345.67 GBP"), (5, "EUR", "0.05 EUR"), (1_500, "JPY", "1,500 JPY"),
        (1_500, "KWD", "1.500 KWD"), (1_500, "UGX", "1,500 UGX"), (1_500, "IQD", "1.500 IQD"),
    ],
)  # fmt: skip
def test_money_is_shown_in_major_units(amount: int, currency: str, shown: str) -> None:
    """With as many decimals as the currency has (ISO 4217)."""
    assert render.money(amount, currency) == shown


def test_every_kind_has_a_sentence() -> None:
    """And one from a newer version is shown without."""
    for kind in pb.NotificationKind.values():
        shown = render.notification(Row(1, kind, "GBP", 250, 100, 50, BET, 9, read=False))
        assert bool(shown.text) is (kind != pb.NOTIFICATION_KIND_UNSPECIFIED)
    assert render.notification(Row(1, 99, "GBP", 250, 100, 50, None, 9, read=True)).kind == 0
    won = render.notification(Row(1, pb.NOTIFICATION_KIND_BET_WON, "GBP", 250, 100, 0, BET, 9, read=False))
    assert won.text == "Your bet of 1.00 GBP won: it pays 2.50 GBP."
