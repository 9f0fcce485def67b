"""The bounds of the daily partitions."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta

from betting.journal import partitions, schema, snapshots
from betting.runtime.ids import uuid7_from


def test_a_days_keys_lie_between_its_floor_and_the_next() -> None:
    """The first and last possible key of a day are inside, those a millisecond off are outside."""
    day = date(2026, 3, 15)
    low, high = (uuid.UUID(partitions.key_floor(d)).bytes for d in (day, day + timedelta(days=1)))
    start_ns = int(datetime(2026, 3, 15, tzinfo=UTC).timestamp()) * 10**9
    end_ns = start_ns + 24 * 3600 * 10**9
    assert low <= uuid7_from(start_ns, bytes(8)) < high
    assert low <= uuid7_from(end_ns - 1, b"\xff" * 8) < high
    assert uuid7_from(start_ns - 10**6, b"\xff" * 8) < low
    assert uuid7_from(end_ns, bytes(8)) >= high


def test_partition_names_sort_like_days() -> None:
    """Old partitions are found by name."""
    days = [date(2025, 12, 31) + timedelta(days=n) for n in range(40)]
    names = [partitions.partition_name(day) for day in days]
    assert names == sorted(names)
    assert names[1] == "requests_20260101"


def test_migrations_are_numbered() -> None:
    """Each file starts with a number of its own, so that two people cannot take the same."""
    numbers = [name.partition(".")[0] for name in schema.migration_ids()]
    assert all(len(number) == 4 and number.isdigit() for number in numbers)
    assert len(set(numbers)) == len(numbers)


def test_parts_join_to_the_same_bytes() -> None:
    """Whatever the chunks, parts are full but for the last, and nothing is lost."""
    body = bytes(range(256)) * 9_000
    for size in (1, 1_000, snapshots.PART_BYTES, len(body)):
        chunks = [body[at : at + size] for at in range(0, len(body), size)] if size > 1 else [body[:1], body[1:]]
        parts = list(snapshots.parts_of(chunks))
        assert b"".join(parts) == body
        assert all(len(part) == snapshots.PART_BYTES for part in parts[:-1])
    assert list(snapshots.parts_of([])) == []
