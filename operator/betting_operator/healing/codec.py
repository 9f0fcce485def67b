"""Values to JSON and back: frozen dataclasses, tuples, enums and plain values, by their type annotations."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from typing import Any

# Which of several dataclasses a value is, where the annotation names more than one.
_TAG = "is"


class Unreadable(ValueError):
    """This is not the JSON of such a value; the message says where."""


def to_json(value: Any) -> Any:
    """JSON-ready: dicts with a tag, lists, strings, numbers, None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {_TAG: type(value).__name__, **fields}
    if isinstance(value, tuple):
        return [to_json(each) for each in value]
    return value.value if isinstance(value, enum.Enum) else value


def from_json(kind: Any, raw: Any, where: str = "value") -> Any:
    """The value of this type that `to_json` wrote. Raises Unreadable."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _one_of(typing.get_args(kind), raw, where)
    if origin is tuple:
        return _tuple(typing.get_args(kind), raw, where)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, raw, where)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        try:
            return kind(raw)
        except ValueError as error:
            raise Unreadable(f"{where}: {error}") from None
    if kind is float and type(raw) is int:
        return float(raw)
    if type(raw) is not (type(None) if kind in (None, type(None)) else kind):
        raise Unreadable(f"{where}: {raw!r} is no {getattr(kind, '__name__', kind)}")
    return raw


def _one_of(kinds: tuple[Any, ...], raw: Any, where: str) -> Any:
    if raw is None and type(None) in kinds:
        return None
    real = [kind for kind in kinds if kind is not type(None)]
    if len(real) == 1:
        return from_json(real[0], raw, where)
    name = raw.get(_TAG) if isinstance(raw, dict) else None
    for kind in real:
        if getattr(kind, "__name__", "") == name:
            return from_json(kind, raw, where)
    raise Unreadable(f"{where}: {name!r} is none of {', '.join(getattr(kind, '__name__', '?') for kind in real)}")


def _tuple(kinds: tuple[Any, ...], raw: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(raw, list):
        raise Unreadable(f"{where}: {raw!r} is no list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(from_json(kinds[0], each, f"{where}[{index}]") for index, each in enumerate(raw))
    if len(raw) != len(kinds):
        raise Unreadable(f"{where}: has {len(raw)} elements, not {len(kinds)}")
    pairs = enumerate(zip(kinds, raw, strict=True))
    return tuple(from_json(kind, each, f"{where}[{index}]") for index, (kind, each) in pairs)


def _dataclass(kind: Any, raw: Any, where: str) -> Any:
    if not isinstance(raw, dict) or raw.get(_TAG) != kind.__name__:
        raise Unreadable(f"{where}: this is no {kind.__name__}")
    hints = typing.get_type_hints(kind)
    names = {field.name for field in dataclasses.fields(kind)}
    if raw.keys() - {_TAG} != names:
        unexpected = sorted((raw.keys() - {_TAG}) ^ names)
        raise Unreadable(f"{where}: {', '.join(unexpected)} should not be there, or is missing")
    return kind(**{name: from_json(hints[name], raw[name], f"{where}.{name}") for name in names})
