"""The form of a record: stream `betting:shard:<n>`, and one field `e` that holds up to 100 entries.

The id is `<sequence of the last one>-0`. One record for many entries and one packed field: per entry Redis and its
client cost ten times what packing costs. An entry, big-endian: size of its body 4, sequence 8, kind 2, format 2, at 8,
account, bet and request key 16 each (zeros: none), market 8 (0: none), cash, stakes, house, clearing and receivable 8
each, body.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from struct import error as StructError
from typing import Any

from betting.engine.entries import Entry

FIELD = b"e"
_PREFIX = "betting:shard:"
_HEAD = Struct(">iqhhq16s16s16sqqqqqq")
RECORD_ENTRIES = 100
_NONE = bytes(16)


class BadRecord(Exception):
    """A record that this version cannot read; the journal has the entry."""


def stream_of(shard: int) -> str:
    """The name of a shard's stream."""
    return f"{_PREFIX}{shard}"


def shard_of_stream(name: bytes) -> int:
    """The shard of a stream's name."""
    return int(name[len(_PREFIX) :])


def pack(entries: Sequence[Entry]) -> list[bytes]:
    """Id and content of each record in turn, as arguments of the publishing script."""
    made = []
    for start in range(0, len(entries), RECORD_ENTRIES):
        group = entries[start : start + RECORD_ENTRIES]
        made += [b"%d" % group[-1].sequence, b"".join(map(_pack_entry, group))]
    return made


def _pack_entry(entry: Entry) -> bytes:
    sequence, kind, form, at, account, bet, key, market, cash, stakes, house, clearing, receivable, body = entry
    return (
        _HEAD.pack(
            len(body), sequence, kind, form, at, account or _NONE, bet or _NONE, key or _NONE, market or 0,
            cash, stakes, house, clearing, receivable,
        )
        + body
    )  # fmt: skip


def unpack(data: bytes) -> list[Entry]:
    """The entries of a record. Raises BadRecord."""
    entries = []
    at = 0
    try:
        while at < len(data):
            size, *fields = _HEAD.unpack_from(data, at)
            at += _HEAD.size + size
            entries.append(_entry(fields, data[at - size : at]))
    except StructError as problem:
        raise BadRecord(str(problem)) from problem
    if at != len(data) or not entries:
        raise BadRecord(f"{len(data)} bytes are no entries")
    return entries


def _entry(fields: list[Any], body: bytes) -> Entry:
    sequence, kind, form, at, account, bet, key, market, *amounts = fields
    cash, stakes, house, clearing, receivable = amounts
    return Entry(
        sequence, kind, form, at, _id(account), _id(bet), _id(key), market or None,
        cash, stakes, house, clearing, receivable, body,
    )  # fmt: skip


def _id(value: bytes) -> bytes | None:
    return None if value == _NONE else value
