"""The file of acknowledgements: what clients were told, one JSON object a line, written by whoever drove the platform.

    {"kind": "bet" | "deposit" | "withdrawal", "request_key": uuid, "user_id": uuid, "currency": "GBP",
     "bet_id": uuid | null, "stake_minor": int, "amount_minor": int,
     "legs": [[market, selection, numerator, denominator], …], "acknowledged_at_us": int}
    {"kind": "refusal", "code": name or number of betting.v1.RefusalCode, "request_key": uuid, "user_id": uuid,
     "currency": "GBP"}

A bet needs its stake and its legs at the prices taken, a deposit or withdrawal its amount. A refusal that is not final
left its key free and has nothing to be found: it needs no more than its code. Other fields are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from struct import error as StructError
from typing import Any
from uuid import UUID

from betting.audit.report import AcknowledgementsRead, CannotAudit

KINDS = {"deposit": 2, "withdrawal": 3, "bet": 10, "refusal": 11}
FINAL_CODES = range(10, 40)
CODES = {
    "ACCOUNT_NOT_FOUND": 10, "INSUFFICIENT_FUNDS": 11, "STAKE_BELOW_MINIMUM": 12, "STAKE_ABOVE_MAXIMUM": 13,
    "PAYOUT_ABOVE_MAXIMUM": 14, "PRICE_MOVED": 15, "MARKET_NOT_OPEN": 16, "MARKET_CLOSED": 17, "MARKET_RESULTED": 18,
    "UNKNOWN_SELECTION": 19, "LEGS_SHARE_EVENT": 20, "TOO_MANY_OPEN_BETS": 21, "BALANCE_ABOVE_MAXIMUM": 22,
    "OWES_RECEIVABLE": 23, "BOOK_STALE": 40, "OVERLOADED": 41, "NOT_OWNER": 42, "RATE_LIMITED": 43, "SHARD_FROZEN": 44,
    "DEADLINE_PASSED": 45, "KEY_EXPIRED": 60, "KEY_IN_FUTURE": 61, "KEY_REUSED": 62,
}  # fmt: skip

_LEG = Struct(">qHII")


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """One line, ready to be compared. `legs` are packed as in a bet record, without the event."""

    line: int
    kind: int
    request_key: UUID | None
    user: UUID | None
    currency: str | None
    bet: UUID | None
    amount_minor: int | None
    legs: bytes | None
    code: int | None

    def copy_line(self) -> str:
        """The values in this order, as COPY's text format wants them. None of them can hold a tab or a backslash."""
        legs = None if self.legs is None else f"\\\\x{self.legs.hex()}"
        values = (
            self.line, self.kind, self.request_key, self.user, self.currency, self.bet, self.amount_minor, legs,
            self.code,
        )  # fmt: skip
        return "\t".join("\\N" if value is None else str(value) for value in values) + "\n"


class AcknowledgementFile:
    """Reads the file line by line; `offset` of `size` bytes are done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self.size = _size(path)
        self._counts = dict.fromkeys(KINDS.values(), 0)
        self._cut_off = False

    @property
    def read(self) -> AcknowledgementsRead:
        """What has been read so far."""
        deposits, withdrawals, bets, refusals = (self._counts[kind] for kind in KINDS.values())
        return AcknowledgementsRead(str(self.path), bets, deposits, withdrawals, refusals, self._cut_off)

    def __iter__(self) -> Iterator[Acknowledgement]:
        """Every complete line. Raises CannotAudit naming the line that cannot be read."""
        try:
            with self.path.open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    self.offset += len(line)
                    found = self._parse(number, line)
                    if found is not None:
                        yield found
        except OSError as error:
            raise CannotAudit(f"{self.path} cannot be read: {error.strerror}") from error

    def _parse(self, number: int, line: bytes) -> Acknowledgement | None:
        if not line.strip():
            return None
        try:
            value = json.loads(line)
        except ValueError as error:
            if not line.endswith(b"\n"):  # whoever wrote it was killed in the middle of the line
                self._cut_off = True
                return None
            raise CannotAudit(f"{self.path}, line {number}: not JSON ({error})") from error
        try:
            found = parse(number, value)
        except ValueError as error:
            raise CannotAudit(f"{self.path}, line {number}: {error}") from error
        self._counts[found.kind] += 1
        return found


def parse(line: int, value: object) -> Acknowledgement:
    """One line's object. Raises ValueError saying which field is wrong."""
    if not isinstance(value, dict):
        raise ValueError("an acknowledgement is a JSON object")
    kind = KINDS.get(str(value.get("kind")))
    if kind is None:
        raise ValueError(f"kind is {value.get('kind')!r}: it must be one of {', '.join(KINDS)}")
    code = _code(value.get("code")) if kind == KINDS["refusal"] else None
    if code is not None and code not in FINAL_CODES:
        return Acknowledgement(line, kind, None, None, None, None, None, None, code)
    is_bet = kind == KINDS["bet"]
    return Acknowledgement(
        line=line,
        kind=kind,
        request_key=_uuid(value, "request_key"),
        user=_uuid(value, "user_id"),
        currency=_currency(value),
        bet=_uuid(value, "bet_id") if is_bet and value.get("bet_id") is not None else None,
        amount_minor=None if code is not None else _amount(value, "stake_minor" if is_bet else "amount_minor"),
        legs=_legs(value.get("legs")) if is_bet else None,
        code=code,
    )


def _code(value: object) -> int:
    name = str(value).removeprefix("REFUSAL_CODE_")
    code = CODES.get(name, value)
    if not isinstance(code, int) or isinstance(code, bool) or code not in CODES.values():
        raise ValueError(f"code is {value!r}: it must be a name or number of betting.v1.RefusalCode")
    return code


def _uuid(value: dict[str, Any], name: str) -> UUID:
    try:
        return UUID(value[name])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ValueError(f"{name} is {value.get(name)!r}: it must be a UUID") from None


def _currency(value: dict[str, Any]) -> str:
    currency = value.get("currency")
    if not isinstance(currency, str) or len(currency) != 3 or not (currency.isascii() and currency.isalpha()):
        raise ValueError(f"currency is {currency!r}: it must be three letters")
    return currency


def _amount(value: dict[str, Any], name: str) -> int:
    amount = value.get(name)
    if not isinstance(amount, int) or isinstance(amount, bool) or not 0 < amount < 2**63:
        raise ValueError(f"{name} is {amount!r}: it must be a positive whole number of minor units")
    return amount


def _legs(value: object) -> bytes:
    if not isinstance(value, list) or not value:
        raise ValueError(f"legs is {value!r}: a bet has at least one leg")
    return b"".join(_leg(index, leg) for index, leg in enumerate(value))


def _leg(index: int, value: object) -> bytes:
    try:
        return _LEG.pack(*value)  # type: ignore[misc]
    except (TypeError, StructError):
        raise ValueError(
            f"legs[{index}] is {value!r}: it must be [market, selection, numerator, denominator]"
        ) from None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise CannotAudit(f"{path} cannot be read: {error.strerror}") from error
