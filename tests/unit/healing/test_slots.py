"""Limits count by workload and slot: a pod that is replaced under a new name is the same place failing again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from healing_scenes import Scenario, calm, certainty_of

from betting.life import Life
from betting_operator.healing.actions import Alert, Kill
from betting_operator.healing.brain import Tick
from betting_operator.healing.diagnoses import Certainty, Kind
from betting_operator.healing.signals import Answer, Exit, Observation, Phase, Probe, Process
from betting_operator.healing.slots import slot_of

WORKLOAD = "wallet-service"
LETTERS = "bcdfghjk"


def pod(number: int) -> str:
    """The name of the nth replacement."""
    return f"{WORKLOAD}-7c9d8f-x2x4{LETTERS[number]}"


@pytest.mark.parametrize(
    ("instance", "slot"),
    [
        ("bet-service-1", "bet-service-1"),
        ("bet-service", "bet-service"),
        ("bet-service-12", "bet-service-12"),
        ("bet-service-7c9d8f-x2x4q", "bet-service"),
        ("release-bet-service-5d88f56d4-zk2xv", "bet-service"),
        ("bet-service-7c9d8f-x2x4q-0", "bet-service-7c9d8f-x2x4q-0"),
        ("bet-service-live-agent", "bet-service-live-agent"),
    ],
)
def test_pods_of_a_deployment_share_the_slot_of_their_workload(instance: str, slot: str) -> None:
    """Whoever keeps its name has one of its own."""
    assert slot_of("bet-service", instance) == slot


def with_pods(at_ms: int, *names: str, ended: str = "", silent_ms: int = -1) -> Observation:
    """These pods run; one has ended just now; all are silent for so long, -1: they answer."""
    seen = calm(at_ms)
    others = tuple(p for p in seen.processes or () if p.workload != WORKLOAD)
    pods = tuple(Process(WORKLOAD, name, "1", Phase.RUNNING, 0, max(0, silent_ms)) for name in names)
    answer = Answer.SILENT if silent_ms >= 0 else Answer.SERVING
    probes = (*(p for p in seen.probes if p.life.workload != WORKLOAD),)
    probes += tuple(Probe(Life(WORKLOAD, name, "1"), answer, max(0, silent_ms)) for name in names)
    exits = (Exit(Life(WORKLOAD, ended, "1"), at_ms, "exit code 1"),) if ended else ()
    return replace(seen, processes=(*others, *pods), probes=probes, exits=exits)


def test_pods_that_are_replaced_and_crash_again_and_again_are_a_crash_loop() -> None:
    """Of the workload; a person is alerted once."""
    scenario = Scenario()
    for number in range(4):
        scenario.live(with_pods(number * 20_000, pod(number + 1), ended=pod(number)))
    assert not scenario.done(Alert)
    tick = scenario.live(with_pods(80_000, pod(5), ended=pod(4)), with_pods(80_500, pod(5)))
    assert certainty_of(tick, Kind.CRASH_LOOP, WORKLOAD) is Certainty.CONFIRMED
    assert [alert.about for alert in scenario.done(Alert) if isinstance(alert, Alert)] == [Kind.CRASH_LOOP]


def test_a_rollout_that_replaces_every_pod_once_is_no_crash_loop() -> None:
    """Six pods, six exits."""
    scenario = Scenario()
    old = [f"{WORKLOAD}-7c9d8f-x2x4{letter}" for letter in LETTERS[:6]]
    new = [f"{WORKLOAD}-9d8f7c-x2x4{letter}" for letter in LETTERS[:6]]
    for number in range(6):
        tick: Tick = scenario.live(with_pods(number * 5_000, *new[: number + 1], *old[number + 1 :], ended=old[number]))
    assert certainty_of(tick, Kind.CRASH_LOOP, WORKLOAD) is None


def test_exits_of_the_version_before_prove_nothing_about_the_next_one() -> None:
    """Four pods of the old template were killed, then one of the new one ends: five exits, of two versions."""
    scenario = Scenario()
    for number in range(4):
        scenario.live(with_pods(number * 20_000, pod(number + 1), ended=pod(number)))
    new = f"{WORKLOAD}-9d8f7c-x2x4"
    tick = scenario.live(with_pods(80_000, pod(4), f"{new}d", ended=f"{new}c"))
    assert certainty_of(tick, Kind.CRASH_LOOP, WORKLOAD) is None
    for number in range(4):
        last = with_pods(100_000 + number * 20_000, pod(4), f"{new}d", ended=f"{new}{LETTERS[number + 2]}")
        tick = scenario.live(last)
    assert certainty_of(tick, Kind.CRASH_LOOP, WORKLOAD) is Certainty.CONFIRMED
    [found] = [each for each in tick.diagnoses if each.kind is Kind.CRASH_LOOP]
    assert found.evidence == ("5 exits of 5 pods in 300 s",)


def test_what_the_platform_was_told_to_end_is_no_crash_loop() -> None:
    """An upgrade and its roll-back within minutes: more exits than pods, all of them ordered."""
    scenario = Scenario()
    for number in range(1, 8):
        seen = with_pods(number * 20_000, pod(number), ended=pod(number - 1))
        seen = replace(seen, exits=tuple(replace(each, ordered=True) for each in seen.exits))
        assert certainty_of(scenario.live(seen), Kind.CRASH_LOOP, WORKLOAD) is None


def hanging(scenario: Scenario, number: int, start_ms: int) -> None:
    """The nth pod hangs from its beginning, beside one that is well."""
    for silent_ms in range(0, 8_001, 500):
        seen = with_pods(start_ms + silent_ms, pod(number), silent_ms=silent_ms)
        well = f"{WORKLOAD}-7c9d8f-zzzzz"
        scenario.live(
            replace(
                seen,
                processes=(*(seen.processes or ()), Process(WORKLOAD, well, "1", Phase.RUNNING, 0)),
                probes=(*seen.probes, Probe(Life(WORKLOAD, well, "1"), Answer.SERVING, 0)),
            )
        )


def test_kills_in_vain_are_counted_across_the_names_of_replaced_pods() -> None:
    """After three a person must look, although the fourth name was never killed."""
    scenario = Scenario()
    for number in range(5):
        hanging(scenario, number, number * 8_500)
    assert len(scenario.done(Kill)) == 3
    assert any(d.kind is Kind.HEALING_EXHAUSTED for d in scenario.ticks[-1].diagnoses)
