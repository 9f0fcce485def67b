"""Keyset paging: a page token carries the last row's key, so pages neither skip nor repeat when rows are added."""

from __future__ import annotations

import base64
import json
from typing import Any

from betting.runtime import errors

DEFAULT_PAGE_SIZE = 100
MAXIMUM_PAGE_SIZE = 500
TOKEN_LENGTH_MAX = 512

_INT64_MAX = 2**63 - 1


def page_size(requested: int, default: int = DEFAULT_PAGE_SIZE, maximum: int = MAXIMUM_PAGE_SIZE) -> int:
    """The rows to return; 0 means `default`. Raises INVALID_ARGUMENT PAGE_SIZE_OUT_OF_RANGE outside 1..maximum."""
    if requested == 0:
        return default
    if not 0 < requested <= maximum:
        raise errors.invalid_argument(
            "PAGE_SIZE_OUT_OF_RANGE", f"page_size is {requested}: give 1 to {maximum}, or 0 for {default}"
        )
    return requested


def encode_token(*key: int | str) -> str:
    """The opaque token for the page after the row with this key."""
    text = json.dumps(key, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def decode_token(token: str, *types: type[int] | type[str]) -> tuple[Any, ...] | None:
    """The key inside a token, one value per type given; None for the empty token of a first page.

    Raises INVALID_ARGUMENT PAGE_TOKEN_INVALID for a token that we did not make or that belongs to another call.
    """
    if not token:
        return None
    key = _parsed(token)
    if not isinstance(key, list) or len(key) != len(types):
        raise invalid_token(token)
    if not all(_is(value, kind) for value, kind in zip(key, types, strict=True)):
        raise invalid_token(token)
    return tuple(key)


def _parsed(token: str) -> object:
    if len(token) > TOKEN_LENGTH_MAX:
        raise invalid_token(token)
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        return json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):  # binascii.Error, UnicodeError and JSONDecodeError are ValueErrors
        raise invalid_token(token) from None


def _is(value: object, kind: type) -> bool:
    """Exactly that type (True is no int here), and an int that Postgres can take as int8."""
    if type(value) is not kind:
        return False
    return not isinstance(value, int) or -_INT64_MAX - 1 <= value <= _INT64_MAX


def invalid_token(token: str) -> errors.ServiceError:
    """INVALID_ARGUMENT PAGE_TOKEN_INVALID for a token that does not say what this call's tokens say."""
    return errors.invalid_argument(
        "PAGE_TOKEN_INVALID",
        f"page_token is {errors.shown(token)}, which this call did not return: start again without it",
    )
