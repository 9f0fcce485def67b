"""A node that is lost is one fault: what ran on it is replaced at once, also where it was much of the platform."""

from __future__ import annotations

from dataclasses import replace

import pytest
from healing_scenes import Scenario, calm, certainty_of, life, no_beat, on_nodes, over, silent_to_healer, unheard

from betting_operator.healing.actions import Alert, Kill, MarkDead, MoveAway, Place
from betting_operator.healing.diagnoses import Certainty, Kind
from betting_operator.healing.policy import Policy, ServiceLimits
from betting_operator.healing.redis_signals import NOBODY, Redis, RedisNode, RedisRole
from betting_operator.healing.signals import Capability, Observation, Phase, Process, Report

ONE, TWO = life("bet-service-1"), life("bet-service-2")
LOST = ("bet-service-2", "wallet-service", "user-service")
WELL = ("bet-service-1", "api-gateway", "event-service")


def placed(seen: Observation) -> Observation:
    """Half of the platform on each of two nodes."""
    return on_nodes(seen, well=WELL, lost=LOST)


def lost(seen: Observation) -> Observation:
    """Nothing on one of them has been heard since the scenario began."""
    return unheard(placed(seen), *LOST)


def called(seen: Observation, instance: str, *, silent_ms: int = 0, answered_ms_ago: int | None = None) -> Observation:
    """The gateway waits for this one, or had an answer so long ago."""
    report = Report("api-gateway", life(instance), 3 if silent_ms else 0, silent_ms, answered_ms_ago)
    return replace(seen, reports=(*seen.reports, report))


def killed(scenario: Scenario) -> set[str]:
    return {action.life.instance for action in scenario.done(Kill) if isinstance(action, Kill)}


def test_owners_of_a_lost_node_are_dead_after_three_seconds_and_their_shards_placed() -> None:
    """A third of the platform and half of a service are silent at once: that is the node's, not a shared cause."""
    scenario = Scenario()
    scenario.live(*over(2_500, lost))
    assert not scenario.actions
    tick = scenario.live(lost(calm(3_000)))
    assert MarkDead(TWO, 1) in tick.plan.actions
    assert Place(((2, ONE), (3, ONE)), 1) in tick.plan.actions
    assert certainty_of(tick, Kind.NODE_LOST, "lost") is Certainty.CONFIRMED
    assert Kind.SHARED_CAUSE not in {each.kind for each in tick.diagnoses}


def test_everything_on_a_lost_node_is_deleted_and_nothing_elsewhere() -> None:
    """So that it starts on another node, long before Kubernetes gives the node up."""
    scenario = Scenario()
    scenario.live(*over(10_000, lost))
    assert killed(scenario) == set(LOST)


def test_a_person_is_told_of_a_lost_node_once() -> None:
    scenario = Scenario()
    scenario.live(*over(10_000, lost))
    assert [alert.about for alert in scenario.done(Alert) if isinstance(alert, Alert)] == [Kind.NODE_LOST]


@pytest.mark.parametrize(
    "contradicted",
    [
        lambda seen: no_beat(lost(seen), 900, TWO),
        lambda seen: called(lost(seen), "wallet-service", answered_ms_ago=400),
        lambda seen: no_beat(lost(seen), seen.at_ms, ONE, TWO),
    ],
    ids=["an owner there beats", "it answers a caller", "nobody beats: it is Postgres"],
)
def test_a_node_is_not_lost_while_a_second_vantage_point_contradicts_or_cannot_tell(contradicted: object) -> None:
    """Then it is the healer's own way there, or what all of them need."""
    scenario = Scenario()
    scenario.live(*over(9_000, contradicted))
    assert not scenario.done(MarkDead)
    assert not scenario.done(Kill)


def test_a_node_where_redis_answers_is_not_lost() -> None:
    """Its pings are a way there too."""
    redis = Redis(NOBODY, 0, (RedisNode("redis-0", "1", 0, True, RedisRole.REPLICA),))

    def change(seen: Observation) -> Observation:
        node = Process("valkey", "redis-0", "1", Phase.RUNNING, 0, node="lost")
        found = lost(seen)
        return replace(found, processes=(*(found.processes or ()), node), redis=redis)

    scenario = Scenario()
    scenario.live(*over(9_000, change))
    assert not scenario.done(Kill)


def test_more_silent_than_well_nodes_are_a_shared_cause() -> None:
    """The healer is on the node that is cut off, or what they all need is away."""

    def change(seen: Observation) -> Observation:
        silent = ("wallet-service", "user-service", "event-service", "bet-service-2")
        there = {"a": silent[:2], "b": silent[2:], "c": ("bet-service-1", "api-gateway")}
        return unheard(on_nodes(seen, **there), *silent)

    scenario = Scenario()
    tick = scenario.live(*over(9_000, change))
    assert not scenario.done(MarkDead)
    assert not scenario.done(Kill)
    assert certainty_of(tick, Kind.SHARED_CAUSE, "platform") is Certainty.CONFIRMED


def test_a_zone_of_several_nodes_is_lost_as_its_nodes_are() -> None:
    """As many others are well."""
    there = {
        "a1": ("bet-service-2", "user-service"),
        "a2": ("wallet-service", "odds-service"),
        "b1": ("bet-service-1", "api-gateway"),
        "b2": ("event-service",),
    }

    def change(seen: Observation) -> Observation:
        more = Process("odds-service", "odds-service", "1", Phase.RUNNING, 0)
        probe = replace(seen.probes[0], life=life("odds-service"))
        seen = replace(seen, processes=(*(seen.processes or ()), more), probes=(*seen.probes, probe))
        seen = unheard(on_nodes(seen, **there), *there["a1"], *there["a2"])
        return called(seen, "wallet-service", silent_ms=seen.at_ms)

    scenario = Scenario()
    scenario.live(*over(4_000, change))
    assert MarkDead(TWO, 1) in scenario.actions
    assert killed(scenario) == {*there["a1"], *there["a2"]}


STATELESS = ("wallet-service", "user-service")


def stateless_lost(seen: Observation) -> Observation:
    """No bet-service runs on the silent node."""
    return unheard(on_nodes(seen, a=STATELESS, b=("bet-service-1", "bet-service-2", "api-gateway")), *STATELESS)


def test_a_node_without_a_bet_service_is_lost_when_callers_wait_for_it_too() -> None:
    scenario = Scenario()
    scenario.live(*over(4_000, lambda seen: called(stateless_lost(seen), "wallet-service", silent_ms=seen.at_ms)))
    assert killed(scenario) == set(STATELESS)


def test_silence_to_the_healer_alone_is_no_lost_node() -> None:
    """One vantage point: it may be the healer's own way there."""
    scenario = Scenario()
    tick = scenario.live(*over(30_000, stateless_lost))
    assert not scenario.done(Kill)
    assert certainty_of(tick, Kind.PROCESS_HUNG, "wallet-service") is Certainty.CANNOT_TELL


def test_what_is_left_on_a_lost_node_is_deleted_when_its_turn_comes() -> None:
    """The others are being deleted already, and are asked no more: that the node is lost is still known."""

    def later(seen: Observation) -> Observation:
        deleted = {"bet-service-2", "wallet-service"}
        processes = (
            replace(p, phase=Phase.STOPPING) if p.instance in deleted else p for p in lost(seen).processes or ()
        )
        probes = tuple(p for p in lost(seen).probes if p.life.instance not in deleted)
        return replace(lost(seen), processes=tuple(processes), probes=probes)

    scenario = Scenario()
    scenario.live(*over(3_000, lost))
    tick = scenario.live(*over(3_000, later, 3_500))
    assert certainty_of(tick, Kind.PROCESS_HUNG, "user-service") is Certainty.CONFIRMED


def test_an_owner_that_was_being_stopped_on_a_lost_node_is_dead_too() -> None:
    """A roll-out had told it to end; nobody will report that it did."""

    def change(seen: Observation) -> Observation:
        stopping = (
            replace(p, phase=Phase.STOPPING) if p.instance == "bet-service-2" else p
            for p in called(lost(seen), "wallet-service", silent_ms=seen.at_ms).processes or ()
        )
        seen = called(lost(seen), "wallet-service", silent_ms=seen.at_ms)
        return replace(seen, processes=tuple(stopping))

    scenario = Scenario()
    scenario.live(*over(4_000, change))
    assert MarkDead(TWO, 1) in scenario.actions


def test_a_node_that_answers_again_is_not_lost_any_more() -> None:
    """It was cut off, and is back."""
    scenario = Scenario()
    scenario.live(*over(4_000, lost))
    tick = scenario.live(placed(calm(4_500)))
    assert certainty_of(tick, Kind.NODE_LOST, "lost") is None
    assert certainty_of(tick, Kind.PROCESS_HUNG, "wallet-service") is None


def test_a_healer_that_was_paused_looks_for_its_full_time_again() -> None:
    """Its own pause is no silence of others."""
    scenario = Scenario()
    scenario.live(placed(calm(0)), replace(lost(calm(10_000)), late_ms=9_500))
    scenario.live(*over(2_000, lost, 10_500))
    assert not scenario.actions
    scenario.live(lost(calm(13_000)))
    assert MarkDead(TWO, 1) in scenario.actions


def test_a_process_that_hangs_beside_others_that_answer_is_no_lost_node() -> None:
    """The evidence about it alone decides, as everywhere."""
    change = lambda seen: silent_to_healer(placed(seen), seen.at_ms, "wallet-service", "user-service")  # noqa: E731
    scenario = Scenario()
    tick = scenario.live(*over(9_000, change))
    assert not scenario.actions
    assert certainty_of(tick, Kind.NODE_LOST, "lost") is None


SLEPT_MS = 20_000


def waking(seen: Observation) -> Observation:
    """Everything slept but the healer; one node after the other is back, this one a second and a half later."""
    there = {"a": ("bet-service-1", "api-gateway"), "b": ("event-service", "user-service"), "lost": LOST[:2]}
    silent = there["lost"] if seen.at_ms >= SLEPT_MS else sum(there.values(), ())
    return unheard(on_nodes(seen, **there), *silent)


def test_the_node_that_wakes_up_last_of_all_is_not_lost() -> None:
    """Everything was silent a moment ago: that the others answer already proves nothing about the rest."""
    scenario = Scenario()
    scenario.live(*over(SLEPT_MS + 1_500, waking))
    assert not scenario.done(MarkDead)
    assert not scenario.done(Kill)
    scenario.live(*over(4_000, waking, SLEPT_MS + 2_000))
    assert MarkDead(TWO, 1) in scenario.actions, "it has not come back with the others"


def test_where_the_platform_can_what_was_on_a_lost_node_is_moved_and_not_only_deleted() -> None:
    """Kubernetes does not know yet that the node is lost: what is only deleted would start there again, or wait."""
    can = (Capability.MOVE_AWAY,)
    scenario = Scenario()
    scenario.live(*over(4_000, lambda seen: replace(lost(seen), capabilities=can)))
    moved = {action.life.instance for action in scenario.done(MoveAway) if isinstance(action, MoveAway)}
    assert moved == set(LOST)
    assert not scenario.done(Kill)
    scenario.live(*over(12_000, lambda seen: replace(lost(seen), capabilities=can), 4_500))
    assert killed(scenario) == set(LOST), "it could not be moved: nowhere to go, say"


def never_heard(seen: Observation) -> Observation:
    """The healer began after the node was lost: it does not know which lives run there, and asks them in vain."""
    found = lost(seen)
    processes = (
        replace(p, boot_id="", silent_ms=seen.at_ms) if p.instance in LOST else p for p in found.processes or ()
    )
    probes = (probe for probe in found.probes if probe.life.instance not in LOST)
    return replace(no_beat(found, 60_000, TWO), processes=tuple(processes), probes=tuple(probes))


def test_a_healer_that_began_after_the_node_was_lost_marks_its_owners_dead_too() -> None:
    """The node of the leading operator: the next healer has never heard anything there."""
    scenario = Scenario()
    scenario.live(*over(2_500, never_heard))
    assert not scenario.done(MarkDead)
    tick = scenario.live(never_heard(calm(3_000)))
    assert MarkDead(TWO, 1) in tick.plan.actions
    assert Place(((2, ONE), (3, ONE)), 1) in tick.plan.actions
    scenario.live(*over(10_000, never_heard, 3_500))
    assert not scenario.done(Kill), "whose life is not known is not ended"


def test_how_much_of_a_service_must_stay_healthy_holds_up_nothing_on_a_lost_node() -> None:
    """Nothing healthy is lost with it. A process that hangs by itself is left, as the policy says."""
    limits = ServiceLimits("bet-service", disruptions_per_window=10, healthy_percent_min=60)
    scenario = Scenario(Policy(services=(limits,)))
    scenario.live(*over(4_000, lost))
    assert "bet-service-2" in killed(scenario)
    scenario = Scenario(Policy(services=(limits,)))
    scenario.live(*over(9_000, lambda seen: unheard(placed(seen), "bet-service-2")))
    assert MarkDead(TWO, 1) in scenario.actions
    assert not scenario.done(Kill)
