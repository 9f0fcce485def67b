"""One object per way of speaking to the gateway: reads a request body, writes replies, failures and streams.

Sources: grpc/doc/PROTOCOL-WEB.md (message frames, then one frame with the trailers in the body) and
connectrpc.com/docs/protocol (plain bodies for unary calls, envelopes for streams, errors as JSON).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from google.protobuf import any_pb2, json_format, message
from google.rpc import error_details_pb2, status_pb2

from betting.gateway.protocols import encoding
from betting.gateway.protocols.encoding import (
    FLAG_END_STREAM,
    FLAG_TRAILERS,
    decode_single,
    decode_text,
    encode_frame,
    encode_text,
)
from betting.gateway.protocols.failures import CONNECT_HTTP_STATUS, Detail, Failure, connect_name, malformed

_TYPE_URL = "type.googleapis.com/"
_SAFE = frozenset(range(0x20, 0x7F)) - {0x25}

OK_TRAILERS = encode_frame(b"grpc-status: 0\r\n", FLAG_TRAILERS)


def percent_encode(message: str) -> str:
    """A status message as gRPC puts it in a header: UTF-8, everything but printable ASCII (and "%") as %XX."""
    raw = message.encode("utf-8", "replace")
    return "".join(chr(byte) if byte in _SAFE else f"%{byte:02X}" for byte in raw)


def failure_trailers(failure: Failure) -> bytes:
    """The trailers frame of a failed call."""
    lines = [f"grpc-status: {int(failure.code)}", f"grpc-message: {percent_encode(failure.message)}"]
    if failure.details:
        lines.append(f"grpc-status-details-bin: {_status_details(failure)}")
    return encode_frame("".join(f"{line}\r\n" for line in lines).encode("ascii"), FLAG_TRAILERS)


def _status_details(failure: Failure) -> str:
    status = status_pb2.Status(code=int(failure.code), message=failure.message.encode("utf-8", "replace").decode())
    status.details.extend(
        any_pb2.Any(type_url=_TYPE_URL + detail.type_name, value=detail.value) for detail in failure.details
    )
    return b64encode(status.SerializeToString()).decode("ascii").rstrip("=")


PROTOCOL_VERSION = "1"
OK_END_STREAM = encode_frame(b"{}", FLAG_END_STREAM)

# Details that are also shown readable, in the "debug" member, to people with curl.
_READABLE: dict[str, type[message.Message]] = {
    "google.rpc.ErrorInfo": error_details_pb2.ErrorInfo,
    "google.rpc.RetryInfo": error_details_pb2.RetryInfo,
    "google.rpc.BadRequest": error_details_pb2.BadRequest,
}


def check_version(value: str | None) -> None:
    """Raises Failure for a Connect-Protocol-Version that is not ours; clients such as curl need not send one."""
    if value is not None and value != PROTOCOL_VERSION:
        raise malformed("PROTOCOL_VERSION", f"Connect-Protocol-Version {value[:20]!r} is not known here: send 1")


def http_status(failure: Failure) -> int:
    """The HTTP status of a failed unary call."""
    return failure.http_status or CONNECT_HTTP_STATUS[failure.code]


def error_json(failure: Failure) -> bytes:
    """The body of a failed unary call."""
    return json.dumps(_error(failure), ensure_ascii=False).encode("utf-8", "replace")


def end_stream(failure: Failure | None) -> bytes:
    """The last envelope of a stream."""
    if failure is None:
        return OK_END_STREAM
    body = json.dumps({"error": _error(failure)}, ensure_ascii=False)
    return encode_frame(body.encode("utf-8", "replace"), FLAG_END_STREAM)


def _error(failure: Failure) -> dict[str, Any]:
    error: dict[str, Any] = {"code": connect_name(failure.code), "message": failure.message}
    if failure.details:
        error["details"] = [_detail(detail) for detail in failure.details]
    return error


def _detail(detail: Detail) -> dict[str, Any]:
    shown: dict[str, Any] = {"type": detail.type_name, "value": b64encode(detail.value).decode("ascii").rstrip("=")}
    readable = _READABLE.get(detail.type_name)
    if readable is not None:
        try:
            shown["debug"] = json_format.MessageToDict(readable.FromString(detail.value))
        except message.DecodeError:
            shown["debug"] = {}
    return shown


_STATUSES: Final = frozenset(HTTPStatus)

MessageType = type[message.Message]


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A whole HTTP answer."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def http_bytes(reply: HttpReply, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """A whole answer on the wire, with these headers besides its own."""
    reason = HTTPStatus(reply.status).phrase if reply.status in _STATUSES else "Refused"
    lines = [f"HTTP/1.1 {reply.status} {reason}", f"Content-Type: {reply.content_type}"]
    lines += [f"{name}: {value}" for name, value in (*headers, *reply.headers)]
    lines += ["Server: betting", f"Content-Length: {len(reply.body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + reply.body


@dataclass(frozen=True, slots=True)
class Wire(ABC):
    """What all ways share. `media_type` is the content type of requests and of successful replies."""

    media_type: str
    json: bool
    timeout_header: str

    def request(self, kind: MessageType, body: bytes) -> message.Message:
        """The request message in an HTTP body; raises Failure."""
        payload = self.payload(body)
        return encoding.from_json(kind, payload) if self.json else encoding.from_binary(kind, payload)

    def encode(self, reply: bytes, kind: MessageType) -> bytes:
        """A serialized reply in this wire's codec."""
        return encoding.to_json(kind.FromString(reply)) if self.json else reply

    @abstractmethod
    def payload(self, body: bytes) -> bytes:
        """The bytes of the message inside the body; raises Failure."""

    @abstractmethod
    def failure(self, failure: Failure) -> HttpReply:
        """A failed call, before anything was streamed."""

    @abstractmethod
    def timeout_s(self, value: str | None) -> float | None:
        """Seconds in the timeout header; raises Failure."""


class UnaryWire(Wire):
    """Carries calls with one reply."""

    __slots__ = ()

    @abstractmethod
    def reply(self, payload: bytes) -> bytes:
        """The body of a successful answer, `payload` being the message already in this wire's codec."""


class StreamWire(Wire):
    """Carries calls with a stream of replies."""

    __slots__ = ()

    @abstractmethod
    def item(self, payload: bytes) -> bytes:
        """One message of a stream."""

    @abstractmethod
    def end(self, failure: Failure | None) -> bytes:
        """The end of a stream, well or not."""


class GrpcWeb(UnaryWire, StreamWire):
    """application/grpc-web."""

    __slots__ = ()

    def payload(self, body: bytes) -> bytes:
        return decode_single(body)

    def reply(self, payload: bytes) -> bytes:
        return encode_frame(payload) + OK_TRAILERS

    def failure(self, failure: Failure) -> HttpReply:
        return HttpReply(200, self.media_type, self.end(failure), failure.headers)

    def item(self, payload: bytes) -> bytes:
        return encode_frame(payload)

    def end(self, failure: Failure | None) -> bytes:
        return OK_TRAILERS if failure is None else failure_trailers(failure)

    def timeout_s(self, value: str | None) -> float | None:
        return encoding.grpc_timeout_s(value)


class GrpcWebText(GrpcWeb):
    """application/grpc-web-text: the same in base64, for clients that cannot read binary responses as they come."""

    __slots__ = ()

    def payload(self, body: bytes) -> bytes:
        return decode_single(decode_text(body))

    def reply(self, payload: bytes) -> bytes:
        return encode_text(encode_frame(payload) + OK_TRAILERS)

    def item(self, payload: bytes) -> bytes:
        return encode_text(encode_frame(payload))

    def end(self, failure: Failure | None) -> bytes:
        return encode_text(OK_TRAILERS if failure is None else failure_trailers(failure))


class ConnectUnary(UnaryWire):
    """application/proto and application/json."""

    __slots__ = ()

    def payload(self, body: bytes) -> bytes:
        return body

    def reply(self, payload: bytes) -> bytes:
        return payload

    def failure(self, failure: Failure) -> HttpReply:
        return connect_failure(failure)

    def timeout_s(self, value: str | None) -> float | None:
        return encoding.connect_timeout_s(value)


class ConnectStream(StreamWire):
    """application/connect+proto and application/connect+json: envelopes, the last one says how it ended."""

    __slots__ = ()

    def payload(self, body: bytes) -> bytes:
        return decode_single(body)

    def failure(self, failure: Failure) -> HttpReply:
        return HttpReply(200, self.media_type, end_stream(failure), failure.headers)

    def item(self, payload: bytes) -> bytes:
        return encode_frame(payload)

    def end(self, failure: Failure | None) -> bytes:
        return end_stream(failure)

    def timeout_s(self, value: str | None) -> float | None:
        return encoding.connect_timeout_s(value)


def connect_failure(failure: Failure) -> HttpReply:
    """The Connect form of a failure: also the answer where the protocol is not known."""
    return HttpReply(http_status(failure), "application/json", error_json(failure), failure.headers)


def _wires() -> dict[str, Wire]:
    known: list[Wire] = []
    for base, kind in (("application/grpc-web", GrpcWeb), ("application/grpc-web-text", GrpcWebText)):
        known += [kind(base + suffix, suffix == "+json", "grpc-timeout") for suffix in ("", "+proto", "+json")]
    for codec in ("proto", "json"):
        known.append(ConnectUnary(f"application/{codec}", codec == "json", "connect-timeout-ms"))
        known.append(ConnectStream(f"application/connect+{codec}", codec == "json", "connect-timeout-ms"))
    return {wire.media_type: wire for wire in known}


WIRES: Final = _wires()
ACCEPT_POST: Final = ", ".join(WIRES)
PLAIN_GRPC: Final = (
    "plain gRPC is not spoken here: use gRPC-Web (application/grpc-web+proto) or Connect (application/proto, "
    "application/json; streams: application/connect+proto) over HTTP/1.1"
)


def accepted_types(*, streams: bool) -> list[str]:
    """The content types of requests to methods with a stream of replies, or with one."""
    kind = StreamWire if streams else UnaryWire
    return [media_type for media_type, wire in WIRES.items() if isinstance(wire, kind)]


def is_plain_grpc(content_type: str) -> bool:
    """Whether a client means gRPC itself, not gRPC-Web: application/grpc, also with a suffix."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/grpc" or media_type.startswith("application/grpc+")


def plain_grpc_failure(failure: Failure) -> HttpReply:
    """A failed call as gRPC has it: the status in the head, no body ("Trailers-Only" of PROTOCOL-HTTP2)."""
    status = (("grpc-status", str(int(failure.code))), ("grpc-message", percent_encode(failure.message)))
    return HttpReply(200, "application/grpc", b"", (*status, *failure.headers))


def wire_of(content_type: str | None) -> Wire | None:
    """The wire of a Content-Type header, parameters aside; None when it is none of ours."""
    if not content_type:
        return None
    wire = WIRES.get(content_type)
    if wire is not None:
        return wire
    media_type, _, parameters = content_type.partition(";")
    if not _charset_fits(parameters):
        return None
    return WIRES.get(media_type.strip().lower())


def _charset_fits(parameters: str) -> bool:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in ("utf-8", "utf8"):
            return False
    return True
