"""Snapshots: the same state comes back, in slices; anything else than a whole snapshot is BadSnapshot."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.canonical import BrokenInvariant, check_invariants
from reference.lockstep import encode, everything, load, replay

from betting.engine import snapshots
from betting.engine.snapshots import BadSnapshot
from betting.engine.state import Account, ShardState

HOME_WINS = {1: 5, 2: 1, 3: 1}


@pytest.fixture(scope="module")
def rich(world_type: Any) -> Any:
    """A shop in the middle of everything: a first settlement, a correction, a reopened bet, an old key, a refusal."""
    world = world_type()
    for user in range(3):
        world.deposit(5_000, user=user)
    for number in range(9):
        world.place([(101, 1), (201, 1 + number % 2)], 20 + number, user=number % 3)
    world.place([(102, 1)], 1)
    world.deposit(7, key=world.key(60 * 60_000))
    world.settle(101, {1: 1, 2: 1, 3: 1})
    world.result(101, HOME_WINS)
    world.chunk(101, 1, 4)
    world.place([(301, 1)])
    world.place([(301, 2)])
    world.result(301, HOME_WINS)
    world.chunk(301, 1, 1)
    return world


@pytest.fixture(scope="module")
def whole(rich: Any) -> bytes:
    """Its snapshot."""
    return encode(rich.twins.state)


def test_the_same_state_comes_back(rich: Any, whole: bytes) -> None:
    """Everything, also orders and cursors; and the loaded state writes the same snapshot."""
    state = rich.twins.state
    assert len(state.settling) == 2
    assert state.reopened
    loaded = load(whole)
    assert everything(loaded) == everything(state)
    assert encode(loaded) == whole


def test_snapshot_at_any_point_and_tail(rich: Any) -> None:
    """Wherever the snapshot was taken, the tail leads to the same state as a full replay."""
    entries = rich.twins.entries
    full = everything(replay(ShardState(7), entries))
    for point in range(len(entries) + 1):
        loaded = load(encode(replay(ShardState(7), entries[:point])))
        assert everything(replay(loaded, entries[point:])) == full


def test_capture_does_not_see_what_comes_later(world: Any) -> None:
    """A capture is written while the shard goes on taking bets and settling."""
    world.place([(101, 1), (201, 1)])
    world.result(101, HOME_WINS)
    taken = snapshots.capture(world.twins.state)
    before = encode(world.twins.state)
    world.chunk(101, 1, 1)
    world.place([(201, 1)])
    world.settle(201, HOME_WINS)
    assert b"".join(snapshots.encode(taken)) == before


def test_loading_yields_between_slices(world_type: Any) -> None:
    """2,500 request keys are loaded in three steps of at most 1,000."""
    state = ShardState(1)
    state.recent = {minute: {minute.to_bytes(16): b"\x0bx"} for minute in range(2_500)}
    assert sum(1 for _ in snapshots.load(encode(state))) == 3


def test_every_truncation_is_bad(whole: bytes) -> None:
    """Cut off anywhere, or with a byte too many."""
    for length in range(len(whole)):
        with pytest.raises(BadSnapshot):
            load(whole[:length])
    with pytest.raises(BadSnapshot):
        load(whole + b"\0")


def test_flipped_bytes_never_raise_anything_else(whole: bytes) -> None:
    """A flipped byte is BadSnapshot or, inside a value, loads (the store's SHA-256 catches those): never a crash."""
    chance = random.Random(1)
    bad = 0
    for place in range(len(whole)):
        garbled = bytearray(whole)
        garbled[place] ^= chance.randint(1, 255)
        try:
            load(bytes(garbled))
        except BadSnapshot:
            bad += 1
    assert bad > 20


@given(st.binary(max_size=400))
def test_random_bytes_are_bad(data: bytes) -> None:
    """Bytes that never were a snapshot."""
    with pytest.raises(BadSnapshot):
        load(data)


def check_slots(state: ShardState) -> None:
    """A state that did load is a whole one."""
    assert all(hasattr(state, slot) for slot in ShardState.__slots__)


@given(data=st.data())
def test_random_tails_are_bad_or_load(whole: bytes, data: st.DataObject) -> None:
    """A true beginning with anything after it."""
    start = data.draw(st.integers(0, len(whole)))
    with suppress(BadSnapshot):
        check_slots(load(whole[:start] + data.draw(st.binary(max_size=200))))


def test_other_formats_are_bad(whole: bytes) -> None:
    """A snapshot of a format to come is turned down by name."""
    with pytest.raises(BadSnapshot, match="format 2"):
        load(whole[:4] + b"\0\2" + whole[6:])


@pytest.mark.parametrize(
    ("slot", "says"), [("house_minor", "sum of all accounts"), ("clearing_minor", "sum of all accounts")]
)
def test_money_that_does_not_balance_is_found(whole: bytes, slot: str, says: str) -> None:
    """The audit after recovery sees a single unit too many."""
    state = load(whole)
    check_invariants(state)
    setattr(state, slot, getattr(state, slot) + 1)
    with pytest.raises(BrokenInvariant, match=says):
        check_invariants(state)


def test_invariants_see_each_kind_of_damage(whole: bytes) -> None:
    """Cash below zero, stakes without a bet, a debt that is none, a bet nobody lists, an account nobody finds."""
    damages: dict[str, Callable[[Account], Account]] = {
        "has cash": lambda a: a._replace(cash_minor=-1, receivable_minor=a.receivable_minor + a.cash_minor + 1),
        "has open stakes": lambda a: a._replace(open_stakes_minor=a.open_stakes_minor + 1),
        "has receivable": lambda a: a._replace(receivable_minor=1),
        "bets are listed": lambda a: a._replace(open_bets=a.open_bets[1:]),
        "not open": lambda a: a._replace(open_bets=(*a.open_bets, b"?" * 16)),
        "is not found": lambda a: a._replace(currency=b"XXX"),
    }
    for says, damage in damages.items():
        state = load(whole)
        account = next(a for a in state.accounts if state.accounts[a].open_bets)
        state.accounts[account] = damage(state.accounts[account])
        with pytest.raises(BrokenInvariant, match=says):
            check_invariants(state)


def test_invariants_see_damaged_indexes(whole: bytes) -> None:
    """An index entry too many or too few, a reopened or awaited bet that is not open, a result that vanished."""
    damages: dict[str, Callable[[ShardState], object]] = {
        "index by market": lambda state: state.by_market[201].popitem(),
        "not that of": lambda state: state.by_market.setdefault(999, {b"?" * 16: None}),
        "reopened bet": lambda state: state.reopened.setdefault(b"?" * 16, 1),
        "waits for a bet": lambda state: state.settling[301].unvisited.setdefault(b"?" * 16),
        "not in force": lambda state: state.results.pop(301),
    }
    for says, damage in damages.items():
        state = load(whole)
        damage(state)
        with pytest.raises(BrokenInvariant, match=says):
            check_invariants(state)


def test_a_debtor_with_cash_is_found(whole: bytes) -> None:
    """Debts are repaid before anything becomes cash."""
    state = load(whole)
    account, a = next(iter(state.accounts.items()))
    state.accounts[account] = a._replace(cash_minor=a.cash_minor + 5, receivable_minor=a.receivable_minor - 5)
    with pytest.raises(BrokenInvariant, match="owes money and has cash"):
        check_invariants(state)


def test_loaded_accounts_share_their_bets_ids(whole: bytes) -> None:
    """After a takeover a bet's id is in memory once, as it was before."""
    state = load(whole)
    ids = {bet: bet for bet in state.open_bets}
    assert all(ids[bet] is bet for a in state.accounts.values() for bet in a.open_bets)
