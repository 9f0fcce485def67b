"""Connect (connectrpc.com/docs/protocol): plain bodies for unary calls, envelopes for streams, errors as JSON."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from google.protobuf import json_format, message
from google.rpc import error_details_pb2

from betting.gateway.protocols.codes import CONNECT_HTTP_STATUS, connect_name
from betting.gateway.protocols.failures import Detail, Failure, malformed
from betting.gateway.protocols.frames import FLAG_END_STREAM, encode_frame

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
