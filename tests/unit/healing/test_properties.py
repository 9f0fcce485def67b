"""Whatever is seen: no action without proof, budgets kept, reasons for what is left undone, and it can be replayed."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
from healing_scenes import calm, life
from hypothesis import given, settings
from hypothesis import strategies as st

from betting.life import Life
from betting_operator.healing import flight
from betting_operator.healing.actions import (
    Drain,
    ForceRelease,
    Freeze,
    Kill,
    MarkDead,
    MoveAway,
    Place,
    RollBack,
    Scale,
)
from betting_operator.healing.brain import Tick, decide
from betting_operator.healing.codec import from_json, to_json
from betting_operator.healing.diagnoses import TABLE, Kind, Void
from betting_operator.healing.memory import Memory
from betting_operator.healing.policy import Policy, Rebalancing, ServiceLimits
from betting_operator.healing.signals import (
    Answer,
    Audit,
    Capability,
    Consumer,
    Database,
    Exit,
    Feed,
    Host,
    Move,
    Observation,
    Owner,
    Phase,
    Probe,
    Process,
    Rebalance,
    Report,
    Shard,
    Size,
)

pytestmark = pytest.mark.slow

INSTANCES = ("bet-service-1", "bet-service-2", "bet-service-3", "wallet-service", "api-gateway", "season-replay")
NAMES = [life(f"bet-service-{n}", boot) for n in (1, 2, 3) for boot in ("1", "2")]
LIVES = st.builds(life, st.sampled_from(INSTANCES), st.sampled_from(["1", "2"]))
DURATIONS = st.sampled_from([0, 500, 2_999, 3_000, 30_000])


def _service(instance: str) -> str:
    return instance.removesuffix("-1").removesuffix("-2").removesuffix("-3")


processes = st.tuples(
    *(
        st.builds(
            Process,
            st.just(_service(instance)),
            st.just(instance),
            st.sampled_from(["1", "2"]),
            st.sampled_from(list(Phase)),
            st.just(0),
            DURATIONS,
            st.sampled_from(["", "a", "a", "b"]),
        )
        for instance in INSTANCES
    )
)
probes = st.tuples(
    *(
        st.builds(
            Probe,
            st.builds(life, st.just(i), st.sampled_from(["1", "2"])),
            st.sampled_from(list(Answer)),
            DURATIONS,
            st.sampled_from([0, 0, 1_000, 5_000]),
            st.booleans(),
        )
        for i in INSTANCES
    )
)
reports = st.lists(
    st.builds(
        Report,
        st.sampled_from(INSTANCES),
        LIVES,
        st.integers(0, 3),
        DURATIONS,
        st.none() | DURATIONS,
        st.sampled_from([0, 19, 20, 500]),
        st.sampled_from([0, 10]),
        st.sampled_from([0, 5_000, 1_000_000]),
    ),
    max_size=6,
).map(tuple)
sizes = st.lists(
    st.builds(
        Size,
        LIVES,
        st.sampled_from([0, 2**30, 2**33]),
        st.sampled_from([0, 2**30]),
    ),
    max_size=3,
).map(tuple)
exits = st.lists(st.builds(Exit, LIVES, st.just(0), st.just("killed")), max_size=2).map(tuple)
owners = st.lists(
    st.builds(Owner, st.sampled_from(NAMES), DURATIONS, st.booleans(), st.booleans()), unique_by=lambda o: o.life
).map(tuple)
shards = st.tuples(
    *(
        st.builds(
            lambda n, owner, frozen, desired: Shard(
                n, owner, 1, "frozen" if frozen and owner else "owned" if owner else "free", desired
            ),
            st.just(n),
            st.sampled_from([None, *NAMES]),
            st.booleans(),
            st.sampled_from([None, *NAMES]),
        )
        for n in range(4)
    )
)
consumers = st.tuples(
    st.builds(
        Consumer, st.just("projector"), st.just(0), st.just(1), st.integers(8, 9), st.sampled_from([None, *NAMES])
    ),
    st.builds(
        Consumer,
        st.just("notifications"),
        st.integers(0, 1),
        st.integers(1, 2),
        st.integers(8, 9),
        st.sampled_from([None, life("wallet-service"), life("wallet-service", "2")]),
    ),
)
bet_services = st.sampled_from([*INSTANCES[:3], "bet-service-9"])
rebalances = st.just(Rebalance()) | st.builds(
    Rebalance,
    st.just("evening"),
    st.lists(st.builds(Move, st.integers(0, 4), bet_services, bet_services), max_size=4).map(tuple),
    st.lists(bet_services, max_size=3).map(tuple),
)
seen_somehow = st.builds(
    Observation,
    at_ms=st.just(0),
    late_ms=st.sampled_from([0, 0, 0, 5_000]),
    term=st.sampled_from([1, 1, 1, 2]),
    capabilities=st.sampled_from([(), tuple(sorted(Capability))]),
    processes=st.none() | processes,
    exits=exits,
    probes=st.just(()) | probes,
    reports=st.just(()) | reports,
    sizes=st.just(()) | sizes,
    database=st.sampled_from([Database.OK, Database.OK, Database.AWAY, Database.READ_ONLY]),
    owners=st.none() | owners,
    shards=st.none() | shards,
    audits=st.lists(
        st.builds(Audit, st.integers(0, 3), st.integers(1, 3), st.just("a gap")), unique_by=lambda a: a.shard
    ).map(tuple),
    feeds=st.none()
    | st.tuples(st.builds(Feed, st.just("replay"), st.just("season-replay"), st.integers(0, 1), st.booleans())),
    consumers=st.none() | consumers,
    host=st.none() | st.builds(Host, st.sampled_from([0, 2**40]), st.sampled_from([None, 0, 9_000])),
    rebalance=st.none() | rebalances,
    record_problem=st.sampled_from(["", "No space left on device"]),
)
histories = st.lists(st.tuples(seen_somehow, st.sampled_from([1, 500, 500, 3_000, 400_000])), max_size=25).map(
    lambda steps: [
        replace(seen, at_ms=at_ms, exits=tuple(replace(e, at_ms=at_ms) for e in seen.exits))
        for (seen, _), at_ms in zip(steps, itertools.accumulate(gap for _, gap in steps), strict=True)
    ]
)
policies = st.builds(
    Policy,
    paused=st.sampled_from(["", "", "a reason"]),
    dry_run=st.sampled_from([False, False, True]),
    disruptions_per_window=st.integers(1, 3),
    cool_down_ms=st.sampled_from([0, 5_000]),
    attempts_max=st.integers(1, 3),
    restarts_max=st.sampled_from([2, 5]),
    rebalancing=st.sampled_from(list(Rebalancing)),
    roll_back=st.booleans(),
    replicas_max=st.integers(0, 4),
    services=st.just(())
    | st.builds(
        lambda budget, percent: (ServiceLimits("bet-service", budget, percent),),
        st.integers(1, 3),
        st.sampled_from([0, 34, 50, 99]),
    ),
    moves_held=st.sampled_from(["", "", "outside of the maintenance windows"]),
)


PROOFS = (
    Kind.PROCESS_HUNG,
    Kind.FEED_SILENT,
    Kind.CONSUMER_STUCK,
    Kind.GREY_FAILURE,
    Kind.MEMORY_CLIMBING,
    Kind.OWNER_DIED,
)


ACTS_ON_ONE = (Kill, MoveAway, Drain)


def _same(one: Kill, other: Kill) -> bool:
    return one.life.workload == other.life.workload


def lived(history: list[Observation], policy: Policy) -> list[Tick]:
    memory, ticks = Memory(), []
    for seen in history:
        tick = decide(memory, seen, policy)
        memory = tick.memory
        ticks.append(tick)
    return ticks


@settings(max_examples=300, deadline=None)
@given(histories, policies)
def test_nothing_destructive_without_proof_and_nothing_undone_without_a_reason(
    history: list[Observation], policy: Policy
) -> None:
    """Kills and MarkDead actions rest on a confirmed diagnosis of that very life; every diagnosis is answered."""
    for seen, tick in zip(history, lived(history, policy), strict=True):
        proven = {d.life for d in tick.diagnoses if d.confirmed and d.kind in PROOFS}
        running = {p.life for p in seen.processes or () if p.phase is Phase.RUNNING}
        for action in tick.plan.actions:
            if isinstance(action, Kill):
                assert action.life in proven & running
            elif isinstance(action, MarkDead):
                assert action.owner in proven
                assert action.term == seen.term
            elif isinstance(action, Place):
                eligible = {o.life for o in seen.owners or () if not o.exited and not o.draining}
                assert {name for _, name in action.wanted} <= eligible
            elif isinstance(action, Drain):
                assert action.owner in proven
                assert not policy.paused
                assert not policy.dry_run
                assert any(o.life != action.owner and not o.exited and not o.draining for o in seen.owners or ())
            elif isinstance(action, Freeze):
                assert (Kind.LEDGER_BROKEN, f"shard {action.shard}") in {
                    (d.kind, d.target) for d in tick.diagnoses if d.confirmed
                }
            elif isinstance(action, ForceRelease):
                assert any(
                    (s.shard, s.owner, s.epoch) == (action.shard, action.owner, action.epoch) for s in seen.shards or ()
                )
                assert action.term == seen.term
        assert sum(isinstance(action, Drain) for action in tick.plan.actions) <= 1
        answered = {d.target for d in tick.plan.declined}
        answered |= {a.life.instance for a in tick.plan.actions if isinstance(a, Kill)}
        answered |= {a.owner.instance for a in tick.plan.actions if isinstance(a, Drain)}
        answered |= {a.life.instance for a in tick.plan.actions if isinstance(a, MoveAway)}
        escalated = {a.workload for a in tick.plan.actions if isinstance(a, RollBack | Scale)}
        answered |= {d.target for d in tick.diagnoses if d.life is not None and d.life.workload in escalated}
        for diagnosis in tick.diagnoses:
            placed = (Kind.OWNER_DIED, Kind.SHARDS_MISPLACED, Kind.HANDOVER_STUCK, Kind.NODE_LOST, Kind.BAD_NODE)
            if diagnosis.kind not in placed and not policy.dry_run:
                assert diagnosis.target in answered
        assert all(each.reason for each in tick.plan.declined)


@settings(max_examples=300, deadline=None)
@given(histories, policies)
def test_only_what_the_platform_can_and_policy_allows_follows_a_restart(
    history: list[Observation], policy: Policy
) -> None:
    """A move is about the present life, or about one that ended and has no later one."""
    for seen, tick in zip(history, lived(history, policy), strict=True):
        present = {p.instance: p.life for p in seen.processes or () if p.life is not None}
        moved_for = (Kind.CRASH_LOOP, Kind.BAD_NODE, *PROOFS)
        movable = {d.target for d in tick.diagnoses if d.kind in moved_for and d.confirmed}
        further = [each for each in tick.plan.actions if isinstance(each, MoveAway | RollBack | Scale)]
        assert not further or (seen.capabilities and not policy.paused and not policy.dry_run)
        for action in further:
            match action:
                case MoveAway(life=moved):
                    assert moved.instance in movable
                    assert present.get(moved.instance, moved) == moved
                case RollBack():
                    assert policy.roll_back
                case Scale(workload=workload, replicas=replicas):
                    stay = [p for p in seen.processes or () if p.phase is not Phase.STOPPING]
                    assert replicas == 1 + sum(p.workload == workload for p in stay)
                    assert replicas <= policy.replicas_max


@settings(max_examples=200, deadline=None)
@given(histories, policies)
def test_budgets_hold_in_every_window(history: list[Observation], policy: Policy) -> None:
    """Of kills and moves: never two of one service within the cool-down, none twice, none while paused or dry."""
    kills = [
        (seen.at_ms, action)
        for seen, tick in zip(history, lived(history, policy), strict=True)
        for action in tick.plan.actions
        if isinstance(action, Kill | MoveAway)
    ]
    if policy.paused or policy.dry_run:
        assert not kills
    for at_ms, action in kills:
        window = [k for t, k in kills if at_ms - policy.window_ms < t <= at_ms]
        near = [
            k for t, k in kills if at_ms - policy.cool_down_ms < t <= at_ms and k.life.workload == action.life.workload
        ]
        assert len(near) <= 1 or policy.cool_down_ms == 0
        assert window.count(action) == 1


@settings(max_examples=200, deadline=None)
@given(histories, policies)
def test_a_budget_is_exceeded_only_for_the_last_of_a_service(history: list[Observation], policy: Policy) -> None:
    """Of who is killed beyond it, no other instance was running and well."""
    done: list[tuple[int, str, str]] = []
    for seen, tick in zip(history, lived(history, policy), strict=True):
        hung = {d.target for d in tick.diagnoses if d.kind is Kind.PROCESS_HUNG}
        for action in tick.plan.actions:
            if not isinstance(action, Kill):
                continue
            window = [(t, i) for t, s, i in done if s == action.life.workload and seen.at_ms - t < policy.window_ms]
            spent = sum(any(i == j and 0 < t - u < policy.again_within_ms for u, j in window) for t, i in window)
            others = [
                p
                for p in seen.processes or ()
                if p.workload == action.life.workload and p.instance != action.life.instance
            ]
            well = [p for p in others if p.phase is Phase.RUNNING and not p.silent_ms and p.instance not in hung]
            again = any(i == action.life.instance and seen.at_ms - t < policy.again_within_ms for t, i in window)
            assert spent < policy.budget(action.life.workload) or not well or not again
            done.append((seen.at_ms, action.life.workload, action.life.instance))


@settings(max_examples=200, deadline=None)
@given(histories, policies)
def test_what_is_killed_drained_or_moved_leaves_the_healthy_share(history: list[Observation], policy: Policy) -> None:
    """Of those that answer and are not stopped on purpose; unless none is healthy, itself included."""
    for seen, tick in zip(history, lived(history, policy), strict=True):
        hung = {d.target for d in tick.diagnoses if d.kind is Kind.PROCESS_HUNG}
        lives = [a.owner if isinstance(a, Drain) else a.life for a in tick.plan.actions if isinstance(a, ACTS_ON_ONE)]
        for acted in lives:
            everybody = [
                p for p in seen.processes or () if p.workload == acted.workload and p.phase is not Phase.STOPPING
            ]
            well = {
                p.instance for p in everybody if p.phase is Phase.RUNNING and not p.silent_ms and p.instance not in hung
            }
            left = len(well - {acted.instance})
            assert not well or 100 * left >= policy.healthy_percent_min(acted.workload) * len(everybody)


@settings(max_examples=200, deadline=None)
@given(histories, policies)
def test_outside_of_a_window_no_shard_is_asked_to_leave_an_owner_that_keeps_it(
    history: list[Observation], policy: Policy
) -> None:
    """Shards whose owner is gone, and hand-overs that were begun, are dealt with at any time."""
    for seen, tick in zip(history, lived(history, policy), strict=True):
        staying = {
            s.shard
            for s in seen.shards or ()
            if s.desired_owner in (None, s.owner)
            and any(o.life == s.owner and not o.exited and not o.draining for o in seen.owners or ())
        }
        dead = {a.owner for a in tick.plan.actions if isinstance(a, MarkDead)}
        dead |= {d.life for d in tick.diagnoses if d.kind in (Kind.OWNER_DIED, Kind.PROCESS_HUNG) if d.life}
        kept = {s.shard for s in seen.shards or () if s.shard in staying and s.owner not in dead}
        wanted = {shard for a in tick.plan.actions if isinstance(a, Place) for shard, _to in a.wanted}
        assert not (policy.moves_held and wanted & kept)


@settings(max_examples=300, deadline=None)
@given(histories, policies)
def test_nothing_is_concluded_from_time_that_does_not_count(history: list[Observation], policy: Policy) -> None:
    """By the table: nothing is confirmed in the tick that began anew, while Postgres takes no writes, or while many
    are silent, and nothing is written to Postgres then."""
    memory = Memory()
    for seen in history:
        begins = seen.term != memory.evidence.term or seen.late_ms > policy.late_after_ms
        tick = decide(memory, seen, policy)
        memory = tick.memory
        many = any(d.kind is Kind.SHARED_CAUSE and d.target == "platform" for d in tick.diagnoses)
        writes = seen.database is Database.OK
        for each in tick.diagnoses:
            voids = TABLE[each.kind].voids
            if each.confirmed and not each.kind.startswith("redis"):
                assert not (begins and Void.HEALER in voids)
                assert not (many and Void.EVERYBODY in voids)
                assert writes or Void.DATABASE not in voids
        assert writes or not any(
            isinstance(a, MarkDead | Place | Drain | Freeze | ForceRelease) for a in tick.plan.actions
        )


@settings(max_examples=200, deadline=None)
@given(histories, policies)
def test_one_is_retired_at_a_time(history: list[Observation], policy: Policy) -> None:
    """The next one only when the last has ended."""
    last: Life | None = None
    for seen, tick in zip(history, lived(history, policy), strict=True):
        for action in tick.plan.actions:
            if isinstance(action, Drain):
                assert not any(o.life == last and not o.exited for o in seen.owners or ())
                last = action.owner


@settings(max_examples=100, deadline=None)
@given(histories, policies)
def test_every_decision_can_be_made_again_from_its_record(history: list[Observation], policy: Policy) -> None:
    """Memory and ticks survive JSON; the replay of a flight record finds the same plans."""
    ticks = lived(history, policy)
    lines = [flight.opening(Memory())]
    for seen, tick in zip(history, ticks, strict=True):
        assert from_json(Memory, json.loads(json.dumps(to_json(tick.memory)))) == tick.memory
        lines.append(flight.line(flight.Record(1, policy, seen, tick.diagnoses, tick.plan)))
    assert list(flight.replay(lines)) == [None] * len(history)


def test_a_decision_changes_nothing_it_was_given() -> None:
    """Values in, values out."""
    memory, seen = Memory(), calm()
    before = to_json(memory), to_json(seen)
    decide(memory, seen, Policy())
    assert (to_json(memory), to_json(seen)) == before
