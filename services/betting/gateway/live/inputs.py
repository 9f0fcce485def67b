"""What clients may ask for, checked. Everything here raises BadRequest, with what to do about it."""

from __future__ import annotations

import uuid
from typing import Any, Final, NamedTuple

_INT64_MAX: Final = 2**63 - 1
_DIGITS_MAX: Final = 19


class BadRequest(Exception):
    """A request that cannot be meant; code: for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Cursor(NamedTuple):
    """The last message that a client has seen of a shard."""

    shard: int
    sequence: int


def event_id(data: Any) -> int:
    """Of {"eventId": …}."""
    value = _number(_fields(data).get("eventId"), "EVENT_ID", "eventId must be an event's id, as EventService gives it")
    if value == 0:
        raise BadRequest("EVENT_ID", "eventId must be an event's id, as EventService gives it")
    return value


def bet_id(data: Any) -> bytes:
    """Of {"betId": …}: 16 bytes."""
    value = _fields(data).get("betId")
    try:
        return uuid.UUID(value).bytes
    except (ValueError, TypeError, AttributeError):
        raise BadRequest("BET_ID", "betId must be the UUID that placing the bet returned") from None


def cursor(data: Any) -> Cursor | None:
    """Of {"after": {"shard": …, "sequence": …}}; None: from the beginning."""
    after = _fields(data).get("after")
    if after is None:
        return None
    if not isinstance(after, dict):
        raise BadRequest("AFTER", 'after must be {"shard": …, "sequence": …} of the last message seen')
    wrong = "after.shard and after.sequence must be those of the last message seen"
    return Cursor(_number(after.get("shard"), "AFTER", wrong), _number(after.get("sequence"), "AFTER", wrong))


def token(data: Any) -> str:
    """Of {"token": …}."""
    value = data.get("token") if isinstance(data, dict) else None
    if not isinstance(value, str) or not value:
        raise BadRequest("TOKEN_MISSING", 'give {"token": "<access token>"}')
    return value


def _fields(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise BadRequest("NOT_AN_OBJECT", 'give one object, like {"eventId": "7"}')
    return data


def _number(value: Any, code: str, wrong: str) -> int:
    """An int64 that is not negative; numbers may be text, as in JSON of protobuf."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _DIGITS_MAX:
        value = int(value)
    if type(value) is not int or not 0 <= value <= _INT64_MAX:
        raise BadRequest(code, wrong)
    return value
