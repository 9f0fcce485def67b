"""Protobuf messages as bytes or JSON; whatever is wrong with the input becomes a Failure."""

from __future__ import annotations

from google.protobuf import json_format, message

from betting.gateway.protocols import json_reader
from betting.gateway.protocols.failures import malformed


def from_binary(kind: type[message.Message], body: bytes) -> message.Message:
    """Parses a message; raises Failure INVALID_ARGUMENT when it is not one."""
    try:
        return kind.FromString(body)
    except message.DecodeError:
        raise malformed(
            "PROTOBUF",
            f"the message of {len(body)} bytes is not {kind.DESCRIPTOR.full_name} in protobuf's binary form: "
            "encode it with the published protos, or send JSON under a Content-Type that says so",
        ) from None


def from_json(kind: type[message.Message], body: bytes) -> message.Message:
    """Parses proto3 JSON; unknown members are ignored, as Connect servers do; raises Failure INVALID_ARGUMENT."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise malformed("UTF8", f"the JSON body is not UTF-8 at byte {error.start}: encode it as UTF-8") from None
    if not text.lstrip().startswith("{"):
        found = f"has {len(body)} bytes but no JSON object" if text.strip() else "is empty"
        raise malformed("JSON", f"the body {found}: send a JSON object, {{}} if there is nothing to say")
    return json_reader.read(kind, text)


def to_json(reply: message.Message) -> bytes:
    """Proto3 JSON without line breaks."""
    return json_format.MessageToJson(reply, indent=None, ensure_ascii=False).encode("utf-8", "replace")
