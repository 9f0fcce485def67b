"""The messages of the live protocol, and the checks of client messages. Pure.

Sources: RFC 6455 (WebSocket), Engine.IO protocol 4, Socket.IO protocol 5.
"""

from __future__ import annotations

import json
import uuid
from typing import Any, Final, NamedTuple

from socketio.packet import Packet

MESSAGE_CHARACTERS_MAX: Final = 16 * 1024
# socket.io's own clients take an event of such a name for a broken packet, and end the connection.
RESERVED: Final = frozenset(
    {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
)
_ENGINE_MESSAGE: Final = "4"
# Close, ping, pong, upgrade, nothing; of a request that is polled, pings and nothings would end the session.
_ENGINE_OTHERS: Final = frozenset("12356")
_ENGINE_OTHERS_POLLED: Final = frozenset("135")
_ENGINE_OTHER_CHARACTERS_MAX: Final = 64
_EVENT: Final = "2"
# Connect, disconnect, event, acknowledgement. Nothing that we take is binary.
_SOCKET_TYPES: Final = frozenset("0123")


class Outgoing(NamedTuple):
    """One message, as text for python-engineio and as a finished WebSocket frame."""

    text: str
    frame: bytes


class InvalidMessage(NamedTuple):
    """Why a client message is refused."""

    code: str
    message: str


def event(name: str, data: Any) -> Outgoing:
    """A Socket.IO event in the default namespace."""
    assert name not in RESERVED, name
    text = f"2{json.dumps([name, data], separators=(',', ':'), ensure_ascii=False)}"
    return Outgoing(text, frame(f"{_ENGINE_MESSAGE}{text}".encode()))


def frame(payload: bytes) -> bytes:
    """A text frame as a server sends it: final, not masked, not compressed (RFC 6455, 5.2)."""
    length = len(payload)
    if length < 126:
        return bytes((0x81, length)) + payload
    if length < 1 << 16:
        return b"\x81\x7e" + length.to_bytes(2, "big") + payload
    return b"\x81\x7f" + length.to_bytes(8, "big") + payload


def problem_with(text: str, *, polled: bool = False) -> InvalidMessage | None:
    """Why a client packet is refused; None: python-socketio gets it. polled: it came by long polling."""
    others = _ENGINE_OTHERS_POLLED if polled else _ENGINE_OTHERS
    if text[:1] in others and len(text) <= _ENGINE_OTHER_CHARACTERS_MAX:
        return None
    if text[:1] != _ENGINE_MESSAGE:
        return InvalidMessage("NOT_ENGINE_IO", "this is no Engine.IO 4 packet")
    if len(text) > MESSAGE_CHARACTERS_MAX:
        return InvalidMessage("TOO_LARGE", f"a message has at most {MESSAGE_CHARACTERS_MAX} characters")
    if text[1:2] not in _SOCKET_TYPES:
        return InvalidMessage(
            "NOT_SOCKET_IO", "this is no Socket.IO 5 packet that this server takes: it takes no binary ones"
        )
    try:
        packet = Packet(encoded_packet=text[1:])
    except (ValueError, TypeError, IndexError, KeyError, RecursionError):
        return InvalidMessage("MALFORMED", "this packet is not what the Socket.IO protocol says")
    if text[1:2] == _EVENT and not (isinstance(packet.data, list) and packet.data and isinstance(packet.data[0], str)):
        return InvalidMessage(
            "MALFORMED", 'an event is an array that begins with its name: ["subscribe:odds", {"eventId": "7"}]'
        )
    return None


_INT64_MAX: Final = 2**63 - 1
_DIGITS_MAX: Final = 19


class BadRequest(Exception):
    """An invalid request. code: for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Cursor(NamedTuple):
    """The last message of a shard that a client has seen."""

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
