"""Proto3 JSON to a message; what is wrong with it is told by its place, what was given, and what is wanted.

Values are checked here, before the protobuf library sees them: its own words name Python's types, not the caller's
fields, and it takes a string for an empty message and an unknown name for the first of an enum. Paths are written as
the caller spelt them. Values are cut and escaped; those of secrets are never shown.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final, NamedTuple

from google.protobuf import json_format, message
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from betting.gateway.protocols.failures import malformed
from betting.runtime.errors import shown
from betting.runtime.logs import sounds_secret

_INTEGERS: Final = {
    FieldDescriptor.TYPE_INT32: ("int32", -(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: ("int32", -(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SFIXED32: ("int32", -(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: ("uint32", 0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: ("uint32", 0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: ("int64", -(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SINT64: ("int64", -(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: ("int64", -(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: ("uint64", 0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: ("uint64", 0, 2**64 - 1),
}

# Python's int() also reads "1_000", "+5" and digits of other scripts: in JSON these are no numbers.
_DIGITS: Final = re.compile(r"-?[0-9]{1,20}")


class _Object(dict[str, Any]):
    """A JSON object that knows which name it was given twice, the first one repeated."""

    twice: str | None = None


def read(kind: type[message.Message], text: str) -> message.Message:
    """The message in a JSON text; unknown members are ignored. Raises Failure INVALID_ARGUMENT JSON."""
    descriptor: Any = kind.DESCRIPTOR  # of one of two classes, which share no base
    value = _value(text)
    mistake = _in_message(descriptor, value, "")
    if mistake:
        raise malformed("JSON", mistake)
    try:
        return json_format.ParseDict(value, kind(), ignore_unknown_fields=True)
    except (json_format.ParseError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        # Whatever we do not know how to name: still not in the library's words.
        said = f"the JSON is not {descriptor.full_name}: give the members that the documentation of this method names"
        raise malformed("JSON", said) from None


def _value(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        at = f"at line {error.lineno}, column {error.colno}"
        raise malformed("JSON", f"the body is not JSON {at}: {error.msg}") from None
    except RecursionError:
        raise malformed("JSON", "the JSON is nested too deeply: give fewer than 10 levels") from None
    except ValueError:
        raise malformed("JSON", "the JSON has a number with too many digits: give at most 19 (int64)") from None


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    made = _Object(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()  # counting each name would take the square of their number
        for name, _ in pairs:
            if name in seen:
                made.twice = name
                break
            seen.add(name)
    return made


class _Member(NamedTuple):
    """What a member of a message takes: values of one sort, or objects of another message; one or an array of them."""

    array: bool
    inner: Descriptor | None
    fits: Callable[[Any], bool]
    wanted: str
    plural: str


@cache
def _members(descriptor: Descriptor) -> dict[str, _Member]:
    """The members of a message by both their spellings."""
    found = {}
    for field in descriptor.fields:
        member = _Member(field.is_repeated, field.message_type, *_sort(field))
        found[field.json_name] = found[field.name] = member
    return found


def _sort(field: FieldDescriptor) -> tuple[Callable[[Any], bool], str, str]:
    """Whether a value fits, what is wanted, and what an array of it is made of."""
    if field.message_type is not None:
        return _never, "", f"objects ({field.message_type.full_name})"
    integer = _INTEGERS.get(field.type)
    if integer is not None:
        name, least, most = integer
        fits = partial(_is_integer, least=least, most=most)
        return fits, f"a whole number from {least} to {most} ({name})", f"whole numbers ({name})"
    if field.enum_type is not None:
        names = frozenset(field.enum_type.values_by_name)
        return (
            partial(_is_enum, names=names),
            f"one of {', '.join(field.enum_type.values_by_name)}, or its number",
            "names",
        )
    if field.type == FieldDescriptor.TYPE_BOOL:
        return lambda value: isinstance(value, bool), "true or false", "true or false"
    if field.type == FieldDescriptor.TYPE_STRING:
        return _is_text, "a string of whole Unicode characters", "strings"
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _is_base64, "a string in base64", "strings in base64"
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool), "a number", "numbers"


def _in_message(descriptor: Descriptor, value: Any, path: str) -> str:
    """The first mistake in a value that should be this message, or nothing; `path` ends with a dot, or is empty."""
    if not isinstance(value, _Object):
        at = path.removesuffix(".") or "the body"
        return f"{at} is {_shown(value, path)}: give an object ({descriptor.full_name})"
    if value.twice is not None:
        return f"{path}{_name(value.twice)} is given twice: give it once"
    members = _members(descriptor)
    for name, item in value.items():
        member = members.get(name)  # unknown members are ignored, as Connect servers do
        if member is None or item is None or (not member.array and member.fits(item)):
            continue
        mistake = _in_array(member, item, path + name) if member.array else _in_value(member, item, path + name)
        if mistake:
            return mistake
    return ""


def _in_array(member: _Member, value: Any, at: str) -> str:
    if not isinstance(value, list):
        return f"{at} is {_shown(value, at)}: give an array of {member.plural}"
    return next(
        (mistake for index, item in enumerate(value) if (mistake := _in_value(member, item, f"{at}[{index}]"))), ""
    )


def _in_value(member: _Member, value: Any, at: str) -> str:
    if member.inner is not None:
        return _in_message(member.inner, value, f"{at}.")
    return "" if member.fits(value) else f"{at} is {_shown(value, at)}: give {member.wanted}"


def _never(_value: Any) -> bool:
    return False


def _is_integer(value: Any, *, least: int, most: int) -> bool:
    number = _integer(value)
    return number is not None and least <= number <= most


def _is_enum(value: Any, *, names: frozenset[str]) -> bool:
    return (isinstance(value, str) and value in names) or _is_integer(value, least=-(2**31), most=2**31 - 1)


def _integer(value: Any) -> int | None:
    """The whole number that proto3 JSON reads here: a number without a fraction, or a string of digits."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str):
        return int(value) if _DIGITS.fullmatch(value) else None
    return value


def _is_base64(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        base64.urlsafe_b64decode(value.encode("ascii") + b"=" * (-len(value) % 4))
    except (ValueError, binascii.Error):
        return False
    return True


def _is_text(value: Any) -> bool:
    """A string that UTF-8 can carry: none with half of a surrogate pair."""
    if not isinstance(value, str):
        return False
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def _shown(value: Any, at: str) -> str:
    """A value as it was given, bounded and escaped."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"an array of {len(value)}"
    if value is None:
        return "null"
    if sounds_secret(at):
        return f"a {_word(value)} (not shown)"
    return shown(value) if isinstance(value, str) and value else ascii(json.dumps(value)[:40])[1:-1]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "number"


def _name(name: str) -> str:
    return name if name.isascii() and name.isidentifier() and len(name) <= 40 else shown(name)
