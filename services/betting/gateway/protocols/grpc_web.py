"""gRPC-Web (grpc/doc/PROTOCOL-WEB.md): message frames, then one frame with the trailers in the body."""

from __future__ import annotations

from base64 import b64encode

from google.protobuf import any_pb2
from google.rpc import status_pb2

from betting.gateway.protocols.failures import Failure
from betting.gateway.protocols.frames import FLAG_TRAILERS, encode_frame

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
