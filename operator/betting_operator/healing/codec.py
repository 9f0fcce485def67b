"""Values to JSON and back: frozen dataclasses, tuples, enums and plain values, by their type annotations.

A day's flight record is tens of megabytes, read while people wait: a type's decoder is made once, and where in the
value something is wrong is worked out only once it is.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Any

# Which of several dataclasses a value is, where the annotation names more than one.
_TAG = "is"

Decoder = Callable[[Any], Any]


class Unreadable(ValueError):
    """This is not the JSON of such a value; the message says where."""


class _Wrong(Exception):
    """what: is wrong; path: where, from the inside out."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.path = ""

    def within(self, part: str) -> _Wrong:
        self.path = part + self.path
        return self


def to_json(value: Any) -> Any:
    """JSON-ready: dicts with a tag, lists, strings, numbers, None."""
    names = _field_names(value.__class__)
    if names is not None:
        return {_TAG: type(value).__name__, **{name: to_json(getattr(value, name)) for name in names}}
    if isinstance(value, tuple):
        return [to_json(each) for each in value]
    return value.value if isinstance(value, enum.Enum) else value


@cache
def _field_names(kind: type) -> tuple[str, ...] | None:
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


def from_json(kind: Any, raw: Any, where: str = "value") -> Any:
    """The value of this type that `to_json` wrote. Raises Unreadable."""
    try:
        return _decoder(kind)(raw)
    except _Wrong as wrong:
        raise Unreadable(f"{where}{wrong.path}: {wrong.what}") from None


@cache
def _decoder(kind: Any) -> Decoder:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _one_of(typing.get_args(kind))
    if origin is tuple:
        kinds = typing.get_args(kind)
        return _sequence(kinds[0]) if len(kinds) == 2 and kinds[1] is Ellipsis else _tuple(kinds)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _enum(kind)
    return _plain(kind)


def _plain(kind: Any) -> Decoder:
    exact = type(None) if kind in (None, type(None)) else kind
    name = getattr(kind, "__name__", kind)

    def decode(raw: Any) -> Any:
        if type(raw) is exact:
            return raw
        if exact is float and type(raw) is int:
            return float(raw)
        raise _Wrong(f"{raw!r} is no {name}")

    return decode


def _enum(kind: type[enum.Enum]) -> Decoder:
    members = {member.value: member for member in kind}

    def decode(raw: Any) -> Any:
        try:
            return members[raw]
        except (KeyError, TypeError):
            raise _Wrong(f"{raw!r} is not a valid {kind.__name__}") from None

    return decode


def _one_of(kinds: tuple[Any, ...]) -> Decoder:
    real = [kind for kind in kinds if kind is not type(None)]
    optional = len(real) < len(kinds)
    decoders = {getattr(kind, "__name__", "?"): _decoder(kind) for kind in real}
    only = next(iter(decoders.values())) if len(real) == 1 else None

    def decode(raw: Any) -> Any:
        if raw is None and optional:
            return None
        if only is not None:
            return only(raw)
        name = raw.get(_TAG) if isinstance(raw, dict) else None
        if not isinstance(name, str) or name not in decoders:
            raise _Wrong(f"{name!r} is none of {', '.join(decoders)}")
        return decoders[name](raw)

    return decode


def _sequence(kind: Any) -> Decoder:
    one = _decoder(kind)

    def decode(raw: Any) -> Any:
        values: list[Any] = []
        try:
            for each in _list(raw):
                values.append(one(each))  # noqa: PERF401 (its length is the place of what is wrong)
        except _Wrong as wrong:
            raise wrong.within(f"[{len(values)}]" if isinstance(raw, list) else "") from None
        return tuple(values)

    return decode


def _tuple(kinds: tuple[Any, ...]) -> Decoder:
    decoders = [_decoder(kind) for kind in kinds]

    def decode(raw: Any) -> Any:
        if len(_list(raw)) != len(decoders):
            raise _Wrong(f"has {len(raw)} elements, not {len(decoders)}")
        values: list[Any] = []
        try:
            for one, each in zip(decoders, raw, strict=True):
                values.append(one(each))
        except _Wrong as wrong:
            raise wrong.within(f"[{len(values)}]") from None
        return tuple(values)

    return decode


def _list(raw: Any) -> list[Any]:
    if not isinstance(raw, list):
        raise _Wrong(f"{raw!r} is no list")
    return raw


def _dataclass(kind: Any) -> Decoder:
    hints = typing.get_type_hints(kind)
    decoders = {field.name: _decoder(hints[field.name]) for field in dataclasses.fields(kind)}
    keys = {_TAG, *decoders}

    def decode(raw: Any) -> Any:
        if not isinstance(raw, dict) or raw.get(_TAG) != kind.__name__:
            raise _Wrong(f"this is no {kind.__name__}")
        if raw.keys() != keys:
            unexpected = sorted(raw.keys() ^ keys)
            raise _Wrong(f"{', '.join(unexpected)} should not be there, or is missing")
        values = {}
        name = ""
        try:
            for name, one in decoders.items():
                values[name] = one(raw[name])
        except _Wrong as wrong:
            raise wrong.within(f".{name}") from None
        return kind(**values)

    return decode
