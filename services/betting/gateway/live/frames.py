"""What goes over the wire: Engine.IO and Socket.IO text packets, and the WebSocket frames around them. Pure.

Sources: RFC 6455 (WebSocket), Engine.IO protocol 4, Socket.IO protocol 5.
"""

from __future__ import annotations

import json
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


class Wrong(NamedTuple):
    """What is the matter with something that a client sent."""

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


def wrong_with(text: str, *, polled: bool = False) -> Wrong | None:
    """Why a client's packet cannot be taken; None: python-socketio may have it. polled: it came by long-polling."""
    others = _ENGINE_OTHERS_POLLED if polled else _ENGINE_OTHERS
    if text[:1] in others and len(text) <= _ENGINE_OTHER_CHARACTERS_MAX:
        return None
    if text[:1] != _ENGINE_MESSAGE:
        return Wrong("NOT_ENGINE_IO", "this is no Engine.IO 4 packet")
    if len(text) > MESSAGE_CHARACTERS_MAX:
        return Wrong("TOO_LARGE", f"a message has at most {MESSAGE_CHARACTERS_MAX} characters")
    if text[1:2] not in _SOCKET_TYPES:
        return Wrong("NOT_SOCKET_IO", "this is no Socket.IO 5 packet that this server takes: it takes no binary ones")
    try:
        packet = Packet(encoded_packet=text[1:])
    except (ValueError, TypeError, IndexError, KeyError, RecursionError):
        return Wrong("MALFORMED", "this packet is not what the Socket.IO protocol says")
    if text[1:2] == _EVENT and not (isinstance(packet.data, list) and packet.data and isinstance(packet.data[0], str)):
        return Wrong(
            "MALFORMED", 'an event is an array that begins with its name: ["subscribe:odds", {"eventId": "7"}]'
        )
    return None
