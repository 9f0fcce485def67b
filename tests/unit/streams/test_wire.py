"""The form of a stream's records."""

from __future__ import annotations

import pytest
from any_entries import entries
from hypothesis import given
from hypothesis import strategies as st

from betting.engine.entries import Entry
from betting.streams import wire

ENTRIES = entries(sequence=st.integers(1, 2**63 - 1))


@given(st.lists(ENTRIES, max_size=5))
def test_what_is_packed_is_unpacked(batch: list[Entry]) -> None:
    """Every field of every entry survives the stream."""
    packed = wire.pack(batch)
    assert [entry for data in packed[1::2] for entry in wire.unpack(data)] == batch


def test_a_record_is_named_after_its_last_entry_and_bounded() -> None:
    """Two hundred and one entries are three records."""
    batch = [Entry(n, 2, 1, 1, None, None, None, None, 0, 0, 0, 0, 0, b"body") for n in range(1, 202)]
    packed = wire.pack(batch)
    assert packed[::2] == [b"100", b"200", b"201"]
    assert wire.unpack(packed[5]) == batch[200:]


@pytest.mark.parametrize("data", [b"", b"x" * 20, b"x" * 200])
def test_bytes_that_are_no_record(data: bytes) -> None:
    """Garbage is named as such."""
    with pytest.raises(wire.BadRecord):
        wire.unpack(data)


@given(st.lists(ENTRIES, min_size=1, max_size=3), st.data())
def test_a_record_that_was_cut_off(batch: list[Entry], data: st.DataObject) -> None:
    """Never half of an entry."""
    whole = wire.pack(batch)[1]
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        found = wire.unpack(cut)
    except wire.BadRecord:
        return
    assert found == batch[: len(found)]
    assert len(found) < len(batch)


def test_names_of_streams() -> None:
    """One stream per shard, and back."""
    assert wire.stream_of(37) == "betting:shard:37"
    assert wire.shard_of_stream(b"betting:shard:37") == 37
