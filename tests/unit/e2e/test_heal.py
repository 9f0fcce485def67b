"""What the proof of healing concludes from what it measured."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast

import bettors
import heal
import heal_actions
import pytest
from evidence import Evidence
from heal_fault import Fault
from heal_faults import FAULTS
from heal_parts import Try, back_s
from heal_quiet import QUIETS, groups
from heal_report import HealReport, Row, Run
from heal_targets import Injected, together
from scene import Scene
from tools import Failed

from betting.drills.measure import ACCEPTED, Attempt

STEADY = [Attempt(0, number / 8, number / 8 + 0.02, ACCEPTED, 1, f"key-{number}", True) for number in range(80)]
BETS = bettors.judged(STEADY, [0], 0.0, 10.0)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
AUDITED = Evidence(80, 0, {"frozen": 0}, "", 54)


@contextmanager
def frozen(_: Scene) -> Iterator[Injected]:
    """A process stopped."""
    yield Injected(0.0, "pod")


def row(*outages_s: float | None, refuses: bool = True) -> Row:
    return Row(Fault("frozen", 5.0, frozen, refuses=refuses), [Run("pod", each, BETS) for each in outages_s])


def problems(found: Row, evidence: Evidence | None = AUDITED) -> list[str]:
    return HealReport({found.name: found}, evidence=evidence).problems()


def test_a_fault_holds_when_its_median_is_within_budget_and_none_over_twice() -> None:
    assert problems(row(4.0, 4.9, 9.9)) == []
    assert problems(row(4.0, 5.1, 5.2)) == ["frozen: the median of 5.1 s is over the budget of 5 s"]
    assert problems(row(4.0, 4.1, 10.1)) == ["frozen: 10.1 s is over twice the budget of 5 s"]


def test_what_never_came_back_is_over_every_budget() -> None:
    assert problems(row(4.0, 4.0, None)) == ["frozen: never s is over twice the budget of 5 s"]
    assert problems(row(None)) == ["frozen: never s is over twice the budget of 5 s"]
    assert "frozen: the median of never s is over the budget of 5 s" in problems(row(None, None))


def test_of_a_single_run_twice_the_budget_is_the_limit() -> None:
    """The short proof injects each fault once: there is no median."""
    assert problems(row(5.1)) == []
    assert problems(row(10.1)) == ["frozen: 10.1 s is over twice the budget of 5 s"]


def test_where_no_bet_may_be_refused_one_is_a_problem() -> None:
    refused = row(1.0, refuses=False)
    refused.runs[0].bets = bettors.judged(
        [*STEADY, Attempt(0, 5.0, 6.5, ACCEPTED, 2, "again", True, "REFUSAL_CODE_BOOK_STALE")], [0], 0.0, 10.0
    )
    assert problems(refused) == ["frozen: bets were refused: {'BOOK_STALE': 1}"]
    assert refused.refused == Counter({"BOOK_STALE": 1})
    assert problems(row(1.0, refuses=False)) == []


def test_what_the_healer_did_wrong_is_a_problem_within_the_budget_too() -> None:
    found = row(1.0)
    found.runs[0].wrong.append("the healer should not have: kill demo-bet-service-x (no heartbeat)")
    assert problems(found) == ["frozen: the healer should not have: kill demo-bet-service-x (no heartbeat)"]


def action(
    second: float,
    kind: str,
    diagnosis: str = "process-hung",
    outcome: str = "Done",
    boot_id: str = "1",
    repaired: float | None = None,
) -> heal_actions.Object:
    """A HealingAction as kubectl has it. repaired: when its diagnosis was over, None: it lasts."""
    over = {} if repaired is None else {"repaired": time_of(repaired)}
    return {
        "spec": {
            "diagnosis": diagnosis,
            "evidence": ["silent"],
            "target": {"name": "pod", "bootId": boot_id},
            "decision": {"action": kind, "description": f"{kind} pod"},
        },
        "status": {"outcome": outcome, "began": time_of(second), "ended": time_of(second + 0.5), **over},
    }


def time_of(second: float) -> str:
    """As the objects have it."""
    return (BEGAN + timedelta(seconds=second)).isoformat().replace("+00:00", "Z")


def test_only_disruptive_actions_since_the_fault_are_held_against_the_healer() -> None:
    """What it only said, placed or declined is none."""
    found = [
        action(-1, "Kill"),
        action(1, "Alert"),
        action(2, "Place"),
        action(3, "Kill", outcome="Declined"),
        action(4, "Kill", outcome="Failed"),
        action(5, "MarkDead"),
    ]
    assert heal_actions.disruptive(found, heal_actions.ALWAYS, BEGAN) == ["Kill pod (silent)"]
    assert len(heal_actions.disruptive(found, heal_actions.DISRUPTIVE, BEGAN)) == 2


RETIRED = heal_actions.Answer("memory-climbing", ("Drain", "Kill"))
CLIMBING = "memory-climbing"


@pytest.mark.parametrize(
    ("found", "seconds"),
    [
        ([action(31, "Drain", CLIMBING), action(38, "Kill", CLIMBING, repaired=42)], 42.0),
        ([action(38, "Kill", CLIMBING, repaired=42), action(31, "Drain", CLIMBING)], 42.0),  # a list has no order
        ([action(31, "Drain", CLIMBING), action(38, "MoveAway", CLIMBING, repaired=42)], 42.0),  # its node was bad
        ([action(31, "Drain", CLIMBING), action(38, "Kill", CLIMBING)], None),  # it lasts
        ([action(31, "Drain", CLIMBING, repaired=42)], None),
        ([action(30, "Kill", CLIMBING), action(31, "Drain", CLIMBING, repaired=42)], None),  # killed at once
        ([action(31, "Drain", CLIMBING), action(38, "Kill", "process-hung", repaired=42)], None),
        ([action(31, "Drain", CLIMBING), action(38, "Kill", CLIMBING, "Failed", repaired=42)], None),
        ([action(31, "Drain", CLIMBING), action(38, "Kill", CLIMBING, boot_id="2", repaired=42)], None),
        ([action(-9, "Drain", CLIMBING), action(-2, "Kill", CLIMBING, repaired=3)], None),  # of an earlier fault
    ],
)
def test_a_fault_is_answered_when_all_was_done_in_order_to_one_life(
    found: list[heal_actions.Object], seconds: float | None
) -> None:
    """A life that the kernel killed meanwhile can be killed by nobody else: that would be no answer."""
    assert heal_actions.answered_s(found, RETIRED, BEGAN) == seconds


def test_what_was_only_said_is_answered_when_it_was_said() -> None:
    """However long it lasts."""
    said = heal_actions.Answer("shard-stopped", ("Alert",), over=False)
    assert heal_actions.answered_s([action(2, "Alert", "shard-stopped")], said, BEGAN) == 2.5


def test_a_run_that_failed_is_a_problem_also_without_the_healer() -> None:
    found = row(1.0)
    found.alone.append(Run(failed="n2 is not Ready"))
    assert problems(found) == ["frozen: n2 is not Ready"]


def test_an_error_of_the_proof_is_one_of_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour of other runs goes on."""
    monkeypatch.setattr(heal, "_settle", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(heal, "saved", lambda *_: "nowhere")
    found = row()
    heal._run(found.fault, cast(Scene, SimpleNamespace(platform=None)), found, "1 of 3", 60.0)
    assert ["ZeroDivisionError" in each.failed for each in found.runs] == [True]
    assert any("division by zero" in each for each in problems(found))


def test_a_soak_repeats_faults_but_those_that_each_run_has_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template that was rolled back is not rolled back again."""
    again, once = Fault("again", 5.0, frozen), Fault("once", 5.0, frozen, once=True)
    report = HealReport({each.name: Row(each) for each in (again, once)})

    def injected(_fault: Fault, _scene: Scene, found: Row, *_: object) -> None:
        found.runs.append(Run("pod", 1.0, BETS))
        if sum(len(each.runs) for each in report.rows.values()) == 50:
            raise Failed("enough")

    monkeypatch.setattr(heal, "_run", injected)
    scene, options = cast(Scene, SimpleNamespace()), Namespace(soak_hours=1.0, seed=7, watch_max=60.0)
    with pytest.raises(Failed, match="enough"):
        heal._soak([again, once], scene, report, options)
    assert report.seed == 7
    assert [len(report.rows[name].runs) for name in ("again", "once")] == [49, 1]
    heal._soak([once], scene, report, options)  # nothing is left: it ends


@pytest.mark.parametrize("rounds", [1, 10])
def test_each_round_has_every_fault_but_those_that_are_injected_once(
    monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    again, once = Fault("again", 5.0, frozen), Fault("once", 5.0, frozen, once=True)
    report = HealReport({each.name: Row(each) for each in (again, once)})
    monkeypatch.setattr(heal, "_run", lambda _fault, _scene, found, *_: found.runs.append(Run("pod", 1.0, BETS)))
    scene = cast(Scene, SimpleNamespace(platform=SimpleNamespace(is_there=lambda: True)))
    options = Namespace(soak_hours=None, watch_max=60.0, no_comparison=True)
    heal._run_all([again, once], [], scene, report, options, rounds)
    assert [len(report.rows[name].runs) for name in ("again", "once")] == [rounds, 1]


def test_what_took_longer_without_the_healer_is_none() -> None:
    found = row(1.0)
    found.alone.append(Run("pod", None, BETS))
    assert problems(found) == []


def test_what_fails_some_time_after_its_fault_is_not_back_before_it_has_failed() -> None:
    well = [Try(9.0, 9.1, True), Try(10.1, 10.2, True)]
    assert back_s(well, 10.0, must_fail=True) is None
    assert back_s([*well, Try(14.0, 14.1, False)], 10.0, must_fail=True) is None
    assert back_s([*well, Try(14.0, 14.1, False), Try(20.0, 20.1, True)], 10.0, must_fail=True) == pytest.approx(10.1)


def test_faults_that_are_the_same_without_the_healer_show_the_time_of_one() -> None:
    others = {each.name for each in FAULTS if each.alone and not each.same_alone}
    assert {each.same_alone for each in FAULTS if each.same_alone} <= others
    killed, at_night = row(1.0), Row(Fault("at-night", 5.0, frozen, same_alone="frozen"), [])
    killed.alone.append(Run("pod", 31.0, BETS))
    report = HealReport({"frozen": killed, "at-night": at_night})
    assert report.without_healer(at_night) == report.without_healer(killed) == killed.alone


def test_disturbances_are_tried_together_where_both_are_chosen() -> None:
    found = [[each.name for each in group] for group in groups(QUIETS)]
    assert ["busy-nodes", "packets-lost"] in found
    assert sorted(name for group in found for name in group) == sorted(each.name for each in QUIETS)
    assert groups(each for each in QUIETS if each.name == "packets-lost") == [
        [each for each in QUIETS if each.name == "packets-lost"]
    ]


def test_lost_bets_a_failed_audit_and_one_that_was_not_made_are_problems() -> None:
    assert problems(row(1.0), Evidence(80, 2, {}, "", 54)) == ["2 acknowledged bets are not in the journal"]
    assert problems(row(1.0), Evidence(80, 0, {}, "books do not balance", 0)) == [
        "the audit does not hold: books do not balance"
    ]
    assert problems(row(1.0), None) == ["the journal was not asked about the acknowledged bets"]


@pytest.mark.parametrize(
    ("tries", "back"),
    [
        ([Try(9.0, 9.1, True), Try(10.0, 10.1, True)], 0.0),
        ([Try(9.0, 9.1, True)], None),  # nothing since the fault
        ([Try(10.0, 11.0, False), Try(11.1, 11.2, True)], 1.2),
        ([Try(10.0, 11.0, False), Try(11.1, 11.2, True), Try(12.0, 13.0, False), Try(13.1, 13.5, True)], 3.5),
        ([Try(10.0, 11.0, True), Try(11.1, 12.0, False)], None),
        ([Try(10.0, 12.0, False), Try(10.5, 10.6, True), Try(12.5, 12.6, True)], 2.6),
    ],
)
def test_a_part_is_back_with_the_first_call_that_is_answered_after_the_last_that_was_not(
    tries: list[Try], back: float | None
) -> None:
    """Nine tenths of them may work while one of two instances hangs: that is not back. back: after 10.0."""
    assert back_s(tries, 10.0 - 0.01) == (None if back is None else pytest.approx(back, abs=0.02))


def test_every_fault_says_what_it_is_and_has_a_budget() -> None:
    """The names are those of the command line: each once."""
    assert len({each.name for each in FAULTS}) == len(FAULTS)
    assert all(each.summary and each.budget_s > 0 for each in FAULTS)


def test_services_with_all_of_their_pods_on_one_node_are_found() -> None:
    """One pod alone is together with nothing."""
    services = {"a": ["n1", "n1"], "b": ["n1", "n2"], "c": ["n2"], "d": ["n2", "n2", "n2"]}
    assert together(services) == ["a", "d"]
    assert together(services, "n2") == ["d"]
    assert together(services, "n3") == []
