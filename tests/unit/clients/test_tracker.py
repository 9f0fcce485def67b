"""Gap detection on price streams."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from betting.clients.odds_tracker import Alive, Changed, GapError, Partial, StreamTracker, Whole
from betting.v1.odds_pb2 import MarketPrices, WatchPricesResponse


def snapshot(sequence: int, *ids: int, last: bool = True, epoch: str = "e") -> WatchPricesResponse:
    response = WatchPricesResponse(sequence=sequence, epoch=epoch)
    response.snapshot.prices.extend(MarketPrices(market_id=id_) for id_ in ids)
    response.snapshot.last = last
    return response


def delta(sequence: int, *ids: int, epoch: str = "e") -> WatchPricesResponse:
    response = WatchPricesResponse(sequence=sequence, epoch=epoch)
    response.delta.prices.extend(MarketPrices(market_id=id_) for id_ in ids)
    return response


def beat(sequence: int, at_us: int = 9) -> WatchPricesResponse:
    response = WatchPricesResponse(sequence=sequence, epoch="e")
    response.beat.at_us = at_us
    return response


def test_a_whole_stream_is_understood() -> None:
    """Two parts of a snapshot, a delta, a beat that repeats its sequence, the next delta."""
    tracker = StreamTracker()
    assert tracker.take(snapshot(5, 1, last=False)) == Partial()
    whole = tracker.take(snapshot(5, 2))
    assert isinstance(whole, Whole)
    assert [quote.market_id for quote in whole.prices] == [1, 2]
    assert isinstance(tracker.take(delta(6, 3)), Changed)
    assert tracker.take(beat(6)) == Alive(9)
    changed = tracker.take(delta(7, 4))
    assert isinstance(changed, Changed)
    assert [quote.market_id for quote in changed.prices] == [4]


@pytest.mark.parametrize(
    "messages",
    [
        [delta(1)],
        [beat(0)],
        [snapshot(5, last=False), delta(6)],
        [snapshot(5, last=False), snapshot(6)],
        [snapshot(5), delta(7)],
        [snapshot(5), delta(5)],
        [snapshot(5), beat(6)],
        [snapshot(5), delta(6), beat(5)],
        [snapshot(5), delta(6, epoch="other")],
        [snapshot(5), snapshot(5)],
        [snapshot(5), WatchPricesResponse(sequence=6, epoch="e")],
        [WatchPricesResponse()],
    ],
)
def test_what_cannot_be_right_is_a_gap(messages: list[WatchPricesResponse]) -> None:
    """All but the last message pass, the last one is a gap."""
    tracker = StreamTracker()
    for message in messages[:-1]:
        tracker.take(message)
    with pytest.raises(GapError):
        tracker.take(messages[-1])


@given(st.integers(0, 20), st.integers(0, 18))
def test_no_lost_delta_goes_unnoticed(count: int, lost: int) -> None:
    """Leave out any one delta of a stream: the next message of any kind is a gap."""
    tracker = StreamTracker()
    tracker.take(snapshot(0))
    for sequence in range(1, count + 1):
        if sequence == lost + 1:
            with pytest.raises(GapError):
                tracker.take(beat(sequence) if lost % 2 else delta(sequence + 1))
            return
        tracker.take(delta(sequence))
