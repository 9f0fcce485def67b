"""Slow, failing, large: who is retired, who is only told of, and of whom nobody can tell."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

import pytest
from healing_scenes import Scenario, certainty_of, life, process
from hypothesis import given
from hypothesis import strategies as st

from betting.life import Life
from betting_operator.healing import grey
from betting_operator.healing.actions import Action, Alert, Drain, Kill
from betting_operator.healing.diagnoses import Certainty, Kind
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import (
    Answer,
    Database,
    Observation,
    Owner,
    Phase,
    Probe,
    Report,
    Shard,
    Size,
)

MIB = 1024 * 1024
SLOW_US, USUAL_US = 250_000, 10_000
ONE, TWO, THREE = (life(f"bet-service-{n}") for n in (1, 2, 3))


def cluster(
    at_ms: int,
    *slow: Life,
    peers: int = 3,
    owned: tuple[Life, ...] = (ONE, TWO, THREE),
    left: Life | None = None,
    calls: int = 100,
) -> Observation:
    """A few bet-services with a shard each, as one gateway sees them. left: who drains."""
    names = [f"bet-service-{n}" for n in range(1, peers + 1)]
    reports = [
        Report("api-gateway", life(name), 0, 0, 5, calls, 0, SLOW_US if life(name) in slow else USUAL_US)
        for name in names
        if life(name) != left
    ]
    return Observation(
        at_ms=at_ms,
        term=1,
        processes=tuple(process(name) for name in names),
        probes=tuple(Probe(life(name), Answer.SERVING, 0) for name in names),
        reports=tuple(reports),
        database=Database.OK,
        owners=tuple(Owner(life(name), 100, draining=life(name) == left, exited=False) for name in names),
        shards=tuple(Shard(n, owner, 1, "owned", owner) for n, owner in enumerate(owned)),
    )


def lived(scenario: Scenario, until_ms: int, *slow: Life, start_ms: int = 0, **options: object) -> list[Action]:
    """Half-second ticks up to this time; returns what was done besides telling."""
    before = len(scenario.actions)
    for at_ms in range(start_ms, until_ms + 1, 500):
        scenario.live(cluster(at_ms, *slow, **options))  # type: ignore[arg-type]
    return [action for action in scenario.actions[before:] if not isinstance(action, Alert)]


def test_an_outlier_among_three_is_drained_and_killed_when_it_has_handed_on_its_shards() -> None:
    """After ten seconds; remembered while nobody calls it any more."""
    scenario = Scenario()
    assert lived(scenario, 9_500, TWO) == []
    assert lived(scenario, 10_000, TWO, start_ms=10_000) == [Drain(TWO, 1)]
    handing = lived(scenario, 12_000, start_ms=10_500, left=TWO)
    assert not [action for action in handing if isinstance(action, Kill)]
    assert "1 left" in next(d.reason for d in scenario.ticks[-1].plan.declined if d.kind is Kind.GREY_FAILURE)
    empty = lived(scenario, 12_500, start_ms=12_500, left=TWO, owned=(ONE, ONE, THREE))
    assert empty == [Kill(life("bet-service-2"))]


def test_errors_make_an_outlier_too() -> None:
    """A third of the calls fails, of the others' none."""
    scenario = Scenario()
    for at_ms in range(0, 10_001, 500):
        seen = cluster(at_ms)
        failing = (replace(r, failures=33) if r.life.instance == "bet-service-3" else r for r in seen.reports)
        scenario.live(replace(seen, reports=tuple(failing)))
    assert scenario.done(Drain) == [Drain(THREE, 1)]


@pytest.mark.parametrize(
    ("slow", "options", "certainty"),
    [
        ((TWO,), {"peers": 2, "owned": (ONE, TWO)}, Certainty.CANNOT_TELL),
        ((TWO, THREE), {}, None),
        ((TWO, THREE), {"peers": 7}, Certainty.CANNOT_TELL),
        ((ONE, TWO, THREE), {}, None),
        ((TWO,), {"calls": 19}, None),
    ],
    ids=["of two", "most are slow", "two of seven", "all are slow", "too few calls"],
)
def test_without_enough_peers_or_calls_nobody_can_tell(
    slow: tuple[Life, ...], options: dict[str, object], certainty: Certainty | None
) -> None:
    """And nothing is done."""
    scenario = Scenario()
    assert lived(scenario, 30_000, *slow, **options) == []
    assert certainty_of(scenario.ticks[-1], Kind.GREY_FAILURE, "bet-service-2") is certainty


def test_a_caller_that_finds_it_well_contradicts() -> None:
    """It is the way from the other caller."""
    scenario = Scenario()
    for at_ms in range(0, 15_001, 500):
        seen = cluster(at_ms, TWO)
        other = tuple(replace(r, caller="wallet-service", p90_us=USUAL_US) for r in seen.reports)
        scenario.live(replace(seen, reports=(*seen.reports, *other)))
    assert certainty_of(scenario.ticks[-1], Kind.GREY_FAILURE, "bet-service-2") is None


def test_it_has_to_last() -> None:
    """A good look in between, or Postgres away: ten whole seconds again."""
    scenario = Scenario()
    lived(scenario, 9_500, TWO)
    lived(scenario, 10_000, start_ms=10_000)
    assert lived(scenario, 20_000, TWO, start_ms=10_500) == []
    scenario.live(replace(cluster(20_500, TWO), database=Database.AWAY, owners=None, shards=None))
    assert lived(scenario, 30_500, TWO, start_ms=21_000) == []
    assert lived(scenario, 31_000, TWO, start_ms=31_000) == [Drain(TWO, 1)]


def test_slowness_that_follows_the_shards_is_a_hot_shard() -> None:
    """Who took them is not retired for it; a person is told which."""
    scenario = Scenario()
    lived(scenario, 12_000, TWO)
    assert scenario.done(Drain) == [Drain(TWO, 1)]
    moved = lived(scenario, 30_000, ONE, start_ms=12_500, left=TWO, owned=(ONE, ONE, THREE), peers=4)
    acted = {action for action in moved if isinstance(action, Drain | Kill)}
    assert acted == {Kill(life("bet-service-2"))}
    assert certainty_of(scenario.ticks[-1], Kind.HOT_SHARD, "bet-service-1") is Certainty.CONFIRMED


def test_nobody_is_drained_where_the_others_are_not_well_or_healing_is_paused() -> None:
    """It is better than none; there is a reason."""
    scenario = Scenario()
    for at_ms in range(0, 12_001, 500):
        seen = cluster(at_ms, TWO)
        owners = tuple(replace(o, beat_age_ms=9_000) if o.life == ONE else o for o in seen.owners or ())
        scenario.live(replace(seen, owners=owners))
    assert not scenario.done(Drain)
    assert any("better than none" in d.reason for d in scenario.ticks[-1].plan.declined)
    paused = Scenario(Policy(paused="network work"))
    lived(paused, 12_000, TWO)
    assert not paused.done(Drain)


def test_a_slow_stateless_service_is_killed_while_its_peers_are_well() -> None:
    """It owns nothing that had to be handed on."""

    def gateways(at_ms: int, phase: Phase = Phase.RUNNING) -> Observation:
        seen = cluster(at_ms)
        names = ("odds-service-1", "odds-service-2", "odds-service-3")
        reports = tuple(
            Report("api-gateway", life(n), 0, 0, 5, 50, 0, SLOW_US if n == names[0] else USUAL_US) for n in names
        )
        third = process(names[2], phase=phase)
        processes = (*(seen.processes or ()), process(names[0]), process(names[1]), third)
        return replace(seen, processes=processes, reports=reports)

    scenario = Scenario()
    scenario.live(*(gateways(at_ms) for at_ms in range(0, 10_001, 500)))
    assert scenario.done(Kill) == [Kill(life("odds-service-1"))]


def sized(at_ms: int, resident: int, explained: int, instance: str = "bet-service-2") -> Observation:
    """One process of this size."""
    return replace(cluster(at_ms, peers=2, owned=(ONE, TWO)), sizes=(Size(life(instance), resident, explained),))


def test_memory_that_nothing_explains_is_given_back_in_order() -> None:
    """Half a gigabyte for half a minute: drained, two bet-services are enough for that."""
    scenario = Scenario()
    scenario.live(*(sized(at_ms, 900 * MIB, 300 * MIB) for at_ms in range(0, 29_501, 500)))
    assert not scenario.done(Drain)
    scenario.live(sized(30_000, 900 * MIB, 300 * MIB))
    assert scenario.done(Drain) == [Drain(TWO, 1)]


def test_a_burst_that_is_given_back_is_none() -> None:
    """Or memory that open bets explain, while there is enough."""
    scenario = Scenario()
    for at_ms in range(0, 120_001, 500):
        scenario.live(sized(at_ms, 900 * MIB if at_ms % 20_000 else 200 * MIB, 300 * MIB))
    scenario.live(*(sized(at_ms, 3_000 * MIB, 2_600 * MIB) for at_ms in range(120_500, 160_001, 500)))
    assert scenario.actions == []


def test_open_bets_that_need_very_much_are_told() -> None:
    """A restart would load them again."""
    scenario = Scenario()
    scenario.live(*(sized(at_ms, 4_200 * MIB, 4_000 * MIB) for at_ms in range(0, 40_001, 500)))
    assert [a.about for a in scenario.done(Alert) if isinstance(a, Alert)] == [Kind.MEMORY_SHORT]
    assert not [*scenario.done(Drain), *scenario.done(Kill)]


@given(st.lists(st.integers(0, 3) | st.integers(0, 1_000_000), min_size=2, max_size=9))
def test_each_is_compared_with_the_median_of_the_others(p90_us: list[int]) -> None:
    """Worked out from one order of all of them: with hundreds of peers each is not compared with each."""
    reports = [
        Report("api-gateway", life(f"bet-service-{n}"), 0, 0, 5, 100, us % 101, us) for n, us in enumerate(p90_us)
    ]
    usual = grey.Usual(reports)
    for place, report in enumerate(reports):
        others = [*reports[:place], *reports[place + 1 :]]
        assert usual.p90_us_of_others(report) == median(each.p90_us for each in others)
        assert usual.failing_of_others(report) == median(each.failures / each.calls for each in others)
