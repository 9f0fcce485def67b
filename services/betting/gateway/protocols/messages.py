"""Protobuf messages as bytes or JSON; whatever is wrong with the input becomes a Failure."""

from __future__ import annotations

from google.protobuf import json_format, message

from betting.gateway.protocols.failures import Failure, malformed

_SHOWN_CHARACTERS = 200


def from_binary(kind: type[message.Message], body: bytes) -> message.Message:
    """Parses a message; raises Failure INVALID_ARGUMENT when it is not one."""
    try:
        return kind.FromString(body)
    except message.DecodeError:
        raise _unreadable(kind, "protobuf", "the bytes are not this message") from None


def from_json(kind: type[message.Message], body: bytes) -> message.Message:
    """Parses proto3 JSON; unknown members are ignored, as Connect servers do; raises Failure INVALID_ARGUMENT."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise malformed("UTF8", f"the JSON body is not UTF-8 at byte {error.start}") from None
    if not text.lstrip().startswith("{"):
        raise malformed("JSON", "the body is no JSON object: send one, {} if there is nothing to say")
    try:
        return json_format.Parse(text, kind(), ignore_unknown_fields=True)
    except RecursionError:
        raise malformed("JSON", "the JSON is nested too deeply") from None
    except (json_format.ParseError, ValueError, TypeError, AttributeError, KeyError) as error:
        # json_format lets some of Python's own errors through for values of the wrong shape.
        raise _unreadable(kind, "JSON", str(error) if isinstance(error, json_format.ParseError) else "") from None


def to_json(reply: message.Message) -> bytes:
    """Proto3 JSON without line breaks."""
    return json_format.MessageToJson(reply, indent=None, ensure_ascii=False).encode("utf-8", "replace")


def _unreadable(kind: type[message.Message], form: str, why: str) -> Failure:
    shown = "".join(c if c.isprintable() else " " for c in why[:_SHOWN_CHARACTERS])
    return malformed(
        form.upper(), f"the body is not {kind.DESCRIPTOR.full_name} as {form}" + (f": {shown}" if shown else "")
    )
