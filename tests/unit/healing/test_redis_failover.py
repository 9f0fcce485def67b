"""Redis failover, step by step: with its fence or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from healing_scenes import Scenario, certainty_of, life
from redis_scenes import ONE, THREE, TWO, down, gone, node, primary, recorded, replica, silent, unrecorded, well

from betting_operator.healing import flight
from betting_operator.healing.actions import Action, Alert, Kill
from betting_operator.healing.brain import Tick, decide
from betting_operator.healing.diagnoses import Certainty, Kind
from betting_operator.healing.memory import Memory
from betting_operator.healing.policy import Policy
from betting_operator.healing.redis_actions import Follow, MoveRecord, Promote
from betting_operator.healing.redis_signals import NOBODY, FailoverPhase, RedisRecord, RedisRole
from betting_operator.healing.signals import Observation, Phase

FENCING, PROMOTING = FailoverPhase.FENCING, FailoverPhase.PROMOTING
CANDIDATE = {"candidate": TWO, "candidate_boot_id": "1"}


def steps(tick: Tick) -> list[Action]:
    """What is done about Redis."""
    return [each for each in tick.plan.actions if not isinstance(each, Alert)]


def moved(tick: Tick) -> RedisRecord | None:
    """What the record is to say; None: it stays."""
    return next((each.to for each in tick.plan.actions if isinstance(each, MoveRecord)), None)


def watched() -> list[Observation]:
    """Five calm seconds."""
    return [well(at_ms) for at_ms in range(0, 5_001, 500)]


def once(seen: Observation, policy: Policy | None = None) -> Tick:
    """A healer that has watched a calm platform for a while sees this."""
    return Scenario(policy or Policy()).live(*watched(), replace(seen, at_ms=5_500))


def longer(seen: Observation) -> Tick:
    """As `once`, of a healer that has watched for eleven seconds: what a replica says is of time that counts."""
    return Scenario().live(*(well(at_ms) for at_ms in range(0, 11_000, 500)), replace(seen, at_ms=11_000))


def fenced(seen: Observation) -> Observation:
    """The primary's exit was seen, the record says that it is to be fenced."""
    return recorded(gone(seen), FENCING)


def test_all_well_is_left_alone() -> None:
    """Nothing is concluded, nothing done."""
    assert once(well()).plan.actions == ()
    assert once(well()).diagnoses == ()


def test_a_seen_exit_begins_a_failover_by_writing_it_down() -> None:
    """Intent first: nothing else is done in that step."""
    tick = once(gone(well()))
    assert certainty_of(tick, Kind.REDIS_PRIMARY_GONE, ONE) is Certainty.CONFIRMED
    assert steps(tick) == [MoveRecord(RedisRecord(ONE, "1", 1), RedisRecord(ONE, "1", 1, FENCING), term=1)]


def test_a_later_life_that_answers_is_a_seen_exit_if_it_was_asked_after_the_record_was_read() -> None:
    """An older answer may be older than the record itself."""
    later = node(well(), ONE, boot_id="2", role=RedisRole.REPLICA, follows=TWO, offset=1)
    assert moved(once(later)) == RedisRecord(ONE, "1", 1, FENCING)
    assert steps(once(node(later, ONE, fresh=False))) == []


def test_the_platforms_picture_of_another_life_is_no_proof() -> None:
    """It may be older than the record."""
    assert steps(once(down(well(), ONE))) == []


@pytest.mark.parametrize(
    ("healer_ms", "platform_ms", "heard_ms", "certainty"),
    [
        (3_500, 3_500, 3_500, Certainty.CONFIRMED),
        (3_500, 3_500, None, Certainty.CONFIRMED),
        (3_500, 0, 4_000, Certainty.CONFIRMED),
        (3_500, 0, 2_500, Certainty.SUSPECTED),
        (3_500, 0, 400, Certainty.CANNOT_TELL),
        (3_500, 3_500, 400, Certainty.CANNOT_TELL),
        (0, 3_500, 4_000, None),
        (2_900, 3_500, 4_000, None),
    ],
)
def test_a_frozen_primary_needs_two_vantage_points(
    healer_ms: int, platform_ms: int, heard_ms: int | None, certainty: Certainty | None
) -> None:
    """The healer's ping and one more; a replica that hears it contradicts; what the healer reaches is not frozen."""
    seen = node(silent(well(), ONE, healer_ms, platform_ms), TWO, heard_ms=heard_ms)
    if healer_ms == 0:
        seen = node(seen, ONE, fresh=True)
    tick = once(seen)
    assert certainty_of(tick, Kind.REDIS_PRIMARY_HUNG, ONE) is certainty
    assert moved(tick) == (RedisRecord(ONE, "1", 1, FENCING) if certainty is Certainty.CONFIRMED else None)


@pytest.mark.parametrize("change", [{"term": 2}, {"late_ms": 1_500}])
def test_a_healer_that_was_late_or_has_just_begun_starts_its_count_anew(change: dict[str, int]) -> None:
    """Silence that it slept through is none, by whomever it is told."""
    frozen = node(silent(well(), ONE, 9_000, 9_000), TWO, heard_ms=9_000)
    found = {each.kind for each in once(replace(frozen, **change)).diagnoses}
    assert found <= {Kind.REDIS_REPLICA_AWAY}  # that the replica is not linked is its own word


def test_the_silence_of_another_life_is_not_its_own() -> None:
    """The platform's picture may be older than the record."""
    seen = node(silent(well(), ONE, 4_000, 4_000), TWO, heard_ms=None)
    assert certainty_of(once(seen), Kind.REDIS_PRIMARY_HUNG, ONE) is Certainty.CONFIRMED
    processes = (replace(p, boot_id="0") if p.instance == ONE else p for p in seen.processes or ())
    other = replace(seen, processes=tuple(processes))
    assert certainty_of(once(other), Kind.REDIS_PRIMARY_HUNG, ONE) is Certainty.SUSPECTED
    assert certainty_of(once(node(seen, ONE, boot_id="0")), Kind.REDIS_PRIMARY_HUNG, ONE) is None


def test_many_silent_at_once_are_no_frozen_primary() -> None:
    """The machine is the likelier cause."""
    seen = node(silent(well(), ONE, 3_500, 3_500), TWO, heard_ms=3_500)
    names = {"wallet-service", "api-gateway", "user-service"}
    processes = (replace(p, silent_ms=4_000) if p.instance in names else p for p in seen.processes or ())
    assert certainty_of(once(replace(seen, processes=tuple(processes))), Kind.REDIS_PRIMARY_HUNG, ONE) is (
        Certainty.CANNOT_TELL
    )


def test_a_frozen_primary_is_killed_so_that_its_end_is_seen() -> None:
    """Fence (a); not twice in a row; then its exit moves the failover on."""
    seen = recorded(node(silent(well(), ONE, 4_000, 4_000), TWO, heard_ms=4_000), FENCING)
    scenario = Scenario()
    killing = scenario.live(*watched(), replace(seen, at_ms=5_500))
    assert steps(killing) == [Kill(life(ONE))]
    assert steps(scenario.live(replace(seen, at_ms=6_000))) == []
    assert moved(scenario.live(replace(fenced(well()), at_ms=6_500))) == RedisRecord(
        ONE, "1", 1, PROMOTING, **CANDIDATE
    )


def test_a_primary_that_is_well_again_keeps_its_place() -> None:
    """Nothing was done yet that could not be undone: the failover is called off."""
    assert moved(once(recorded(well(), FENCING))) == RedisRecord(ONE, "1", 1)


def test_no_fence_is_blocked_and_told() -> None:
    """Silence alone, and nobody who could end it or take its replicas: a timeout is no fence."""
    seen = recorded(node(silent(well(), ONE, 9_000), TWO, heard_ms=9_000), FENCING, age_ms=6_000)
    unknown = replace(seen, processes=tuple(p for p in seen.processes or () if p.instance != ONE))
    tick = once(unknown)
    assert steps(tick) == []
    assert certainty_of(tick, Kind.REDIS_BLOCKED, "redis") is Certainty.CONFIRMED
    assert [each.about for each in tick.plan.actions if isinstance(each, Alert)] == [Kind.REDIS_BLOCKED]


def test_paused_healing_is_blocked_with_the_reason() -> None:
    """Neither the failover nor the kill."""
    policy = Policy(paused="network work")
    for seen in (gone(well()), recorded(node(silent(well(), ONE, 4_000, 4_000), TWO, heard_ms=4_000), FENCING)):
        tick = once(seen, policy)
        assert steps(tick) == []
        assert any("paused: network work" in each.reason for each in tick.plan.declined)


def test_a_dry_run_does_nothing() -> None:
    """And says what would be done."""
    tick = once(gone(well()), Policy(dry_run=True))
    assert steps(tick) == []
    assert any("to be fenced" in each.target for each in tick.plan.declined)


def test_failovers_have_a_budget_and_a_distance() -> None:
    """The second within five seconds waits, the one over the budget calls a person."""
    scenario = Scenario(Policy(disruptions_per_window=2))
    again = recorded(gone(well()), FailoverPhase.STEADY)
    for at_ms, begun in ((1_000, True), (3_000, False), (7_000, True), (20_000, False)):
        tick = scenario.live(replace(again, at_ms=at_ms))
        assert (moved(tick) is not None) is begun, at_ms
        assert (certainty_of(tick, Kind.REDIS_BLOCKED, "redis") is Certainty.CONFIRMED) is (at_ms == 20_000)


def test_the_replica_with_the_most_data_is_chosen() -> None:
    """Of those that answer now; ties go by name. Who has not heard from this primary holds an earlier one's data."""
    seen = node(fenced(well(replicas=2)), THREE, offset=700)
    assert moved(once(seen)) == RedisRecord(ONE, "1", 1, PROMOTING, THREE, "1")
    unsynced = node(seen, THREE, heard_ms=None)
    assert moved(once(unsynced)) == RedisRecord(ONE, "1", 1, PROMOTING, **CANDIDATE)
    stale = node(seen, THREE, fresh=False)
    assert moved(once(stale)) == RedisRecord(ONE, "1", 1, PROMOTING, **CANDIDATE)


def test_an_empty_new_life_is_not_chosen_while_another_may_have_the_data() -> None:
    """The replica does not answer just now: it is waited for, and a person called when that lasts."""
    back = node(fenced(well()), ONE, boot_id="2", silent_ms=0, fresh=True, role=RedisRole.REPLICA, offset=1)
    lost = node(back, TWO, silent_ms=1_000, fresh=False)
    tick = once(lost)
    assert steps(tick) == []
    assert certainty_of(tick, Kind.REDIS_BLOCKED, "redis") is Certainty.SUSPECTED
    hung = silent(back, TWO, 4_000, 4_000)
    assert steps(once(hung)) == [Kill(life(TWO))]


def test_when_nobody_has_data_left_the_same_node_begins_anew_and_empty() -> None:
    """Both died: all of it can be made again from Postgres."""
    back = node(fenced(well()), ONE, boot_id="2", silent_ms=0, fresh=True, role=RedisRole.REPLICA, offset=1)
    empty = node(back, TWO, boot_id="2", offset=1)
    expected = RedisRecord(ONE, "1", 1, PROMOTING, ONE, "2")
    assert moved(once(empty)) == expected
    assert moved(once(down(back, TWO))) == expected


def test_the_candidate_is_promoted_and_the_record_moves_when_it_says_that_it_serves() -> None:
    """Epoch and life with it."""
    seen = recorded(gone(well()), PROMOTING, **CANDIDATE)
    assert steps(once(seen)) == [Promote(life(TWO))]
    served = node(seen, TWO, role=RedisRole.PRIMARY, follows="")
    assert moved(once(served)) == RedisRecord(TWO, "1", 2)
    assert moved(once(node(served, TWO, fresh=False))) is None


def test_a_candidate_that_dies_is_replaced() -> None:
    """It was named: its end must be seen, as a primary's."""
    seen = recorded(gone(gone(well(replicas=2)), TWO), PROMOTING, **CANDIDATE)
    assert moved(once(seen)) == RedisRecord(ONE, "1", 1, FENCING)
    hung = recorded(silent(gone(well()), TWO, 4_000, 4_000), PROMOTING, **CANDIDATE)
    assert steps(once(hung)) == [Kill(life(TWO))]
    quiet = recorded(silent(gone(well()), TWO, 1_000), PROMOTING, **CANDIDATE)
    assert steps(once(quiet)) == []


def test_a_pause_does_not_leave_a_promotion_half_done() -> None:
    """The old primary is fenced already: stopping here would only leave nobody."""
    seen = recorded(gone(well()), PROMOTING, **CANDIDATE)
    assert steps(once(seen, Policy(paused="network work"))) == [Promote(life(TWO))]


def test_the_old_primary_returns_as_a_replica_only() -> None:
    """Whoever does not follow the recorded primary is made to, whatever it takes itself for."""
    seen = recorded(well(), FailoverPhase.STEADY, primary=TWO, boot_id="1", epoch=2)
    seen = node(seen, TWO, role=RedisRole.PRIMARY, follows="")
    assert steps(once(seen)) == [Follow(life(ONE), TWO)]
    followed = node(seen, ONE, role=RedisRole.REPLICA, follows=TWO)
    assert steps(once(followed)) == []


def test_the_named_life_is_made_primary_when_it_is_none() -> None:
    """A healer was stopped between the record and the node; another life of it is not promoted."""
    seen = node(well(), ONE, role=RedisRole.REPLICA, follows=TWO)
    assert steps(once(seen)) == [Promote(life(ONE))]
    assert steps(once(node(seen, ONE, fresh=False))) == []


def test_a_replica_that_hangs_is_killed_one_that_died_is_started_by_the_platform() -> None:
    """And one that does not hear its primary is named."""
    assert steps(once(silent(well(), TWO, 4_000, 4_000))) == [Kill(life(TWO))]
    assert steps(once(silent(well(), TWO, 4_000))) == []
    died = once(gone(well(), TWO))
    assert steps(died) == []
    assert certainty_of(died, Kind.REDIS_REPLICA_AWAY, TWO) is Certainty.CONFIRMED
    for heard_ms, certainty in (
        (20_000, Certainty.CONFIRMED),
        (6_000, Certainty.SUSPECTED),
        (2_500, None),  # a late ping
        (None, Certainty.SUSPECTED),
    ):
        unlinked = longer(node(well(), TWO, heard_ms=heard_ms))
        assert certainty_of(unlinked, Kind.REDIS_REPLICA_AWAY, TWO) is certainty
        assert steps(unlinked) == []


def test_a_nearly_full_redis_calls_a_person() -> None:
    """At nine tenths of its memory."""
    mib = 1 << 20
    full = once(node(well(), ONE, used_bytes=470 * mib, max_bytes=512 * mib))
    assert [each.about for each in full.plan.actions if isinstance(each, Alert)] == [Kind.REDIS_MEMORY_FULL]
    assert once(node(well(), ONE, used_bytes=300 * mib, max_bytes=512 * mib)).diagnoses == ()


def test_every_step_can_be_made_again_from_its_record() -> None:
    """The flight record holds all that it depended on."""
    ticks = (
        gone(well(500)),
        recorded(gone(well(1_000)), FENCING),
        recorded(gone(well(1_500)), PROMOTING, **CANDIDATE),
        recorded(node(silent(well(8_000), ONE, 4_000), TWO, heard_ms=None), FENCING),
    )
    memory, lines, kinds = Memory(), [flight.opening(Memory())], set()
    for seen in ticks:
        tick = decide(memory, seen, Policy())
        memory = tick.memory
        kinds |= {type(action) for action in tick.plan.actions}
        lines.append(flight.line(flight.Record(7, Policy(), seen, tick.diagnoses, tick.plan)))
    assert kinds >= {MoveRecord, Promote}
    assert list(flight.replay(lines)) == [None] * len(ticks)


def test_what_cannot_be_seen_is_left_alone() -> None:
    """No record, or no node that answers: cannot tell."""
    assert steps(once(replace(well(), redis=None))) == []
    unheard = silent(silent(well(), ONE, 9_000), TWO, 9_000)
    assert steps(once(unheard)) == []


def test_nodes_have_a_name_and_a_life() -> None:
    """A replica that links is linked within two seconds of hearing its primary, whatever its link says."""
    assert replica(TWO).linked
    assert not replica(TWO, heard_ms=2_100).linked
    assert not primary(ONE).linked


def test_an_end_that_was_seen_is_a_fence_however_long_nobody_may_act_on_it() -> None:
    """Paused for longer than exits are otherwise remembered; then the replica is promoted."""

    def dead(at_ms: int) -> Observation:
        seen = node(down(well(at_ms), ONE), ONE, silent_ms=at_ms - 5_499, fresh=False)
        return node(seen, TWO, heard_ms=at_ms - 5_499)

    scenario = Scenario(Policy(paused="network work"))
    scenario.live(*[well(at_ms) for at_ms in range(0, 5_001, 500)])
    scenario.live(gone(replace(well(5_500), at_ms=5_500)))
    scenario.live(*[dead(at_ms) for at_ms in range(6_000, 315_500, 500)])
    scenario.policy = Policy()
    scenario.live(dead(315_500))
    scenario.live(
        *[recorded(dead(at_ms), FailoverPhase.FENCING, age_ms=at_ms - 315_500) for at_ms in (316_000, 316_500)]
    )
    assert any(
        move.to.phase is FailoverPhase.PROMOTING for move in scenario.done(MoveRecord) if isinstance(move, MoveRecord)
    )


def test_where_nobody_was_primary_the_first_node_that_answers_begins() -> None:
    """By name, in the life that answered, at epoch 1; once it is recorded it is promoted, and then followed."""
    assert steps(once(unrecorded())) == [MoveRecord(NOBODY, RedisRecord(ONE, "1", 1), term=1)]
    first_is_away = silent(unrecorded(), ONE, 1_000)
    assert moved(once(first_is_away)) == RedisRecord(TWO, "1", 1)
    begun = unrecorded()
    assert begun.redis is not None
    named = replace(begun, redis=replace(begun.redis, record=RedisRecord(ONE, "1", 1)))
    assert steps(once(named)) == [Promote(life("valkey-1"))]
    assert steps(once(node(named, ONE, role=RedisRole.PRIMARY))) == [Follow(life("valkey-2"), ONE)]


def test_a_first_primary_is_named_while_healing_is_paused_and_not_in_a_dry_run() -> None:
    """It ends nothing that works."""
    assert moved(once(unrecorded(), Policy(paused="network work"))) == RedisRecord(ONE, "1", 1)
    assert steps(once(unrecorded(), Policy(dry_run=True))) == []


def test_data_that_no_record_speaks_of_is_never_made_primary() -> None:
    """It is of an earlier database: an empty node begins; where there is none a person decides."""
    assert moved(once(node(unrecorded(), ONE, keys=3))) == RedisRecord(TWO, "1", 1)
    tick = once(node(node(unrecorded(), ONE, keys=3), TWO, offset=700))
    assert steps(tick) == []
    assert certainty_of(tick, Kind.REDIS_BLOCKED, "redis") is Certainty.CONFIRMED


def test_a_platform_without_nodes_of_its_own_names_nobody() -> None:
    """Its Redis is somebody else's."""
    seen = unrecorded()
    assert seen.redis is not None
    assert once(replace(seen, redis=replace(seen.redis, nodes=()))).diagnoses == ()


def test_nodes_that_never_answer_call_a_person_unless_one_is_starting() -> None:
    """Five seconds after the healer began to look."""
    unheard = silent(silent(unrecorded(), ONE, 9_000), TWO, 9_000)
    assert certainty_of(longer(unheard), Kind.REDIS_BLOCKED, "redis") is Certainty.CONFIRMED
    assert certainty_of(Scenario().live(unheard), Kind.REDIS_BLOCKED, "redis") is Certainty.SUSPECTED
    assert steps(longer(unheard)) == []
    assert longer(not_started(unheard, TWO)).diagnoses == ()


def not_started(seen: Observation, name: str) -> Observation:
    """Its pod waits for a node, or for its image."""
    found = (replace(p, phase=Phase.STARTING, boot_id="") if p.instance == name else p for p in seen.processes or ())
    return replace(seen, processes=tuple(found))


def test_a_node_that_is_still_to_start_holds_no_data_and_keeps_nobody_waiting() -> None:
    """The others, all empty, do not wait for a pod that finds no machine; for one that runs they do."""
    seen = well(replicas=2)
    for name in (ONE, TWO):
        seen = node(seen, name, boot_id="2", role=RedisRole.REPLICA, follows="", heard_ms=None, offset=0)
    seen = silent(recorded(seen, FENCING), THREE, 4_000)
    assert moved(once(seen)) is None
    chosen = moved(once(not_started(seen, THREE)))
    assert chosen == RedisRecord(ONE, "1", 1, PROMOTING, candidate=ONE, candidate_boot_id="2")
