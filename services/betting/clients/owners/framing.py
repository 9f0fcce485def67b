"""Calls to owners put together from commands that are already encoded: a batch is its parts, one after another.

A repeated message field is nothing but tag, length, bytes for each element (protobuf encoding guide), so a command is
encoded once, when it arrives, and goes unchanged into every call that carries it.
"""

from __future__ import annotations

from collections.abc import Iterable

from betting.internal.v1 import owner_pb2

_COMMANDS_TAG = b"\x1a"  # ExecuteRequest.commands, field 3, length-delimited
_REQUESTS_TAG = b"\x0a"  # ExecuteShardsRequest.requests, field 1, length-delimited


def frame_command(command: owner_pb2.Command) -> bytes:
    """A command as one element of ExecuteRequest.commands."""
    payload = command.SerializeToString()
    return _COMMANDS_TAG + _varint(len(payload)) + payload


def execute_request(shard_id: int, epoch: int, budget_ms: int, commands: Iterable[bytes]) -> bytes:
    """A serialized ExecuteRequest of framed commands."""
    head = owner_pb2.ExecuteRequest(shard_id=shard_id, epoch=epoch, budget_ms=budget_ms)
    return b"".join((head.SerializeToString(), *commands))


def execute_shards_request(requests: Iterable[bytes]) -> bytes:
    """A serialized ExecuteShardsRequest of serialized ExecuteRequests."""
    return b"".join(_REQUESTS_TAG + _varint(len(request)) + request for request in requests)


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
