"""Redis failover where nobody sees the primary end: it loses its replicas, and what it may acknowledge runs out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from healing_scenes import Scenario, certainty_of, life, on_nodes, unheard
from redis_scenes import ONE, THREE, TWO, down, gone, node, primary, recorded, silent, unrecorded, well

from betting.runtime.redis_link import MAX_LAG_S
from betting_operator.healing.actions import Action, Alert, Kill
from betting_operator.healing.brain import Tick
from betting_operator.healing.diagnoses import Certainty, Kind
from betting_operator.healing.policy import Policy
from betting_operator.healing.redis_actions import Follow, MoveRecord, Promote
from betting_operator.healing.redis_failover import DETACHED_MS
from betting_operator.healing.redis_signals import FailoverPhase, RedisRecord, RedisRole
from betting_operator.healing.signals import Exit, Observation, Phase

FENCING, DETACHED, PROMOTING = FailoverPhase.FENCING, FailoverPhase.DETACHED, FailoverPhase.PROMOTING
CANDIDATE = {"candidate": TWO, "candidate_boot_id": "1"}
DETACH_BOTH = [Follow(life(TWO), ""), Follow(life(THREE), "")]


def steps(tick: Tick) -> list[Action]:
    """What is done about Redis."""
    return [each for each in tick.plan.actions if not isinstance(each, Alert)]


def moved(tick: Tick) -> RedisRecord | None:
    """What the record is to say; None: it stays."""
    return next((each.to for each in tick.plan.actions if isinstance(each, MoveRecord)), None)


def once(seen: Observation, policy: Policy | None = None) -> Tick:
    """A healer that has watched three calm nodes for five seconds sees this."""
    watched = [three(at_ms) for at_ms in range(0, 5_001, 500)]
    return Scenario(policy or Policy()).live(*watched, replace(seen, at_ms=5_500))


def three(at_ms: int = 0) -> Observation:
    """Three nodes of which one must acknowledge, as on Kubernetes: the platform's own probe says nothing."""
    return well(at_ms, replicas=2, min_replicas=1)


def lost(seen: Observation, silent_ms: int = 4_000) -> Observation:
    """The primary's node is lost: it answers nobody, and its pod still counts as running."""
    return cut_off(silent(seen, ONE, silent_ms), silent_ms)


def cut_off(seen: Observation, heard_ms: int) -> Observation:
    """Neither replica has heard from the primary for so long."""
    return node(node(seen, TWO, heard_ms=heard_ms), THREE, heard_ms=heard_ms)


def detached(seen: Observation, *names: str) -> Observation:
    """These follow nobody."""
    for name in names:
        seen = node(seen, name, follows="")
    return seen


def record(phase: FailoverPhase, **more: object) -> RedisRecord:
    """The record of epoch 1 in this phase."""
    return RedisRecord(ONE, "1", 1, phase, min_replicas=1, **more)  # type: ignore[arg-type]


def test_the_wait_covers_what_valkey_may_still_count() -> None:
    """The age of a replica's last word in whole seconds, so up to one more; counted once a second; and one to spare."""
    assert DETACHED_MS >= (MAX_LAG_S + 3) * 1_000


def test_a_lost_primary_loses_its_replicas_then_waits_then_is_replaced() -> None:
    """Each step written first; the detachment is verified by what the replicas say, before the wait and after it."""
    seen = lost(three())
    assert moved(once(seen)) == record(FENCING)
    fencing = recorded(seen, FENCING)
    assert steps(once(fencing)) == DETACH_BOTH
    assert steps(once(detached(fencing, TWO))) == [Follow(life(THREE), "")]
    both = detached(fencing, TWO, THREE)
    assert moved(once(both)) == record(DETACHED)
    waiting = recorded(both, DETACHED, age_ms=DETACHED_MS - 100)
    assert moved(once(waiting)) is None
    over = recorded(both, DETACHED, age_ms=DETACHED_MS)
    assert moved(once(over)) == record(PROMOTING, candidate=THREE, candidate_boot_id="1")
    promoting = recorded(both, PROMOTING, candidate=THREE, candidate_boot_id="1")
    assert steps(once(promoting)) == [Promote(life(THREE))]
    served = node(promoting, THREE, role=RedisRole.PRIMARY)
    assert moved(once(served)) == RedisRecord(THREE, "1", 2, min_replicas=1)


def test_a_lost_node_with_much_of_the_platform_on_it_is_no_shared_cause() -> None:
    """The primary is silent together with its neighbours, and is confirmed after the same time."""
    neighbours = ("bet-service-2", "wallet-service", "user-service")
    elsewhere = ("bet-service-1", "api-gateway", "event-service", TWO, THREE)

    def seen(at_ms: int) -> Observation:
        silent_ms = at_ms - 5_000
        found = three(at_ms) if silent_ms <= 0 else lost(three(at_ms), silent_ms)
        found = on_nodes(found, lost=(*neighbours, ONE), well=elsewhere)
        return unheard(found, *neighbours, since_ms=5_000)

    scenario = Scenario()
    for at_ms in range(0, 8_001, 500):
        tick = scenario.live(seen(at_ms))
        assert moved(tick) == (record(FENCING) if at_ms == 8_000 else None), at_ms
    assert certainty_of(tick, Kind.NODE_LOST, "lost") is Certainty.CONFIRMED


def test_replicas_that_follow_again_void_the_wait() -> None:
    """A late order of an earlier healer: they are detached anew, and the wait begins anew."""
    both = detached(recorded(lost(three()), DETACHED, age_ms=9_000), TWO, THREE)
    assert moved(once(node(both, TWO, follows=ONE))) == record(FENCING)
    assert moved(once(node(both, TWO, fresh=False))) == record(FENCING)
    assert moved(once(node(both, TWO, follows="10.0.0.9:6379"))) == record(FENCING)


def test_a_primary_that_answers_again_is_left_in_place_and_gets_its_replicas_back() -> None:
    """Nobody was promoted yet."""
    both = detached(recorded(lost(three()), DETACHED, age_ms=9_000), TWO, THREE)
    again = node(both, ONE, silent_ms=0, fresh=True)
    assert moved(once(again)) == record(FailoverPhase.STEADY)
    steady = recorded(again, FailoverPhase.STEADY)
    assert steps(once(steady)) == [Follow(life(TWO), ONE), Follow(life(THREE), ONE)]


def test_a_frozen_primary_is_killed_during_the_wait_and_its_end_is_sooner() -> None:
    """Its node is well: there the platform ends it, and the exit is a fence at once. On a lost node nothing comes of
    it, and the wait goes on."""
    scenario = Scenario()
    scenario.live(*[three(at_ms) for at_ms in range(0, 5_001, 500)])
    both = detached(recorded(lost(three()), DETACHED, age_ms=500), TWO, THREE)
    assert steps(scenario.live(replace(both, at_ms=5_500))) == [Kill(life(ONE))]
    stopping = tuple(replace(p, phase=Phase.STOPPING) if p.instance == ONE else p for p in both.processes or ())
    assert steps(scenario.live(replace(both, at_ms=6_000, processes=stopping))) == []
    ended = recorded(gone(both), DETACHED, age_ms=1_500)
    assert moved(scenario.live(replace(ended, at_ms=6_500))) == record(
        PROMOTING, candidate=THREE, candidate_boot_id="1"
    )


def test_one_unanswered_ping_does_not_kill_a_primary_whose_failover_an_earlier_healer_began() -> None:
    """A healer that has just begun has watched nothing yet."""
    both = detached(recorded(lost(three()), DETACHED, age_ms=500), TWO, THREE)
    assert steps(Scenario().live(both)) == []


def test_what_the_primary_is_configured_for_must_be_known() -> None:
    """Not in the record, or less by its own word since: then it may take writes alone, and only its end is a fence."""
    fencing = recorded(lost(three()), FENCING)
    assert steps(once(node(fencing, ONE, min_replicas=0))) == [Kill(life(ONE))]
    unknown = recorded(fencing, FENCING, min_replicas=0)
    assert steps(once(unknown)) == [Kill(life(ONE))]
    both = detached(recorded(unknown, DETACHED, age_ms=9_000, min_replicas=0), TWO, THREE)
    assert moved(once(both)) == replace(record(FENCING), min_replicas=0)
    unheard_by_this_healer = node(fencing, ONE, boot_id="", role=RedisRole.UNKNOWN, min_replicas=0)
    assert steps(once(unheard_by_this_healer)) == DETACH_BOTH


def test_the_record_learns_what_the_primary_says_of_its_configuration() -> None:
    """When it is named, when it has been promoted, and when that changes while it serves."""
    first = node(unrecorded(), ONE, min_replicas=1)
    assert moved(once(first)) == RedisRecord(ONE, "1", 1, min_replicas=1)
    assert moved(once(node(three(), ONE, min_replicas=0))) == RedisRecord(ONE, "1", 1)
    assert moved(once(recorded(three(), FailoverPhase.STEADY, min_replicas=0))) == RedisRecord(
        ONE, "1", 1, min_replicas=1
    )
    silent_one = node(three(), ONE, silent_ms=1_000, fresh=False, min_replicas=0)
    assert moved(once(silent_one)) is None
    older = recorded(gone(three()), PROMOTING, **CANDIDATE)
    served = node(older, TWO, role=RedisRole.PRIMARY, follows="", min_replicas=0)
    assert moved(once(served)) == RedisRecord(TWO, "1", 2)


def test_too_few_replicas_to_detach_is_no_fence() -> None:
    """The one that does not answer may still acknowledge for the primary: the others keep what they follow, the
    primary's end is sought, and a person is called."""
    fencing = recorded(lost(three()), FENCING, age_ms=6_000)
    away = node(fencing, THREE, silent_ms=700, fresh=False)
    scenario = Scenario()
    scenario.live(*[three(at_ms) for at_ms in range(0, 5_001, 500)])
    assert steps(scenario.live(replace(away, at_ms=5_500))) == [Kill(life(ONE))]
    tick = scenario.live(replace(away, at_ms=6_000))
    assert steps(tick) == []
    assert certainty_of(tick, Kind.REDIS_BLOCKED, "redis") is Certainty.CONFIRMED
    assert any("no fence" in each.reason for each in tick.plan.declined)


def test_a_replica_whose_end_was_seen_needs_no_detaching_however_long_ago() -> None:
    """Its next life follows nobody until a healer says whom. That the platform has it down is no proof: its picture may
    be older than what a healer told the next life."""
    fencing = recorded(lost(three()), FENCING)
    is_down = down(detached(fencing, TWO), THREE)
    assert moved(once(is_down)) is None
    ended = replace(is_down, exits=(Exit(life(THREE), 5_400, "killed by SIGKILL"),))
    assert moved(once(ended)) == record(DETACHED)
    scenario = Scenario()
    scenario.live(*[three(at_ms) for at_ms in range(0, 5_001, 500)])
    away = replace(down(three(), THREE), exits=(Exit(life(THREE), 5_400, "killed by SIGKILL"),))
    scenario.live(replace(away, at_ms=5_500))
    for at_ms in range(6_000, 400_000, 500):
        scenario.live(replace(down(three(), THREE), at_ms=at_ms))
    tick = scenario.live(replace(is_down, at_ms=400_000, exits=()))
    assert moved(tick) == record(DETACHED)


def test_a_pod_that_never_had_an_address_cannot_follow_anybody() -> None:
    """It waits for a machine; one that has an address may have been told by an earlier healer."""
    fencing = detached(recorded(lost(three()), FENCING), TWO)
    never = node(fencing, THREE, boot_id="", role=RedisRole.UNKNOWN, fresh=False, silent_ms=9_000)
    assert moved(once(never)) is None
    assert moved(once(node(never, THREE, has_address=False))) == record(DETACHED)


def test_no_known_node_is_no_fence() -> None:
    """A healer that has just begun may know none: that nobody is attached is not proven by it."""
    fencing = recorded(lost(three()), FENCING)
    assert fencing.redis is not None
    assert steps(once(replace(fencing, redis=replace(fencing.redis, nodes=())))) == []


def test_paused_healing_detaches_nobody() -> None:
    """And says so."""
    tick = once(recorded(lost(three()), FENCING), Policy(paused="network work"))
    assert steps(tick) == []
    assert any("paused: network work" in each.reason for each in tick.plan.declined)


@pytest.mark.parametrize(("two", "begins_anew"), [({"follows": ""}, True), ({"fresh": False}, False)])
def test_a_candidate_that_is_lost_while_it_is_promoted_takes_no_writes_without_replicas(
    two: dict[str, object], begins_anew: bool
) -> None:
    """Nobody was told to follow it yet, so another is chosen; unless one that does not answer may be its replica."""
    promoting = recorded(detached(lost(three()), TWO, THREE), PROMOTING, candidate=THREE, candidate_boot_id="1")
    seen = node(node(promoting, THREE, silent_ms=4_000, fresh=False), TWO, **two)
    tick = once(seen)
    assert moved(tick) == (record(FENCING) if begins_anew else None)
    assert moved(once(node(seen, THREE, silent_ms=1_000))) is None
    assert moved(once(node(seen, THREE, min_replicas=0))) is None


def test_data_of_an_earlier_primary_is_not_chosen_however_much_it_is() -> None:
    """An old primary that came back has writes that nobody else has, and is detached before its copy is complete."""
    seen = node(node(three(), ONE, history="b"), TWO, history="b")
    seen = node(seen, THREE, history="a", offset=900)
    both = detached(recorded(lost(seen), DETACHED, age_ms=DETACHED_MS), TWO, THREE)
    assert moved(once(both)) == record(PROMOTING, **CANDIDATE)


def test_a_container_that_cannot_come_back_keeps_nobody_waiting() -> None:
    """The kubelet has seen it end and backs off, or cannot pull its image: an exit like any other, no wait for a next
    life, nor for replicas to be detached."""
    ended = gone(three())
    backing_off = tuple(
        replace(p, phase=Phase.DOWN, boot_id="", restarts=7) if p.instance == ONE else p for p in ended.processes or ()
    )
    seen = replace(ended, processes=backing_off)
    scenario = Scenario()
    scenario.live(*[three(at_ms) for at_ms in range(0, 5_001, 500)])
    assert moved(scenario.live(replace(seen, at_ms=5_500))) == record(FENCING)
    fencing = recorded(replace(seen, exits=()), FENCING)
    assert moved(scenario.live(replace(fencing, at_ms=5_600))) == record(
        PROMOTING, candidate=THREE, candidate_boot_id="1"
    )


def test_a_container_that_is_back_before_the_failover_follows_like_the_others() -> None:
    """It boots fenced and empty: a later life that answers is proof of the end, and the copy is with the others."""
    back = node(three(), ONE, boot_id="2", role=RedisRole.REPLICA, follows="", heard_ms=None, offset=0)
    assert moved(once(back)) == record(FENCING)
    assert moved(once(recorded(back, FENCING))) == record(PROMOTING, candidate=THREE, candidate_boot_id="1")
    steady = recorded(back, FailoverPhase.STEADY, primary=THREE, epoch=2)
    served = node(node(steady, THREE, role=RedisRole.PRIMARY, follows=""), TWO, follows=THREE)
    assert steps(once(served)) == [Follow(replace(life(ONE), boot_id="2"), THREE)]


def test_an_old_primary_that_wakes_up_is_made_a_replica() -> None:
    """It takes itself for the primary, takes no writes without replicas, and is told whom to follow."""
    steady = recorded(three(), FailoverPhase.STEADY, primary=THREE, epoch=2)
    served = node(node(steady, THREE, role=RedisRole.PRIMARY, follows=""), TWO, follows=THREE)
    assert served.redis is not None
    assert served.redis.node(ONE).role is primary(ONE).role
    assert steps(once(served)) == [Follow(life(ONE), THREE)]
