"""Who gets a place, what counts as one address, and what a client that speaks HTTP/2 is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from betting.gateway.http2 import MAX_ANSWERS, MAX_BYTES, PREFACE, Http2Refusal
from betting.gateway.limits import BodyRoom, ConcurrencyLimit
from betting.gateway.protocols.encoding import JSON_VALUES_MAX, TEXT_SEGMENTS_MAX, decode_text, from_json
from betting.gateway.protocols.failures import Code, Failure
from betting.v1 import bet_pb2

ADDRESS, USER = "192.0.2.1", bytes(16)


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([ADDRESS, "192.0.2.2", USER, b"u" * 16])), max_size=60),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_places_agree_with_a_plain_model(
    steps: list[tuple[bool, str | bytes]], total: int, of_address: int, of_user: int
) -> None:
    """Nobody has more than their share, all together not more than there are, and what is given back is free again."""
    places = ConcurrencyLimit("things", total, of_address=of_address, of_user=of_user)
    held: list[str | bytes] = []
    for is_take, holder in steps:
        if not is_take:
            if holder in held:
                held.remove(holder)
                places.give_back(holder)
            continue
        has_share = held.count(holder) < (of_user if isinstance(holder, bytes) else of_address)
        try:
            places.take(holder)
            refused = None
            held.append(holder)
        except Failure as failure:
            refused = failure
        if refused is None:
            assert has_share
        else:
            assert not has_share or len(held) == total
            assert refused.code is (Code.UNAVAILABLE if has_share else Code.RESOURCE_EXHAUSTED)
            assert dict(refused.headers)["Retry-After"]
        assert len(places) == len(held) <= total


def test_room_for_bodies_is_shared_out_by_bytes() -> None:
    """Nobody has more than their share of them, nor all together more than there are; a body's end gives its back."""
    limit = ConcurrencyLimit("bytes", 100, of_address=60, of_user=80)
    with BodyRoom(limit, ADDRESS) as first, BodyRoom(limit, USER) as second:
        first.take(50)
        first.take(10)
        with pytest.raises(Failure) as own:
            first.take(1)
        second.take(40)
        with pytest.raises(Failure) as of_all:
            second.take(1)
        assert (len(limit), limit.held(ADDRESS), limit.held(USER)) == (100, 60, 40)
    assert (own.value.code, of_all.value.code) == (Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE)
    assert (len(limit), limit.held(ADDRESS)) == (0, 0)


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=20))
def test_http2_is_answered_alike_however_it_arrives(data: bytes, cuts: list[int]) -> None:
    """Whatever follows the preface, in one piece or many, gives the same frames, and no error."""
    whole, pieces = Http2Refusal(), Http2Refusal()
    data = PREFACE + data
    answer, at = b"", 0
    for cut in [*cuts, len(data)]:
        answer += pieces.answer(data[at : at + cut])
        at += cut
    assert whole.answer(data) == answer
    assert whole.is_over == pieces.is_over


def test_http2_ends_for_who_goes_on() -> None:
    """After so many calls, or so many bytes."""
    calls = Http2Refusal()
    headers = b"".join(b"\0\0\0\x01\x05" + (2 * n + 1).to_bytes(4, "big") for n in range(2 * MAX_ANSWERS))
    assert calls.answer(PREFACE + headers).count(b"grpc-message") == MAX_ANSWERS
    assert calls.is_over
    padding = Http2Refusal()
    padding.answer(PREFACE + b"\0\0\0\x09\0\0\0\0\x01" * (MAX_BYTES // 9 + 1))
    assert padding.is_over


def test_json_is_counted_before_it_is_read() -> None:
    """The largest batch of bets is read, more values are not."""
    leg = b'{"marketId":"1","selectionId":1,"price":{"numerator":1,"denominator":2}}'
    bet = b'{"requestKey":"k","currency":"GBP","stakeMinor":"1","priceChangePolicy":1,"legs":[%b]}'
    largest = b'{"bets":[%b]}' % b",".join([bet % b",".join([leg] * 20)] * 500)
    read = from_json(bet_pb2.PlaceBetsRequest, largest)
    assert isinstance(read, bet_pb2.PlaceBetsRequest)
    assert len(read.bets) == 500
    with pytest.raises(Failure, match=str(JSON_VALUES_MAX)):
        from_json(bet_pb2.PlaceBetsRequest, b'{"bets":[' + b"{}," * JSON_VALUES_MAX + b"{}]}")


def test_segments_of_text_are_counted_before_they_are_read() -> None:
    """A few are joined, thousands are not."""
    assert decode_text(b"AAA=" * TEXT_SEGMENTS_MAX) == bytes(2 * TEXT_SEGMENTS_MAX)
    with pytest.raises(Failure, match=str(TEXT_SEGMENTS_MAX)):
        decode_text(b"AAA=" * 10_000)
