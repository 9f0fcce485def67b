"""Drills: when one begins, what is measured, and when it is broken off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from betting_operator.kubernetes import drills
from betting_operator.kubernetes.drill_runs import Decision, Noted
from betting_operator.kubernetes.drill_values import (
    FAULTS,
    REQUEST_ANNOTATION,
    Action,
    Pod,
    Seen,
    parse,
    seconds_of,
    time_of,
)
from betting_operator.kubernetes.schema_drills import KINDS
from betting_operator.kubernetes.status import CONDITIONS

NOW_S = seconds_of("2026-11-30T12:00:00Z")  # a Monday
SPEC: dict[str, Any] = {
    "faults": [{"kind": each} for each in FAULTS],
    "schedule": {"everyHours": 24},
    "budget": {"perDay": 2, "minutesBetween": 60},
}
WELL: dict[str, Any] = {
    "observedGeneration": 1,
    "conditions": [
        {"type": each, "status": "True", "reason": "Fine", "lastTransitionTime": "2026-11-30T11:00:00Z"}
        for each in ("Ready", *CONDITIONS, "RolledOut", "Healing")
    ],
    "shards": {"owned": 16, "total": 16},
    "redis": {"primary": "demo-redis-0", "phase": "steady", "epoch": 3},
}


def pods(workload: str, *names: str, **more: Any) -> tuple[Pod, ...]:
    """Of a workload, all ready."""
    found = Pod("", "u", "7", workload, ready=True, ending=False, created_s=NOW_S - 7_200)
    return tuple(replace(found, **{"name": f"demo-{workload}-{name}", **more}) for name in names)


SEEN = Seen(
    NOW_S,
    NOW_S - 3_600,
    "betting-operator/op-a@boot-1",
    "demo-betting-operator-a",
    injected="20261130-120000",
    pods=(
        *pods("bet-service", "a", "b"),
        *pods("api-gateway", "a", "b"),
        *pods("redis", "0", "1"),
        *pods("betting-operator", "a", "b"),
    ),
)


def resource(state: dict[str, Any] | None = None, asked: str = "", **more: Any) -> dict[str, Any]:
    """A platform on which all is well. state: status.drills. more: fields of spec.drills and of the status."""
    status = {**WELL, **{name: more.pop(name) for name in list(more) if name in WELL or name == "activeDiagnoses"}}
    metadata: dict[str, Any] = {"name": "demo", "generation": 1}
    if asked:
        metadata["annotations"] = {REQUEST_ANNOTATION: asked}
    return {"metadata": metadata, "spec": {"drills": {**SPEC, **more}}, "status": {**status, "drills": state or {}}}


def ran(hours_ago: float, kind: str = "DeleteBetService", outcome: str = "Passed", **more: Any) -> dict[str, Any]:
    """A drill that is over."""
    at = time_of(NOW_S - 3_600 * hours_ago)
    return {"name": f"ran-{hours_ago}", "kind": kind, "began": at, "ended": at, "outcome": outcome, **more}


def decided(found: dict[str, Any], seen: Seen = SEEN, noted: Noted | None = None) -> Decision:
    """What is to be done."""
    return drills.decide(found, seen, noted or Noted())


def asking(kind: str, ago_s: float = 1.0) -> str:
    """A request of a person."""
    return f"{kind}@{time_of(NOW_S - ago_s).replace('-', '').replace(':', '').replace('.000', '')}-a1b2c3"


def test_the_schema_and_the_operator_know_the_same_faults() -> None:
    assert list(FAULTS) == list(KINDS)
    for each in FAULTS.values():
        assert 0 < each.detect_s <= each.repair_s


def test_a_drill_begins_by_schedule_while_all_is_well_and_is_written_down_first() -> None:
    found = decided(resource())
    assert found.inject is not None
    assert found.inject.name == "demo-bet-service-a"
    running = found.status["running"]
    assert (running["kind"], running["target"], running["readyPods"]) == ("DeleteBetService", "demo-bet-service-a", 2)
    assert running["operator"] == SEEN.operator
    assert "request" not in running


def test_without_drills_in_the_spec_nothing_begins() -> None:
    found = resource()
    del found["spec"]["drills"]
    assert decided(found) == Decision({})


NIGHT = {"start": "02:00", "durationMinutes": 60}
FINE = WELL["conditions"]
UNWELL: list[tuple[dict[str, Any], Seen, str]] = [
    ({"suspended": True}, SEEN, "spec.drills.suspended is true"),
    ({"wellMinutes": 60, "conditions": [*FINE[:-1], {**FINE[-1],
      "lastTransitionTime": "2026-11-30T11:30:00Z"}]}, SEEN, "until 2026-11-30T12:30:00Z"),
    ({"conditions": WELL["conditions"][:-1]}, SEEN, "Healing is Unknown (NotSaid)"),
    *(
        (
            {"conditions": [each | ({"status": "False"} if each["type"] == name else {}) for each in FINE]},
            SEEN,
            f"{name} is False (Fine)",
        )
        for name in ("Ready", *CONDITIONS, "RolledOut", "Healing")
    ),
    ({"observedGeneration": 0}, SEEN, "the spec has changed and is not carried out yet"),
    ({"activeDiagnoses": [{"kind": "overloaded", "target": "x"}]}, SEEN, "overloaded x is diagnosed now"),
    ({}, replace(SEEN, rebalancing=True), "shards are being moved by a ShardRebalance"),
    ({}, replace(SEEN, pods=SEEN.pods[1:]), "bet-service has 1 pods"),
    ({}, replace(SEEN, pods=(replace(SEEN.pods[0], ready=False), *SEEN.pods[1:])), "demo-bet-service-a is not ready"),
    ({}, replace(SEEN, pods=(replace(SEEN.pods[0], ending=True), *SEEN.pods[1:])), "demo-bet-service-a is not ready"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "seen", "why"), UNWELL, ids=[each[2] for each in UNWELL])
def test_nothing_begins_while_something_is_not_well_neither_by_schedule_nor_by_request(
    more: dict[str, Any], seen: Seen, why: str
) -> None:
    by_schedule = decided(resource(**more), seen)
    assert by_schedule.inject is None
    assert why in by_schedule.status["next"]
    asked = decided(resource(asked=asking("DeleteBetService"), **more), seen)
    assert asked.inject is None
    assert asked.status["lastRequest"]["outcome"] == "Refused"
    assert why in asked.status["lastRequest"]["message"]


@pytest.mark.parametrize(
    ("runs", "more", "waits"),
    [
        ([ran(23)], {}, "its time, 2026-11-30T13:00:00Z"),
        ([ran(25)], {}, ""),
        ([ran(25, request="x")], {}, ""),  # what people ask for does not move the schedule
        ([ran(2, request="x")], {}, ""),
        ([ran(0.5, request="x")], {}, "spec.drills.budget.minutesBetween: the next may begin at 2026-11-30T12:30:00Z"),
        ([ran(2, request="x"), ran(3, request="x")], {}, "perDay is 2, the next may begin at 2026-12-01T09:00:00Z"),
        ([ran(25, outcome="Missed")], {}, "ran-25 missed its objectives"),
        ([ran(25, outcome="Missed")], {"acknowledged": "ran-25"}, ""),
        ([ran(30, outcome="Missed")], {"acknowledged": "ran-25"}, "ran-30 missed its objectives"),
        ([ran(25, outcome="Aborted")], {}, ""),
        ([], {"schedule": None}, "a person: there is no spec.drills.schedule"),
        ([], {"schedule": {"everyHours": 24, "windows": [NIGHT]}}, "on Tuesday at 02"),
        ([], {"schedule": {"everyHours": 24, "windows": [{**NIGHT, "start": "11:30"}]}}, ""),
    ],
)  # fmt: skip
def test_the_schedule_and_the_budget_say_when_the_next_one_begins(
    runs: list[dict[str, Any]], more: dict[str, Any], waits: str
) -> None:
    found = decided(resource({"runs": runs}, **more))
    assert (found.inject is None) == bool(waits)
    assert waits in found.status.get("next", "")


def test_since_when_each_fault_is_named_is_noted_whatever_becomes_of_it() -> None:
    """By who leads then; what is named no more, or anew, counts from then on."""
    first, later_s = time_of(NOW_S), NOW_S + 60
    state: dict[str, Any] = decided(resource(faults=[{"kind": "DeleteGateway"}], suspended=True)).status
    assert state["faults"] == [{"kind": "DeleteGateway", "since": first}]
    both = [{"kind": "DeleteBetService"}, {"kind": "DeleteGateway"}]
    for more in ({"suspended": True}, {"asked": asking("FailOverRedis")}, {}):
        found = decided(resource(state, faults=both, **more), replace(SEEN, now_s=later_s))
        assert found.status["faults"] == [
            {"kind": "DeleteBetService", "since": time_of(later_s)},
            {"kind": "DeleteGateway", "since": first},
        ]
    running = decided(resource(found.status, faults=both)).status
    assert running["faults"] == found.status["faults"]
    gone = resource(running)
    del gone["spec"]["drills"]
    assert "faults" not in decided(gone).status


def test_faults_take_turns() -> None:
    wanted = parse(resource())
    assert wanted is not None
    runs: list[dict[str, Any]] = []
    for hours_ago in range(8, 0, -1):
        runs.insert(0, ran(hours_ago, drills.whose_turn(wanted, runs)))
    assert [each["kind"] for each in reversed(runs)] == [*FAULTS, *FAULTS]


@pytest.mark.parametrize(
    ("asked", "more", "why"),
    [
        ("rubbish", {}, "use `kubectl betting drill run KIND`"),
        (asking("FreezeBetService"), {}, "there is no fault FreezeBetService: they are DeleteBetService"),
        (asking("DeleteGateway", 301), {}, "over 300 s from the operator's clock"),
        (asking("DeleteGateway", -301), {}, "over 300 s from the operator's clock"),
        ("DeleteGateway@99999999T999999Z-a1b2c3", {}, "over 300 s from the operator's clock"),
        (asking("DeleteGateway"), {"faults": [{"kind": "FailOverRedis"}]}, "spec.drills.faults does not name"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_once(asked: str, more: dict[str, Any], why: str) -> None:
    found = decided(resource({"runs": [ran(1)]}, asked=asked, **more))
    assert found.inject is None
    assert why in found.status["lastRequest"]["message"]
    assert found.status["runs"] == [ran(1)]
    again = decided(resource(found.status, asked=asked, **more))
    assert again.status["lastRequest"] == found.status["lastRequest"]


def test_a_request_begins_one_drill_and_no_other() -> None:
    asked = asking("FailOverRedis")
    found = decided(resource({"runs": [ran(2)]}, asked=asked))
    assert found.inject is not None
    assert found.inject.name == "demo-redis-0"
    assert found.status["running"]["redisEpoch"] == 3
    assert found.status["lastRequest"] == {"request": asked, "outcome": "Begun", "drill": "20261130-120000"}
    over = decided(resource(found.status), replace(SEEN, injected="", problem="it has changed"))
    assert over.ended is not None
    assert (over.ended["outcome"], over.ended["request"]) == ("Aborted", asked)
    assert over.ended["message"] == "the pod was not deleted, or nobody knows: it has changed"
    assert decided(resource(over.status, asked=asked)).inject is None


def test_a_request_while_another_drill_runs_is_refused() -> None:
    running = decided(resource()).status
    found = decided(resource(running, asked=asking("DeleteGateway")))
    assert found.inject is None
    assert found.status["running"] == running["running"]
    assert "(DeleteBetService) runs now" in found.status["lastRequest"]["message"]


def begun(kind: str) -> dict[str, Any]:
    """status.drills while a drill of this kind runs."""
    found = decided(resource(faults=[{"kind": kind}]))
    assert found.inject is not None
    return found.status


def later(after_s: float, *gone: str, **more: Any) -> Seen:
    """So many seconds after it began, without these pods."""
    rest = tuple(each for each in SEEN.pods if each.name not in gone)
    return replace(SEEN, now_s=NOW_S + after_s, **{"pods": rest, **more})


BET = "demo-bet-service-a"


def died(began_s: float, repaired_s: float | None, about: str = f"{BET}@boot-9") -> Action:
    """The healer marked the owner dead."""
    return Action("owner-died", about, NOW_S + began_s, None if repaired_s is None else NOW_S + repaired_s)


@pytest.mark.parametrize(
    ("actions", "outcome", "detected_s", "repaired_s"),
    [
        ((died(1.2, 1.5),), "Passed", 1.2, 1.5),
        ((died(1.2, 1.5), died(1.3, 2.5)), "Passed", 1.2, 2.5),
        ((died(1.2, 4.5),), "Missed", 1.2, 4.5),
        ((died(3.5, 3.9),), "Missed", 3.5, 3.9),
        ((died(-5, -4), died(1.2, 1.5)), "Passed", 1.2, 1.5),
        ((died(0.1, 0.2, "demo-bet-service-b@boot-2"), died(1.2, 1.5)), "Passed", 1.2, 1.5),
    ],
)
def test_times_are_those_of_the_healers_records_about_the_pod(
    actions: tuple[Action, ...], outcome: str, detected_s: float, repaired_s: float
) -> None:
    found = decided(resource(begun("DeleteBetService")), later(6, BET, actions=actions))
    assert found.ended is not None
    measured = (found.ended["outcome"], found.ended["detectedSeconds"], found.ended["repairedSeconds"])
    assert measured == (outcome, detected_s, repaired_s)
    assert found.status["runs"] == [found.ended]
    assert "running" not in found.status


def test_a_drill_lasts_until_the_shards_are_owned_again() -> None:
    state = begun("DeleteBetService")
    waits = decided(resource(state), later(6, BET, actions=(died(1.2, None),)))
    assert waits.ended is None
    orphaned = resource(state, shards={"owned": 15, "total": 16})
    assert decided(orphaned, later(6, BET, actions=(died(1.2, 1.5),))).ended is None
    assert decided(resource(state), later(6, actions=(died(1.2, 1.5),))).ended is None, "the pod is still there"


def test_a_bet_service_that_hands_its_shards_over_in_time_needs_no_detection() -> None:
    state = begun("DeleteBetService")
    gone = decided(resource(state), later(1.1, BET))
    assert gone.ended is None, "the healer's record may come later"
    still = decided(resource(state), later(16, BET), gone.noted)
    assert still.ended is None
    found = decided(resource(state), later(16.2, BET), still.noted)
    assert found.ended is not None
    assert (found.ended["outcome"], found.ended["repairedSeconds"]) == ("Passed", 1.1)
    assert "detectedSeconds" not in found.ended
    assert "nothing had to be detected" in found.ended["message"]


def test_of_a_gateway_another_pod_is_waited_for() -> None:
    state = begun("DeleteGateway")
    gone = "demo-api-gateway-a"
    new = pods("api-gateway", "c", created_s=NOW_S + 1, ready=False)
    seen = later(1.5, gone)
    noted = decided(resource(state), replace(seen, pods=(*seen.pods, *new))).noted
    assert noted == Noted(sign_s=NOW_S + 1.5)
    ready = later(8, gone)
    found = decided(resource(state), replace(ready, pods=(*ready.pods, replace(new[0], ready=True))), noted)
    assert found.ended is not None
    assert (found.ended["detectedSeconds"], found.ended["repairedSeconds"]) == (1.5, 8.0)


def test_of_redis_the_next_epoch_is_waited_for() -> None:
    state = begun("FailOverRedis")
    action = Action("redis-primary-gone", "demo-redis-0", NOW_S + 1.1, NOW_S + 2.6)
    same = decided(resource(state), later(5, actions=(action,)))
    assert same.ended is None, "the same node in the same epoch is no failover"
    over = resource(state, redis={"primary": "demo-redis-1", "phase": "steady", "epoch": 4})
    found = decided(over, later(5, actions=(action,)))
    assert found.ended is not None
    assert (found.ended["outcome"], found.ended["repairedSeconds"]) == ("Passed", 2.6)


def test_of_the_operator_the_next_leader_measures() -> None:
    """From its election until its healer tells."""
    state = begun("DeleteOperator")
    assert decided(resource(state), later(5)).ended is None
    next_ = later(
        4, "demo-betting-operator-a", operator="betting-operator/op-b@boot-1", pod="op-b", leading_s=NOW_S + 2
    )
    assert decided(resource(state), next_).ended is None
    found = decided(resource(state), replace(next_, healer_tells=True))
    assert found.ended is not None
    assert (found.ended["detectedSeconds"], found.ended["repairedSeconds"]) == (2.0, 4.0)


@pytest.mark.parametrize("kind", FAULTS)
def test_what_is_not_repaired_in_the_end_has_missed(kind: str) -> None:
    state = begun(kind)
    target = state["running"]["target"]
    found = decided(resource(state, shards={"owned": 15, "total": 16}), later(181, target))
    assert found.ended is not None
    assert found.ended["outcome"] == "Missed"
    assert "repairedSeconds" not in found.ended
    assert "next" in decided(resource(found.status)).status


PAUSED = [*WELL["conditions"][:-1], {**WELL["conditions"][-1], "status": "False", "reason": "Paused"}]
PAGE = {"kind": "database-away", "target": "postgres", "severity": "page", "certainty": "confirmed"}


@pytest.mark.parametrize(
    ("more", "seen", "why"),
    [
        ({}, replace(SEEN, operator="betting-operator/op-a@boot-2"), "leads no more"),
        ({"suspended": True}, SEEN, "spec.drills.suspended"),
        ({"conditions": PAUSED}, SEEN, "healing was switched off"),
        ({"activeDiagnoses": [PAGE]}, SEEN, "something calls for a person: database-away postgres"),
    ],
)
def test_a_drill_is_aborted_when_it_can_tell_nothing_any_more(more: dict[str, Any], seen: Seen, why: str) -> None:
    state = begun("DeleteBetService")
    found = decided(resource(state, **more), replace(seen, actions=(died(1.2, 1.5),)))
    assert found.ended is not None
    assert found.ended["outcome"] == "Aborted"
    assert why in found.ended["message"]
    gone = resource(state)
    del gone["spec"]["drills"]
    removed = decided(gone)
    assert removed.ended is not None
    assert removed.ended["message"] == "spec.drills was removed"


def test_another_leader_while_the_pod_that_was_to_be_deleted_is_there_measures_nothing() -> None:
    """Nor does one that was started anew in that pod."""
    found = decided(resource(begun("DeleteOperator")), replace(SEEN, operator="other", healer_tells=True))
    assert found.ended is not None
    assert found.ended["outcome"] == "Aborted"


def test_objectives_of_the_spec_count_and_stay_in_order() -> None:
    wanted = parse(
        resource(faults=[{"kind": "DeleteGateway", "repairSeconds": 3}, {"kind": "FailOverRedis", "detectSeconds": 20}])
    )
    assert wanted is not None
    gateway, redis = wanted.objectives["DeleteGateway"], wanted.objectives["FailOverRedis"]
    assert (gateway.detect_s, gateway.repair_s) == (3, 3)
    assert (redis.detect_s, redis.repair_s) == (20, 20)


STEPS = st.lists(
    st.tuples(
        st.floats(0.5, 40_000),
        st.sampled_from(["same", "leader", "unwell", "ask"]),
        st.sampled_from(list(FAULTS)),
        st.booleans(),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_the_budget_holds_and_no_two_drills_run_at_once(
    steps: list[tuple[float, str, str, bool]],
) -> None:
    """Leaders come and go, requests come at any time, and what was begun may or may not be repaired."""
    state: dict[str, Any] = {}
    began: list[float] = []
    requests: list[str] = []
    now_s, leader, asked = NOW_S, 0, ""
    for after_s, event, kind, repaired in steps:
        now_s += after_s
        leader += event == "leader"
        if event == "ask":
            asked = f"{kind}@{time_of(int(now_s)).translate(str.maketrans('', '', '-:'))}-{len(requests):04}"
        shards = {"owned": 16 if event != "unwell" else 15, "total": 16}
        conditions = WELL["conditions"] if event != "unwell" else PAUSED
        pods_ = SEEN.pods if repaired else SEEN.pods[2:]
        injected = state.get("running", {}).get("name", "")
        seen = replace(SEEN, now_s=now_s, operator=f"op-{leader}", pods=pods_, injected=injected)
        found = decided(resource(state, asked=asked, shards=shards, conditions=conditions), seen)
        if found.inject is not None:
            assert "running" not in state
            assert event != "unwell"
            assert not began or now_s - began[-1] >= 3_600
            assert sum(now_s - each < 86_400 for each in began) < 2
            assert found.inject in seen.pods
            began.append(now_s)
            requests.append(found.status["running"].get("request", ""))
        state = found.status
    asked_for = [each for each in requests if each]
    assert len(set(asked_for)) == len(asked_for), "no request is carried out twice"
    assert len(state.get("runs", ())) <= len(began)
