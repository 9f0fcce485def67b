"""Garbled entries: CannotApply or, where nothing contradicts them, applied; never any other exception."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.lockstep import replay

from betting.engine.apply import CannotApply, apply
from betting.engine.entries import Entry, Kind
from betting.engine.state import ShardState

OUTCOMES = ({1: 5, 2: 1, 3: 1}, {1: 1, 2: 5, 3: 1})
NUMBERS = ("at_us", "market", "cash_minor", "stakes_minor", "house_minor", "clearing_minor", "receivable_minor")
STRANGE: list[dict[str, Any]] = [{"kind": 99}, {"format": 2}, {"format": 0}, {"kind": None}, {"kind": []}]
BYTES = ("account", "bet", "request_key", "body")


@pytest.fixture(scope="module")
def journal(world_type: Any) -> list[Entry]:
    """At least one entry of every kind."""
    world = world_type()
    world.deposit(5_000)
    world.withdraw(10)
    world.withdraw(100_000)
    world.place([(101, 1), (201, 1)], 1)
    for selection in (1, 2):
        world.place([(101, selection), (201, 1)])
        world.place([(101, selection)])
    for outcomes in OUTCOMES:
        world.settle(101, outcomes, limit=2)
    world.settle(201, OUTCOMES[0])
    entries: list[Entry] = world.twins.entries
    assert {entry.kind for entry in entries} == set(Kind)
    return entries


def before(journal: list[Entry], index: int) -> ShardState:
    """The state that entry `index` is applied to."""
    return replay(ShardState(7), journal[:index])


def without(entry: Entry, field: str) -> Entry:
    """The entry with one field absent."""
    absent: dict[str, Any] = {field: None}
    return entry._replace(**absent)


def tried(state: ShardState, entry: Any) -> bool:
    """Whether it was applied. Anything but CannotApply is an error of the test's subject."""
    head = state.head
    try:
        apply(state, entry)
    except CannotApply:
        return False
    finally:
        assert state.head - head in (0, 1)
    return True


def of_each_kind(journal: list[Entry]) -> list[int]:
    """The last entry of every kind."""
    return sorted({entry.kind: index for index, entry in enumerate(journal)}.values())


def test_truncated_and_padded_bodies(journal: list[Entry]) -> None:
    """A body of another length is never applied, for any kind, cut anywhere."""
    for index in of_each_kind(journal):
        entry = journal[index]
        for length in range(len(entry.body)):
            assert not tried(before(journal, index), entry._replace(body=entry.body[:length])), (entry.kind, length)
        assert not tried(before(journal, index), entry._replace(body=entry.body + b"\0")), entry.kind


@pytest.mark.parametrize("field", BYTES + NUMBERS)
@pytest.mark.parametrize("value", [None, "text", b"", b"short", -1, 2**70, 1.5, [], {}])
def test_any_value_in_any_field(journal: list[Entry], field: str, value: Any) -> None:
    """Values of another type, or absent: an entry that is not whole is refused or means the same."""
    for index in of_each_kind(journal):
        tried(before(journal, index), journal[index]._replace(**{field: value}))


def test_what_is_missing_is_missed(journal: list[Entry]) -> None:
    """Each entry needs what it is about: without its account, bet, market or key it is not applied."""
    for index in of_each_kind(journal):
        entry = journal[index]
        for field in ("account", "bet", "market", "request_key"):
            there = getattr(entry, field) is not None
            # A refusal touches no account: its own is in the body, for the read model.
            if there and not (entry.kind == Kind.REFUSED and field == "account"):
                assert not tried(before(journal, index), without(entry, field)), (entry.kind, field)


def test_unknown_kinds_and_formats(journal: list[Entry]) -> None:
    """A kind or format that this code does not know freezes the shard."""
    for index in of_each_kind(journal):
        for strange in STRANGE:
            assert not tried(before(journal, index), journal[index]._replace(**strange))


@pytest.mark.parametrize("step", [-1, 1, 100])
def test_out_of_order(journal: list[Entry], step: int) -> None:
    """A gap or a repeated entry is never applied."""
    for index in of_each_kind(journal):
        entry = journal[index]
        assert not tried(before(journal, index), entry._replace(sequence=entry.sequence + step))


@pytest.mark.parametrize("field", NUMBERS[2:])
@pytest.mark.parametrize("by", [1, -1])
def test_an_entry_that_does_not_balance(journal: list[Entry], field: str, by: int) -> None:
    """One unit more or less in one column."""
    for index in of_each_kind(journal):
        entry = journal[index]
        garbled = entry._replace(**{field: getattr(entry, field) + by})
        assert not tried(before(journal, index), garbled)


def test_entries_in_another_order(journal: list[Entry]) -> None:
    """Every entry applied to every other state: what contradicts the state is refused by name."""
    for point in range(0, len(journal), 3):
        for entry in journal:
            tried(before(journal, point), entry._replace(sequence=point + 1))


@pytest.mark.parametrize("kind", list(Kind))
def test_flipped_bytes(journal: list[Entry], kind: Kind) -> None:
    """Each byte of a body flipped: refused, or a value that nothing contradicts."""
    index = max(i for i, entry in enumerate(journal) if entry.kind == kind)
    chance = random.Random(int(kind))
    entry = journal[index]
    for place in range(len(entry.body)):
        body = bytearray(entry.body)
        body[place] ^= chance.randint(1, 255)
        tried(before(journal, index), entry._replace(body=bytes(body)))


@given(data=st.data())
def test_random_bodies(journal: list[Entry], data: st.DataObject) -> None:
    """A body of anything."""
    index = data.draw(st.sampled_from(of_each_kind(journal)))
    tried(before(journal, index), journal[index]._replace(body=data.draw(st.binary(max_size=200))))
