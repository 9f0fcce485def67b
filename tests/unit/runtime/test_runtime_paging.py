"""Paging: sizes are bounded, tokens come back as they went, and forged ones are the caller's error."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from betting.runtime import paging
from betting.runtime.errors import ServiceError

_INT64 = st.integers(-(2**63), 2**63 - 1)


def _refusal(token: str, *types: type[int] | type[str]) -> str:
    with pytest.raises(ServiceError) as caught:
        paging.decode_token(token, *types)
    assert caught.value.code.name == "INVALID_ARGUMENT"
    return caught.value.reason


def _token_of(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(("requested", "expected"), [(0, 100), (1, 1), (500, 500)])
def test_page_sizes_within_bounds(requested: int, expected: int) -> None:
    """Zero is the default, the rest is taken as asked."""
    assert paging.page_size(requested) == expected


@pytest.mark.parametrize("requested", [-1, 501, 2**31 - 1, -(2**31)])
def test_page_sizes_out_of_bounds(requested: int) -> None:
    """Refused rather than silently cut: the caller may rely on getting what it asked for."""
    with pytest.raises(ServiceError) as caught:
        paging.page_size(requested)
    assert caught.value.reason == "PAGE_SIZE_OUT_OF_RANGE"


@given(st.lists(st.one_of(_INT64, st.text(max_size=20)), min_size=1, max_size=4))
def test_tokens_come_back_as_they_went(key: list[int | str]) -> None:
    """Any key of numbers and texts survives."""
    token = paging.encode_token(*key)
    if len(token) <= paging.TOKEN_LENGTH_MAX:
        assert paging.decode_token(token, *(type(value) for value in key)) == tuple(key)


def test_no_token_is_the_first_page() -> None:
    """The empty token means there is no row before."""
    assert paging.decode_token("", int) is None


@given(st.text(min_size=1, max_size=600))
def test_any_text_is_a_key_or_an_invalid_argument(text: str) -> None:
    """Whatever a caller sends, it is answered."""
    key = None
    with contextlib.suppress(ServiceError):
        key = paging.decode_token(text, int)
    assert key is None or type(key[0]) is int


@pytest.mark.parametrize(
    "token",
    [
        _token_of("[true]"),
        _token_of('["1"]'),
        _token_of("[1,2]"),
        _token_of("[]"),
        _token_of("{}"),
        _token_of("1"),
        _token_of("[9223372036854775808]"),
        _token_of("[1e3]"),
        _token_of("[" * 200),
        _token_of("[NaN]"),
        "é",
        "A",
        "A" * 100_000,
    ],
)
def test_forged_tokens_are_refused(token: str) -> None:
    """Other types, other lengths, numbers beyond int8, deep nesting: the database never sees them."""
    assert _refusal(token, int) == "PAGE_TOKEN_INVALID"
