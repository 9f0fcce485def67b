"""Malformed commands: one row per reason, first fault first, limits included."""

from __future__ import annotations

from typing import Any

import pytest

from betting.engine.commands import Deposit, PlaceBet, Withdraw
from betting.engine.records import SeenLeg
from betting.engine.validation import check_amount, check_place

KEY = bytes.fromhex("01890a5d-ac96-774b-bcce-b302099a8057".replace("-", ""))
BET = PlaceBet(KEY, b"u" * 16, b"GBP", 100, (SeenLeg(1, 1, 9, 2),), 0, (None,))
MAXIMUM = 2**63 - 1


def leg(**fields: int) -> dict[str, Any]:
    """A bet whose second leg has something wrong."""
    return {"legs": (SeenLeg(1, 1, 1, 1), SeenLeg(2, 1, 1, 1)._replace(**fields))}


ROWS: list[tuple[str, dict[str, Any], str]] = [
    ("REQUEST_KEY_NOT_UUID7", {"key": b""}, "UUIDv7"),
    ("REQUEST_KEY_NOT_UUID7", {"key": KEY + b"\0"}, "UUIDv7"),
    ("REQUEST_KEY_NOT_UUID7", {"key": KEY[:6] + b"\x47" + KEY[7:]}, "UUIDv7"),
    ("REQUEST_KEY_NOT_UUID7", {"key": KEY[:8] + b"\xc0" + KEY[9:]}, "UUIDv7"),
    ("USER_ID", {"user": b"u" * 15}, "15"),
    ("CURRENCY", {"currency": b"gbp"}, "ISO 4217"),
    ("CURRENCY", {"currency": b"GBPX"}, "ISO 4217"),
    ("CURRENCY", {"currency": b"G1P"}, "ISO 4217"),
    ("CURRENCY", {"currency": "£".encode() + b"P"}, "ISO 4217"),
    ("STAKE_NOT_POSITIVE", {"stake_minor": 0}, "0"),
    ("STAKE_NOT_POSITIVE", {"stake_minor": -1}, "-1"),
    ("STAKE_NOT_POSITIVE", {"stake_minor": MAXIMUM + 1}, str(MAXIMUM + 1)),
    ("LEG_COUNT", {"legs": ()}, "0"),
    ("LEG_COUNT", {"legs": (SeenLeg(1, 1, 1, 1),) * 21}, "21"),
    ("PRICE_CHANGE_POLICY", {"policy": 3}, "3"),
    ("PRICE_CHANGE_POLICY", {"policy": -1}, "-1"),
    ("MARKET_ID", leg(market=0), "legs[1].market_id"),
    ("SELECTION_ID", leg(selection=0), "legs[1].selection_id"),
    ("SELECTION_ID", leg(selection=65_536), "legs[1].selection_id"),
    ("PRICE", leg(numerator=0), "legs[1].price is 0/1"),
    ("PRICE", leg(numerator=1_000_001), "1000001/1"),
    ("PRICE", leg(denominator=0), "1/0"),
    ("PRICE", leg(denominator=1_000_001), "1/1000001"),
]


@pytest.mark.parametrize(("reason", "fields", "says"), ROWS)
def test_malformed_bet(reason: str, fields: dict[str, Any], says: str) -> None:
    """One thing wrong: its reason, and a sentence that names it."""
    wrong = check_place(BET._replace(**fields))
    assert wrong is not None
    assert wrong.reason == reason
    assert says in wrong.message


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"stake_minor": MAXIMUM}, {"policy": 2}, {"legs": (SeenLeg(1, 1, 1, 1),) * 20},
        leg(market=MAXIMUM, selection=65_535, numerator=1_000_000, denominator=1_000_000),
    ],
)  # fmt: skip
def test_well_formed_bet(fields: dict[str, Any]) -> None:
    """Every limit is itself allowed."""
    assert check_place(BET._replace(**fields)) is None


def test_first_fault_first() -> None:
    """With everything wrong, faults are named in a fixed order."""
    bad: dict[str, Any] = {
        "key": b"", "user": b"", "currency": b"", "stake_minor": 0, "legs": (), "policy": 9,
    }  # fmt: skip
    order = []
    bet = BET._replace(**bad)
    for field in bad:
        wrong = check_place(bet)
        assert wrong is not None
        order.append(wrong.reason)
        bet = bet._replace(**{field: getattr(BET, field)})
    assert check_place(bet) is None
    assert order == [
        "REQUEST_KEY_NOT_UUID7", "USER_ID", "CURRENCY", "STAKE_NOT_POSITIVE", "LEG_COUNT", "PRICE_CHANGE_POLICY",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", [Deposit, Withdraw])
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, None), ({"amount_minor": 1}, None), ({"amount_minor": MAXIMUM}, None),
        ({"amount_minor": 0}, "AMOUNT_NOT_POSITIVE"), ({"amount_minor": -5}, "AMOUNT_NOT_POSITIVE"),
        ({"amount_minor": MAXIMUM + 1}, "AMOUNT_NOT_POSITIVE"), ({"key": bytes(16)}, "REQUEST_KEY_NOT_UUID7"),
        ({"user": b""}, "USER_ID"), ({"currency": b""}, "CURRENCY"),
    ],
)  # fmt: skip
def test_amounts(kind: Any, fields: dict[str, Any], reason: str | None) -> None:
    """Deposits and withdrawals."""
    wrong = check_amount(kind(KEY, b"u" * 16, b"EUR", 7)._replace(**fields))
    assert (wrong.reason if wrong is not None else None) == reason
