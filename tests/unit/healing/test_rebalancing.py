"""Planned moves: as few as balance or an empty bet-service needs, one at a time for each receiver, none by themselves
where policy or people say so."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from healing_scenes import Scenario, calm, ended, life, silent_to_platform
from hypothesis import given
from hypothesis import strategies as st

from betting.life import Life
from betting.placement import Candidate
from betting_operator.healing import flight, rebalancing
from betting_operator.healing.actions import MarkDead, Place
from betting_operator.healing.diagnoses import Kind
from betting_operator.healing.policy import Policy, Rebalancing
from betting_operator.healing.signals import Move, Observation, Owner, Rebalance, Shard

ONE, TWO, THREE = (life(f"bet-service-{n}") for n in (1, 2, 3))
LONG_AGO_S = 86_400.0
APPROVE = Policy(rebalancing=Rebalancing.APPROVE)

names = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True)


def candidates(who: list[str]) -> list[Candidate]:
    return [Candidate(name, 0, LONG_AGO_S) for name in who]


def after(owners: dict[int, str], moves: tuple[Move, ...]) -> dict[int, str]:
    """Who has which shard once all moves are made."""
    assert all(owners[move.shard] == move.origin != move.to for move in moves)
    return owners | {move.shard: move.to for move in moves}


@st.composite
def directories(draw: st.DrawFn) -> tuple[list[str], dict[int, str]]:
    """Who can own shards, and who of them owns which."""
    who = draw(names)
    count = draw(st.integers(1, 40))
    return who, {shard: draw(st.sampled_from(who)) for shard in range(count)}


@given(directories())
def test_balance_takes_exactly_the_moves_that_somebody_is_over_the_fair_share_by(
    directory: tuple[list[str], dict[int, str]],
) -> None:
    """No fewer are possible: `most` shards each is all that the others may keep, and only so many of them that much."""
    who, owners = directory
    moves = rebalancing.needed(len(owners), candidates(who), owners)
    load = Counter(after(owners, moves).values())
    least, extra = divmod(len(owners), len(who))
    assert {load[name] for name in who} <= {least, least + 1}
    held = sorted((Counter(owners.values())[name] for name in who), reverse=True)
    shares = [least + 1] * extra + [least] * (len(who) - extra)
    assert len(moves) == sum(max(0, has - share) for has, share in zip(held, shares, strict=True))


@given(directories(), st.data())
def test_emptying_moves_what_is_to_be_emptied_and_nothing_else(
    directory: tuple[list[str], dict[int, str]], data: st.DataObject
) -> None:
    """Nobody is given more than the fair share of those that are left."""
    who, owners = directory
    emptied = data.draw(st.lists(st.sampled_from(who), unique=True, max_size=len(who)))
    moves = rebalancing.needed(len(owners), candidates(who), owners, emptied, emptied)
    left = len(who) - len(emptied)
    if not left:
        assert moves == ()
        return
    assert {move.shard for move in moves} == {shard for shard, owner in owners.items() if owner in emptied}
    load = Counter(after(owners, moves).values())
    for name in {move.to for move in moves}:
        assert name not in emptied
        assert load[name] <= -(-len(owners) // left)


@given(directories(), st.data())
def test_a_plan_is_the_same_however_it_is_asked_for_and_nothing_is_left_after_it(
    directory: tuple[list[str], dict[int, str]], data: st.DataObject
) -> None:
    who, owners = directory
    emptied = data.draw(st.lists(st.sampled_from(who), unique=True, max_size=len(who) - 1))
    moves = rebalancing.needed(len(owners), candidates(who), owners, emptied)
    shuffled = data.draw(st.permutations(who)), dict(data.draw(st.permutations(sorted(owners.items()))))
    assert rebalancing.needed(len(owners), candidates(list(shuffled[0])), shuffled[1], emptied) == moves
    assert rebalancing.needed(len(owners), candidates(who), after(owners, moves), emptied) == ()


def seen(*owners: Life | None, desired: tuple[Life | None, ...] | None = None, at_ms: int = 0) -> Observation:
    """Three bet-services that are well; shard n belongs to the nth owner."""
    rows = [Shard(n, owner, 1, "owned" if owner else "free", (desired or owners)[n]) for n, owner in enumerate(owners)]
    alive = tuple(Owner(each, 100, draining=False, exited=False) for each in (ONE, TWO, THREE))
    return replace(calm(at_ms), owners=alive, shards=tuple(rows))


def asked(found: Observation, *moves: Move, emptied: tuple[str, ...] = ()) -> Observation:
    """This plan is under way."""
    return replace(found, rebalance=Rebalance("evening" if moves else "", moves, emptied))


EMPTY_ONE = (Move(0, "bet-service-1", "bet-service-2"), Move(1, "bet-service-1", "bet-service-2"))


def test_a_receiver_is_given_one_shard_at_a_time_and_the_next_once_it_has_it() -> None:
    """Others are given theirs meanwhile."""
    moves = (*EMPTY_ONE, Move(2, "bet-service-1", "bet-service-3"))
    scenario = Scenario(APPROVE)
    first = scenario.live(asked(seen(ONE, ONE, ONE), *moves))
    assert first.plan.actions == (Place(((0, TWO), (2, THREE)), 1),)
    on_its_way = seen(ONE, ONE, THREE, desired=(TWO, ONE, THREE), at_ms=500)
    assert scenario.live(asked(on_its_way, *moves)).plan.actions == ()
    released = seen(None, ONE, THREE, desired=(TWO, ONE, THREE), at_ms=1_000)
    assert scenario.live(asked(released, *moves)).plan.actions == ()
    taken = seen(TWO, ONE, THREE, at_ms=1_500)
    assert scenario.live(asked(taken, *moves)).plan.actions == (Place(((1, TWO),), 1),)
    assert scenario.live(asked(seen(TWO, TWO, THREE, at_ms=2_000), *moves)).plan.actions == ()


def test_what_has_no_owner_is_placed_before_anything_is_moved() -> None:
    """Also where moves wait for approval; the plan goes on with what is still where it found it."""
    scenario = Scenario(APPROVE)
    moves = (Move(0, "bet-service-1", "bet-service-3"), Move(1, "bet-service-2", "bet-service-3"))
    died = asked(ended(seen(ONE, TWO, THREE), "bet-service-2"), *moves)
    tick = scenario.live(died)
    assert tick.plan.actions == (MarkDead(TWO, 1), Place(((1, ONE),), 1))
    placed = seen(ONE, ONE, THREE, at_ms=500)
    rest = replace(placed, owners=tuple(each for each in placed.owners or () if each.life != TWO))
    assert scenario.live(asked(rest, *moves)).plan.actions == (Place(((0, THREE),), 1),)


def test_a_plan_that_is_stopped_leaves_shards_where_they_are() -> None:
    """A hand-over that was begun is completed, and no other begins: also where balance would want it."""
    scenario = Scenario(APPROVE)
    scenario.live(asked(seen(ONE, ONE, ONE), *EMPTY_ONE))
    tick = scenario.live(seen(ONE, ONE, ONE, desired=(TWO, ONE, ONE), at_ms=500))
    assert tick.plan.actions == ()
    assert [each.reason for each in tick.plan.declined] == [
        "policy: moves for balance wait until a person approves them"
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda found: replace(found, rebalance=None), "it is not known whether a rebalance is under way"),
        (lambda found: asked(found, Move(0, "bet-service-2", "bet-service-3")), "rebalance evening is under way"),
    ],
)
def test_nothing_is_moved_for_balance_while_a_plan_is_under_way_or_none_can_be_seen(
    change: object, reason: str
) -> None:
    """Two plans at once would undo each other."""
    assert callable(change)
    tick = Scenario().live(change(seen(ONE, ONE, ONE)))
    assert tick.plan.actions == ()
    [declined] = tick.plan.declined
    assert declined.kind is Kind.SHARDS_MISPLACED
    assert declined.reason.startswith(reason)


def test_skew_that_waits_for_approval_is_not_a_diagnosis() -> None:
    """The platform is well meanwhile: nothing is misplaced that should be somewhere else by now."""
    tick = Scenario(APPROVE).live(seen(ONE, ONE, ONE))
    assert tick.diagnoses == ()
    assert tick.plan.actions == ()


def test_who_is_kept_empty_is_given_nothing_unless_nobody_else_is_left() -> None:
    """By balance, or when a shard has no owner."""
    emptied = ("bet-service-1",)
    assert Scenario().live(asked(seen(TWO, THREE, TWO), emptied=emptied)).plan.actions == ()
    placed = Scenario().live(asked(seen(None, None, TWO, THREE), emptied=emptied)).plan.actions
    assert placed == (Place(((0, THREE), (1, TWO)), 1),) or placed == (Place(((0, TWO), (1, THREE)), 1),)
    everybody = ("bet-service-1", "bet-service-2", "bet-service-3")
    [last] = Scenario().live(asked(seen(None, None, None), emptied=everybody)).plan.actions
    assert isinstance(last, Place)
    assert len(last.wanted) == 3


@pytest.mark.parametrize(
    ("policy", "change", "reason"),
    [
        (replace(APPROVE, paused="a release"), lambda found: found, "healing is paused: a release"),
        (replace(APPROVE, dry_run=True), lambda found: found, "dry run: nothing is done"),
        (
            APPROVE,
            lambda found: silent_to_platform(found, 3_500, "wallet-service"),
            "a process is silent",
        ),
    ],
)
def test_moves_wait_where_the_healer_may_not_act_and_that_is_said(policy: Policy, change: object, reason: str) -> None:
    """Paused, dry run, or while something is silent."""
    assert callable(change)
    before, found = seen(ONE, ONE, ONE), asked(seen(ONE, ONE, ONE, at_ms=4_000), *EMPTY_ONE)
    tick = Scenario(policy).live(before, change(found))
    assert not [each for each in tick.plan.actions if isinstance(each, Place)]
    assert any(each.reason.startswith(reason) for each in tick.plan.declined)


@pytest.mark.parametrize(
    "move",
    [
        Move(0, "bet-service-2", "bet-service-3"),
        Move(0, "bet-service-1", "bet-service-9"),
        Move(0, "bet-service-1", "bet-service-1"),
        Move(7, "bet-service-1", "bet-service-2"),
    ],
    ids=["elsewhere by now", "a receiver that is gone", "to itself", "no such shard"],
)
def test_a_move_that_cannot_be_made_is_left_out(move: Move) -> None:
    assert Scenario(APPROVE).live(asked(seen(ONE, TWO, THREE), move)).plan.actions == ()


def test_a_hand_over_to_a_life_that_is_over_does_not_hold_up_the_plan() -> None:
    """The wish of a receiver that has died is still in the directory."""
    over = seen(ONE, TWO, THREE, desired=(life("bet-service-3", "0"), TWO, THREE))
    move = Move(0, "bet-service-1", "bet-service-3")
    assert Scenario(APPROVE).live(asked(over, move)).plan.actions == (Place(((0, THREE),), 1),)


def test_ticks_with_a_rebalance_are_replayed_from_their_record() -> None:
    """What people asked for is a signal like others."""
    scenario = Scenario(APPROVE)
    text = [flight.opening(scenario.memory)]
    for at_ms, owners in ((0, (ONE, ONE, ONE)), (500, (TWO, ONE, ONE))):
        found = asked(seen(*owners, at_ms=at_ms), *EMPTY_ONE, emptied=("bet-service-1",))
        tick = scenario.live(found)
        text.append(flight.line(flight.Record(7, APPROVE, found, tick.diagnoses, tick.plan)))
    assert list(flight.replay(text)) == [None, None]
