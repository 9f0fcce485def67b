"""A ShardRebalance step by step: what it plans, what it waits for, how it ends, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from betting.placement import Candidate
from betting.placement.shards import ROLL_LASTS_S
from betting_operator.healing.signals import Move, Rebalance
from betting_operator.kubernetes import rebalance, rebalance_plan
from betting_operator.kubernetes.crd_shard_rebalances import MOVES_MAX, PHASES
from betting_operator.kubernetes.rebalance import Request, Seen, Step
from betting_operator.kubernetes.rebalance_plan import Directory, Place

A, B, C = "bet-a", "bet-b", "bet-c"
LONG_AGO_S = 86_400.0
NOW = "2026-03-01T12:00:00Z"


def directory(*owners: str | None, able: tuple[str, ...] = (A, B, C), to: dict[int, str] | None = None) -> Directory:
    """Shard n belongs to the nth owner; `to`: those that are being handed over."""
    places = {
        shard: Place(owner, (to or {}).get(shard), "owned" if owner else "free") for shard, owner in enumerate(owners)
    }
    return Directory(tuple(Candidate(name, 0, LONG_AGO_S) for name in able), frozenset(able), places)


BALANCED = directory(A, A, B, B, C, C)
SKEWED = directory(A, A, A, A, B, C)


def request(status: dict[str, Any] | None = None, name: str = "evening", **spec: Any) -> Request:
    """As the API server has it."""
    return rebalance.parse(
        {
            "metadata": {"name": name, "uid": name, "resourceVersion": "1", "creationTimestamp": NOW, "generation": 2},
            "spec": {"platform": "demo", **spec},
            "status": status,
        }
    )


def seen(found: Directory | None = SKEWED, **more: Any) -> Seen:
    return Seen("demo", **{"directory": found, "problem": "" if found else "Postgres is away", **more})


def after(taken: Step, found: Request, looked: Seen) -> Request:
    """The same one, with the status that came of it."""
    return replace(found, status=rebalance.status(found, taken, looked, NOW))


def live(found: Request, *looks: Seen) -> Request:
    """One look after the other."""
    for each in looks:
        found = after(rebalance.step(found, each), found, each)
    return found


def condition(found: Request, kind: str) -> tuple[str, str]:
    return next((each["status"], each["reason"]) for each in found.status["conditions"] if each["type"] == kind)


def test_without_a_policy_that_asks_for_approval_it_runs_until_every_shard_is_there() -> None:
    planned = live(request(), seen())
    assert planned.phase == "Running"
    assert planned.plan is not None
    assert planned.plan.moves == (Move(2, A, B), Move(3, A, C))
    assert condition(planned, "Approved") == ("True", "NotNeeded")
    half = live(planned, seen(directory(A, A, B, A, B, C)))
    assert (half.phase, half.status["done"], half.status["total"]) == ("Running", 1, 2)
    assert condition(half, "Complete") == ("False", "Running")
    done = live(half, seen(directory(A, A, B, C, B, C)))
    assert (done.phase, done.status["done"], done.status["message"]) == ("Done", 2, "2 of 2 shards moved")
    assert condition(done, "Complete") == ("True", "Done")
    assert done.status["startedAt"] == done.status["finishedAt"] == NOW


def test_where_policy_asks_for_approval_nothing_runs_before_the_plan_is_named() -> None:
    waits = live(request(), seen(needs_approval=True))
    assert waits.phase == "AwaitingApproval"
    assert condition(waits, "Approved") == ("False", "AwaitingApproval")
    assert waits.plan is not None
    assert f"set spec.approval to {waits.plan.hash}" in waits.status["message"]
    assert rebalance.signal([waits], "demo") == Rebalance()
    runs = live(replace(waits, approval=waits.plan.hash), seen(needs_approval=True))
    assert runs.phase == "Running"
    assert condition(runs, "Approved") == ("True", "Approved")
    assert rebalance.signal([runs], "demo") == Rebalance("evening", waits.plan.moves)


@pytest.mark.parametrize("needs_approval", [True, False])
def test_an_approval_of_a_plan_that_is_old_is_refused_and_nothing_is_done(needs_approval: bool) -> None:
    """Shards have moved since it was made: the new plan and its hash are there to be looked at."""
    looked = seen(needs_approval=True)
    waits = live(request(), looked)
    assert waits.plan is not None
    changed = seen(directory(A, A, A, A, A, B), needs_approval=needs_approval)
    refused = live(replace(waits, approval=waits.plan.hash), changed)
    assert refused.phase == "AwaitingApproval"
    assert condition(refused, "Approved") == ("False", "PlanHasChanged")
    assert refused.plan is not None
    assert refused.plan.hash != waits.plan.hash
    assert f"approval is of plan {waits.plan.hash}, and the plan is {refused.plan.hash}" in refused.status["message"]
    assert rebalance.signal([refused], "demo") == Rebalance()
    assert live(replace(refused, approval=refused.plan.hash), changed).phase == "Running"


def test_a_plan_that_waits_is_made_anew_when_the_shards_change_and_kept_when_they_do_not() -> None:
    """Its cost, which changes with every bet, changes nothing."""
    looked = seen(needs_approval=True)
    waits = live(request(), looked)
    grown = seen(replace(SKEWED, sizes=dict.fromkeys(range(6), 1 << 30)), needs_approval=True)
    assert live(waits, grown).status == waits.status
    newcomer = seen(directory(A, A, A, A, B, C, able=(A, B, C, "bet-d")), needs_approval=True)
    assert live(waits, newcomer).status["plan"]["hash"] != waits.status["plan"]["hash"]


REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    (
        "another platform",
        {"platform": "other"},
        {},
        "NoSuchPlatform",
        "there is no platform other: the operator here owns",
    ),
    (
        "a pod that does not exist",
        {"drain": ["bet-x"]},
        {},
        "NoSuchPod",
        "no bet-service bet-x: those that there are: bet-a",
    ),
    ("every pod", {"drain": [A, B, C]}, {}, "NobodyLeft", "no bet-service would be left"),
    (
        "all but who is kept empty",
        {"drain": [A, B]},
        {"emptied": frozenset({C})},
        "NobodyLeft",
        "no bet-service would be",
    ),
    ("two at once", {}, {"earlier": "morning"}, "AnotherRebalance", "morning is not finished: one at a time"),
]


@pytest.mark.parametrize(
    ("spec", "more", "reason", "message"), [each[1:] for each in REFUSED], ids=[e[0] for e in REFUSED]
)
def test_what_cannot_be_done_is_refused_with_what_to_do(
    spec: dict[str, Any], more: dict[str, Any], reason: str, message: str
) -> None:
    """A condition says so; it is the end of it."""
    found = live(request(**spec), seen(**more))
    assert found.phase == "Refused"
    assert found.is_finished
    assert condition(found, "Accepted") == ("False", reason)
    assert message in found.status["message"]
    assert rebalance.signal([found], "demo") == Rebalance()
    assert "startedAt" not in found.status


def test_no_platform_at_all_is_said_too() -> None:
    assert "owns none" in live(request(), Seen(None, directory=SKEWED)).status["message"]


def test_a_pod_is_emptied_without_moving_anything_else_and_kept_empty() -> None:
    """Until the rebalance is deleted or stopped."""
    found = live(request(drain=[A]), seen(directory(A, A, A, B, B, C)))
    assert found.plan is not None
    assert {move.shard for move in found.plan.moves} == {0, 1, 2}
    assert rebalance.signal([found], "demo").emptied == (A,)
    receivers = {move.shard: move.to for move in found.plan.moves}
    done = live(found, seen(directory(receivers[0], receivers[1], receivers[2], B, B, C)))
    assert done.phase == "Done"
    assert rebalance.signal([done], "demo") == Rebalance(emptied=(A,))
    assert rebalance.signal([replace(done, stop=True)], "demo") == Rebalance()
    assert rebalance.signal([done], "another") == Rebalance()


def test_a_plan_that_empties_a_pod_balances_nobody_else() -> None:
    """What B has too much stays with it."""
    found = live(request(drain=[A]), seen(directory(A, B, B, B, B, B, C)))
    assert found.plan is not None
    assert found.plan.moves == (Move(0, A, C),)


def test_a_pod_that_is_empty_is_empty_wherever_its_shards_went() -> None:
    """The healer has placed them on others than the plan said: one of these took none."""
    found = live(request(drain=[A]), seen(directory(A, A, A, B, B, C)))
    assert found.plan is not None
    others = {move.shard: B if move.to == C else C for move in found.plan.moves}
    elsewhere = live(found, seen(directory(others[0], others[1], others[2], B, B, C)))
    assert (elsewhere.phase, elsewhere.status["done"]) == ("Done", 0)
    assert elsewhere.status["message"] == "0 of 3 shards moved, 3 shards (0, 1, 2) went elsewhere meanwhile"


def test_a_pod_without_shards_is_kept_empty_at_once() -> None:
    found = live(request(drain=[C]), seen(directory(A, A, B, B)))
    assert (found.phase, found.status["total"]) == ("Done", 0)
    assert rebalance.signal([found], "demo").emptied == (C,)


def test_with_nothing_to_move_it_is_done() -> None:
    """A proposal of the operator is over: what it proposed has happened by itself."""
    assert live(request(), seen(BALANCED)).phase == "Done"
    proposed = replace(request(), is_own=True)
    waits = live(proposed, seen(needs_approval=True))
    assert live(waits, seen(BALANCED, needs_approval=True)).phase == "Superseded"


UNSETTLED = [
    (directory(A, A, B, None, C, C), "1 shard (3) without a live owner, or being handed over"),
    (directory(A, A, A, A, B, C, to={0: B}), "1 shard (0) without a live owner, or being handed over"),
    (directory(A, A, A, A, B, C, able=(A, B)), "1 shard (5) without a live owner"),
    (replace(SKEWED, able=(Candidate(A, 1, 1.0), Candidate(B), Candidate(C))), "a new version is being rolled out"),
    (directory(), "the database has no shards yet"),
]


@pytest.mark.parametrize(("found", "why"), UNSETTLED, ids=[why for _, why in UNSETTLED])
def test_no_plan_is_made_while_shards_are_on_their_way_anyhow(found: Directory, why: str) -> None:
    """Nor is one that was approved begun."""
    first = live(request(), seen(found))
    assert first.phase == "Proposed"
    assert f"the plan waits: {why}" in first.status["message"]
    waits = live(request(), seen(needs_approval=True))
    assert waits.plan is not None
    later = live(replace(waits, approval=waits.plan.hash), seen(found, needs_approval=True))
    assert (later.phase, later.plan) == ("AwaitingApproval", waits.plan)
    assert rolled_by_now(later).phase == "Running"


def rolled_by_now(found: Request) -> Request:
    """Once the directory is as the plan found it."""
    old = tuple(Candidate(name, 1, ROLL_LASTS_S) for name in (A, B, C))
    return live(found, seen(replace(SKEWED, able=old), needs_approval=True))


def test_while_the_database_is_away_it_waits_where_it_is() -> None:
    """Each phase keeps what it has."""
    assert live(request(), seen(None)).status["message"] == "Postgres is away"
    running = live(request(), seen())
    assert live(running, seen(None)).phase == "Running"
    assert live(running, seen(None)).plan == running.plan
    stopping = live(replace(running, stop=True), seen(None))
    assert (stopping.phase, stopping.status["message"]) == ("Running", "it is being stopped, and Postgres is away")


def test_a_pause_is_said_and_what_is_done_meanwhile_is_counted() -> None:
    idle = "healing is paused (a release): nothing is moved until it is resumed"
    found = live(request(), seen(idle=idle))
    assert (found.phase, found.status["message"]) == ("Running", idle)
    assert condition(found, "Complete") == ("False", "Idle")
    half = live(found, seen(directory(A, A, B, A, B, C), idle=idle))
    assert half.status["message"] == f"{idle}; 1 of 2 shards moved"


def test_a_stop_waits_for_the_hand_over_that_was_begun_and_begins_no_other() -> None:
    """Nothing is half moved: then it says what was moved."""
    running = live(request(), seen())
    stopping = replace(running, stop=True)
    assert rebalance.signal([stopping], "demo") == Rebalance()
    begun = live(stopping, seen(directory(A, A, A, A, B, C, to={2: B})))
    assert begun.phase == "Running"
    assert begun.status["message"] == "0 of 2 shards moved; waiting for 1 shard (2), begun before"
    released = live(begun, seen(directory(A, A, None, A, B, C, to={2: B})))
    assert released.phase == "Running"
    stopped = live(released, seen(directory(A, A, B, A, B, C)))
    assert (stopped.phase, stopped.status["message"]) == ("Stopped", "1 of 2 shards moved; no others will be")
    assert condition(stopped, "Complete") == ("False", "Stopped")


@pytest.mark.parametrize("before", [seen(None), seen(needs_approval=True)], ids=["not planned", "not approved"])
def test_a_stop_before_anything_runs_ends_it(before: Seen) -> None:
    found = live(request(), before)
    stopped = live(replace(found, stop=True), seen())
    assert (stopped.phase, stopped.status["message"]) == ("Stopped", "stopped before anything was moved")


def test_a_plan_goes_on_with_what_is_still_valid_when_an_owner_dies_and_says_what_is_left() -> None:
    """A has died with what it still had, which the healer has placed elsewhere."""
    running = live(request(), seen(directory(A, A, A, A, A, A, B, C)))
    assert running.plan is not None
    assert len(running.plan.moves) == 3
    [first, second, third] = running.plan.moves
    owners = {first.shard: first.to, second.shard: second.to, third.shard: next(x for x in (B, C) if x != third.to)}
    now = [owners.get(shard, B) for shard in range(8)]
    ended = live(running, seen(directory(*now, able=(B, C))))
    assert ended.phase == "Superseded"
    assert ended.status["done"] == 2
    assert f"1 shard ({third.shard}) cannot be" in ended.status["message"]


def test_a_receiver_that_is_away_for_a_moment_is_waited_for_and_one_that_is_gone_is_not() -> None:
    """Its container is being started again: the same pod takes what the plan has for it."""
    running = live(request(), seen())
    restarting = replace(directory(A, A, B, A, B, None, able=(A, B)), present=frozenset({A, B, C}))
    assert live(running, seen(restarting)).phase == "Running"
    gone = directory(A, A, B, A, B, B, able=(A, B))
    assert live(running, seen(gone)).phase == "Superseded"


def test_a_shard_that_is_frozen_meanwhile_is_left_alone() -> None:
    running = live(request(), seen())
    places = dict(directory(A, A, B, A, B, C).shards) | {3: Place(A, None, "frozen")}
    ended = live(running, seen(replace(SKEWED, shards=places)))
    assert (ended.phase, ended.status["done"]) == ("Superseded", 1)
    frozen = dict(SKEWED.shards) | {0: Place(A, None, "frozen")}
    made = rebalance_plan.plan(replace(SKEWED, shards=frozen), [A])
    assert 0 not in {move.shard for move in made.moves}


def test_a_pod_that_goes_while_its_plan_waits_ends_the_plan() -> None:
    waits = live(request(drain=[A]), seen(needs_approval=True))
    ended = live(waits, seen(directory(B, B, C, C, B, C, able=(B, C)), needs_approval=True))
    assert (ended.phase, ended.status["message"]) == ("Superseded", "bet-a is gone")


def test_a_platform_that_is_deleted_ends_what_ran() -> None:
    running = live(request(), seen())
    assert live(running, Seen(None)).phase == "Superseded"


def test_whoever_was_first_stays_first_whatever_comes_with_an_earlier_name() -> None:
    """Two made in the same second are told apart by name; one that was accepted stays accepted."""
    one, two = request(name="a"), request(name="b")
    assert rebalance.accepted([two, one], "demo") == ({"b": "a"}, [])
    running = live(two, seen())
    assert rebalance.accepted([running, one], "demo") == ({"a": "b"}, [])
    assert rebalance.accepted([replace(one, platform="other"), two], "demo") == ({}, [])
    finished = live(replace(running, stop=True), seen(SKEWED))
    assert finished.is_finished
    assert rebalance.accepted([finished, one], "demo") == ({}, [])


def test_a_proposal_of_the_operator_gives_way_to_a_person_unless_it_runs() -> None:
    """Or a pod could not be emptied before somebody has looked at what the operator wants."""
    own = replace(live(request(name="own"), seen(needs_approval=True)), is_own=True)
    person = request(name="person", drain=[A])
    assert rebalance.accepted([own, person], "demo") == ({}, [own])
    assert rebalance.given_way(own).phase == "Superseded"
    assert own.plan is not None
    runs = live(replace(own, approval=own.plan.hash), seen(needs_approval=True))
    assert rebalance.accepted([runs, person], "demo") == ({"person": "own"}, [])


def test_a_plan_costs_what_its_largest_shard_and_its_busiest_receiver_take() -> None:
    sizes = {2: 10 << 20, 3: 0}
    made = rebalance_plan.plan(replace(SKEWED, sizes=sizes))
    assert [move.shard for move in made.moves] == [2, 3]
    assert made.size_bytes == 10 << 20
    assert made.pause_ms == rebalance_plan.PAUSE_MS + 10 * rebalance_plan.PAUSE_MS_PER_MIB
    assert made.duration_s == 1
    planned = live(request(), seen(replace(SKEWED, sizes=sizes)))
    assert planned.plan == made
    assert planned.status["plan"]["cost"] == {"shards": 2, "bytes": 10 << 20, "pauseMilliseconds": 300, "seconds": 1}


def test_a_plan_has_no_more_moves_than_an_object_may_hold() -> None:
    count = 2 * MOVES_MAX + 2
    made = rebalance_plan.plan(directory(*[A] * count, able=(A, B)), [A])
    assert len(made.moves) == MOVES_MAX


phases = st.sampled_from(["", "Proposed", "AwaitingApproval", "Running"])
found_somehow = st.builds(
    lambda owners, able, to, state: replace(
        directory(*owners, able=tuple(sorted(able))),
        shards={n: Place(owner, to.get(n), state if owner else "free") for n, owner in enumerate(owners)},
    ),
    st.lists(st.sampled_from([A, B, C, None]), max_size=6),
    st.sets(st.sampled_from([A, B, C])),
    st.dictionaries(st.integers(0, 5), st.sampled_from([A, B, C])),
    st.sampled_from(["owned", "owned", "frozen"]),
)
looks = st.builds(
    Seen,
    st.sampled_from(["demo", "demo", "demo", None]),
    st.booleans(),
    st.sampled_from(["", "paused"]),
    st.none() | found_somehow,
    st.just("away"),
    st.sampled_from(["", "", "", "other"]),
    st.sampled_from([frozenset(), frozenset({B})]),
)


@given(
    st.lists(looks, min_size=1, max_size=6),
    st.lists(st.sampled_from([A, B, C]), max_size=2, unique=True),
    st.integers(0, 7),
    st.booleans(),
)
def test_whatever_is_seen_it_has_a_phase_with_a_reason_and_moves_only_what_was_approved(
    seen_: list[Seen], drain: list[str], stopped_at: int, approves: bool
) -> None:
    """An end is an end; a plan that runs does not change; every state survives being read again."""
    found = request(drain=drain)
    for number, each in enumerate(seen_):
        if found.is_finished:
            break
        before = found
        if number >= stopped_at:
            found = replace(found, stop=True)
        if approves and found.phase == "AwaitingApproval" and found.plan is not None:
            found = replace(found, approval=found.plan.hash)
        found = live(found, each)
        assert found.phase in PHASES
        assert found.status["message"]
        moves = rebalance.signal([found], "demo").moves
        if moves:
            assert found.phase == "Running"
            assert not found.stop
            assert found.plan is not None
            if before.phase == "Running":
                assert before.plan is not None
                assert found.plan.moves == before.plan.moves
            elif each.needs_approval:
                assert found.approval == found.plan.hash
            assert {move.to for move in moves}.isdisjoint(drain)
