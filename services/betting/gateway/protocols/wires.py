"""One object per way of speaking to the gateway: reads a request body, writes replies, failures and streams."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

from google.protobuf import message

from betting.gateway.protocols import connect, grpc_web, messages, timeouts
from betting.gateway.protocols.failures import Failure
from betting.gateway.protocols.frames import decode_single, encode_frame
from betting.gateway.protocols.text import decode_text, encode_text

MessageType = type[message.Message]


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A whole HTTP answer."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Wire(ABC):
    """What all ways share. `media_type` is the content type of requests and of successful replies."""

    media_type: str
    json: bool
    timeout_header: str

    def request(self, kind: MessageType, body: bytes) -> message.Message:
        """The request message in an HTTP body; raises Failure."""
        payload = self.payload(body)
        return messages.from_json(kind, payload) if self.json else messages.from_binary(kind, payload)

    def encode(self, reply: bytes, kind: MessageType) -> bytes:
        """A serialized reply in this wire's codec."""
        return messages.to_json(kind.FromString(reply)) if self.json else reply

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
        return encode_frame(payload) + grpc_web.OK_TRAILERS

    def failure(self, failure: Failure) -> HttpReply:
        return HttpReply(200, self.media_type, self.end(failure), failure.headers)

    def item(self, payload: bytes) -> bytes:
        return encode_frame(payload)

    def end(self, failure: Failure | None) -> bytes:
        return grpc_web.OK_TRAILERS if failure is None else grpc_web.failure_trailers(failure)

    def timeout_s(self, value: str | None) -> float | None:
        return timeouts.grpc_timeout_s(value)


class GrpcWebText(GrpcWeb):
    """application/grpc-web-text: the same in base64, for clients that cannot read binary responses as they come."""

    __slots__ = ()

    def payload(self, body: bytes) -> bytes:
        return decode_single(decode_text(body))

    def reply(self, payload: bytes) -> bytes:
        return encode_text(encode_frame(payload) + grpc_web.OK_TRAILERS)

    def item(self, payload: bytes) -> bytes:
        return encode_text(encode_frame(payload))

    def end(self, failure: Failure | None) -> bytes:
        return encode_text(grpc_web.OK_TRAILERS if failure is None else grpc_web.failure_trailers(failure))


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
        return timeouts.connect_timeout_s(value)


class ConnectStream(StreamWire):
    """application/connect+proto and application/connect+json: envelopes, the last one says how it ended."""

    __slots__ = ()

    def payload(self, body: bytes) -> bytes:
        return decode_single(body)

    def failure(self, failure: Failure) -> HttpReply:
        return HttpReply(200, self.media_type, connect.end_stream(failure), failure.headers)

    def item(self, payload: bytes) -> bytes:
        return encode_frame(payload)

    def end(self, failure: Failure | None) -> bytes:
        return connect.end_stream(failure)

    def timeout_s(self, value: str | None) -> float | None:
        return timeouts.connect_timeout_s(value)


def connect_failure(failure: Failure) -> HttpReply:
    """The Connect form of a failure: also the answer where the protocol is not known."""
    return HttpReply(connect.http_status(failure), "application/json", connect.error_json(failure), failure.headers)


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
