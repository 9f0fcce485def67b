"""The word of an instance's callers: one vantage point more, and one that contradicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from healing_scenes import Scenario, certainty_of, life, no_beat, over, silent_to_healer, silent_to_platform

from betting.life import Life
from betting_operator.healing.actions import Kill, MarkDead
from betting_operator.healing.diagnoses import Certainty, Kind
from betting_operator.healing.signals import Database, Observation, Report

WALLET = "wallet-service"
Change = Callable[[Observation], Observation]


def reported(
    seen: Observation, instance: str = WALLET, *, silent_ms: int = 0, unanswered: int = 5, answered: int | None = None
) -> Observation:
    """The gateway's word on one instance."""
    report = Report("api-gateway", life(instance), unanswered if silent_ms else 0, silent_ms, answered)
    return replace(seen, reports=(*seen.reports, report))


def unheard(seen: Observation) -> Observation:
    """Callers have had no answer since the beginning."""
    return reported(seen, silent_ms=seen.at_ms)


@pytest.mark.parametrize("probe", [silent_to_healer, silent_to_platform])
def test_callers_and_one_probe_are_proof(probe: Callable[..., Observation]) -> None:
    """Two vantage points with another source and path."""
    scenario = Scenario()
    scenario.live(*over(2_500, lambda s: unheard(probe(s, s.at_ms, WALLET))))
    assert not scenario.done(Kill)
    scenario.live(*over(1_000, lambda s: unheard(probe(s, s.at_ms, WALLET)), start_ms=3_000))
    assert scenario.done(Kill) == [Kill(life(WALLET))]


@pytest.mark.parametrize(
    ("change", "certainty"),
    [
        (unheard, Certainty.SUSPECTED),
        (lambda s: reported(s, silent_ms=s.at_ms, unanswered=1), None),
        (lambda s: replace(unheard(s), database=Database.AWAY), None),
        (
            lambda s: reported(silent_to_healer(s, s.at_ms, WALLET), "user-service", silent_ms=s.at_ms),
            Certainty.SUSPECTED,
        ),
        (lambda s: reported(silent_to_healer(s, s.at_ms, WALLET), answered=400), Certainty.CANNOT_TELL),
        (
            lambda s: reported(silent_to_platform(silent_to_healer(s, s.at_ms, WALLET), s.at_ms, WALLET), answered=900),
            Certainty.CANNOT_TELL,
        ),
        (
            lambda s: reported(
                silent_to_platform(silent_to_healer(s, s.at_ms, WALLET), s.at_ms, WALLET), answered=s.at_ms
            ),
            Certainty.CONFIRMED,
        ),
    ],
    ids=[
        "callers alone",
        "one slow call",
        "Postgres away",
        "another instance",
        "it answers callers, one probe",
        "it answers callers, both probes",
        "it answered them before",
    ],
)
def test_callers_alone_are_no_proof_and_their_answers_contradict(change: Change, certainty: Certainty | None) -> None:
    """Present, missing, contradictory; a word on another instance is none on this one."""
    scenario = Scenario()
    tick = scenario.live(*over(3_500, change))
    assert certainty_of(tick, Kind.PROCESS_HUNG, WALLET) is certainty
    assert bool(scenario.done(Kill)) is (certainty is Certainty.CONFIRMED)


def test_callers_and_a_missing_beat_may_both_be_the_way_to_postgres() -> None:
    """Nobody's beats arrive: suspected, and left alone. Others' do: it is cut off by itself, and loses its shards."""

    def cut_off(seen: Observation, *owners: Life) -> Observation:
        return no_beat(reported(seen, "bet-service-2", silent_ms=seen.at_ms), seen.at_ms, *owners)

    scenario = Scenario()
    tick = scenario.live(*over(9_000, lambda s: cut_off(s, life("bet-service-2"), life("bet-service-1"))))
    assert certainty_of(tick, Kind.PROCESS_HUNG, "bet-service-2") is Certainty.SUSPECTED
    assert not scenario.done(Kill)
    scenario = Scenario()
    scenario.live(*over(3_000, lambda s: cut_off(s, life("bet-service-2"))))
    assert scenario.done(MarkDead) == [MarkDead(life("bet-service-2"), 1)]
    assert scenario.done(Kill) == [Kill(life("bet-service-2"))]


def test_what_callers_said_before_a_gap_in_postgres_does_not_count() -> None:
    """A service that waited for Postgres let its callers wait; a full window begins when it is back."""
    scenario = Scenario()
    scenario.live(*over(5_000, lambda s: replace(unheard(s), database=Database.AWAY)))
    back = scenario.live(*over(2_500, lambda s: unheard(silent_to_healer(s, s.at_ms, WALLET)), start_ms=5_500))
    assert certainty_of(back, Kind.PROCESS_HUNG, WALLET) is Certainty.SUSPECTED
    later = scenario.live(*over(1_000, lambda s: unheard(silent_to_healer(s, s.at_ms, WALLET)), start_ms=8_500))
    assert certainty_of(later, Kind.PROCESS_HUNG, WALLET) is Certainty.CONFIRMED
