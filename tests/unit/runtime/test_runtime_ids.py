"""Identifiers: UUIDv7 by the letter of RFC 9562, in the order they were made."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from betting.engine.ids import is_uuid7, key_time_ms
from betting.runtime import ids

_TIMES_NS = st.integers(0, (2**48 - 1) * 1_000_000)


@given(time_ns=_TIMES_NS, noise=st.binary(min_size=8, max_size=8))
def test_version_variant_and_time_are_where_the_rfc_wants_them(time_ns: int, noise: bytes) -> None:
    """The engine reads the same milliseconds out that were put in."""
    made = ids.uuid7_from(time_ns, noise)
    assert is_uuid7(made)
    assert key_time_ms(made) == time_ns // 1_000_000
    assert uuid.UUID(bytes=made).variant == uuid.RFC_4122


@given(earlier_ns=_TIMES_NS, gap_ns=st.integers(250, 10**9), noise=st.binary(min_size=16, max_size=16))
def test_later_ids_are_greater(earlier_ns: int, gap_ns: int, noise: bytes) -> None:
    """A quarter of a microsecond is enough for the order to show, whatever the random bits."""
    first = ids.uuid7_from(earlier_ns, noise[:8])
    second = ids.uuid7_from(min(earlier_ns + gap_ns, (2**48 - 1) * 1_000_000), noise[8:])
    assert first[:8] <= second[:8]


def test_new_ids_differ() -> None:
    """A thousand in a row, all different, all version 7; boot ids differ too."""
    made = {ids.new_uuid7() for _ in range(1000)}
    assert len(made) == 1000
    assert {one.version for one in made} == {7}
    assert ids.new_boot_id() != ids.new_boot_id()
