"""From bytes to values that can be trusted to be what they look like. Pure; numbers stay the text they were."""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import UTC, datetime, timedelta

TIME_US_MAX = 253_402_300_800_000_000  # the year 9999
# Leaves room for the handicap that is written behind it: a catalogue's names have at most 100 characters.
NAME_CHARACTERS_MAX = 80
SHOWN_CHARACTERS = 40

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)
_WITHOUT_WIDTH = re.compile("[\u200b\u2060\ufeff]")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class SkipError(Exception):
    """This piece cannot be used; the text says why."""


class Number(str):
    """A JSON number as it was written: no float rounds it."""

    __slots__ = ()


def decode(body: bytes) -> object:
    """The document in a body. Raises SkipError when there is none."""
    try:
        document: object = json.loads(
            body.decode("utf-8-sig"), parse_float=Number, parse_int=Number, parse_constant=Number
        )
    except (ValueError, RecursionError):
        raise SkipError("the answer is not JSON") from None
    return document


def items(holder: object, what: str) -> list[object]:
    """A list's items. Raises SkipError."""
    if not isinstance(holder, list):
        raise SkipError(f"{what} is not a list")
    return holder


def field(holder: object, name: str) -> object:
    """A field of an object, None where it is missing. Raises SkipError when this is no object."""
    if not isinstance(holder, dict):
        raise SkipError(f"where {name} is expected there is no object")
    return holder.get(name)


def text(holder: object, name: str) -> str:
    """A field that is a text. Raises SkipError."""
    value = field(holder, name)
    if type(value) is not str:
        raise SkipError(f"{name} is not a text")
    return value


def number(holder: object, name: str) -> str:
    """A field that is a number, as it was written. Raises SkipError."""
    value = field(holder, name)
    if not isinstance(value, Number):
        raise SkipError(f"{name} is not a number")
    return str(value)


def truth(holder: object, name: str) -> bool:
    """A field that is true or false. Raises SkipError."""
    value = field(holder, name)
    if not isinstance(value, bool):
        raise SkipError(f"{name} is neither true nor false")
    return value


def key(holder: object, name: str) -> str:
    """A field that names something for programs. Raises SkipError."""
    value = text(holder, name)
    if not _KEY.fullmatch(value):
        raise SkipError(f"{name} {shown(value)} is not 1 to 64 letters, digits, dots, dashes and underscores")
    return value


def label(holder: object, name: str) -> str:
    """A field that names something for people. Raises SkipError."""
    value = folded(text(holder, name))
    if not value or len(value) > NAME_CHARACTERS_MAX or not value.isprintable():
        raise SkipError(f"{name} {shown(value)} is not 1 to {NAME_CHARACTERS_MAX} printable characters")
    return value


def folded(value: str) -> str:
    """A name in the one form in which names are compared.

    Every Unicode space, also no-break and tab, and every run of them is one space; composed and decomposed letters are
    the same letters; characters without width (U+200B, U+2060, U+FEFF) are no characters.
    """
    return " ".join(unicodedata.normalize("NFC", _WITHOUT_WIDTH.sub("", value)).split())


def time_us(holder: object, name: str) -> int:
    """A field that is a moment (ISO 8601, UTC), in microseconds since 1970. Raises SkipError."""
    value = text(holder, name)
    if not _TIME.fullmatch(value):
        raise SkipError(f"{name} {shown(value)} is not a time such as 2026-08-15T14:00:00Z")
    try:
        at_us = (datetime.fromisoformat(value) - _EPOCH) // timedelta(microseconds=1)
    except ValueError:
        raise SkipError(f"{name} {shown(value)} is on no calendar") from None
    if not 0 < at_us < TIME_US_MAX:
        raise SkipError(f"{name} {shown(value)} is not between 1970 and 9999")
    return at_us


def time_shown(at_us: int) -> str:
    """A moment for a log line, to the second."""
    return (_EPOCH + timedelta(microseconds=at_us)).strftime("%Y-%m-%dT%H:%M:%SZ")


def shown(value: str) -> str:
    """A text of the source as it may stand in a log line: short, and without characters that do something."""
    return ascii(value[:SHOWN_CHARACTERS])
