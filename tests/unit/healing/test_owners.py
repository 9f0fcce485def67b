"""Shards without an owner are placed at once; what works moves a few at a time, and during a roll only once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from healing_scenes import Scenario, calm, ended, life, no_beat, over, reborn, silent_to_healer, silent_to_platform

from betting.life import Life
from betting_operator.healing.actions import Alert, Kill, MarkDead, Place
from betting_operator.healing.diagnoses import Kind, Severity
from betting_operator.healing.placement import MOVES_AT_ONCE
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Database, Observation, Owner, Phase, Report, Shard

ONE, TWO, NEW = life("bet-service-1"), life("bet-service-2"), life("bet-service-2", "2")


def with_owners(seen: Observation, *owners: Owner) -> Observation:
    """Exactly these lives are in the directory."""
    return replace(seen, owners=owners)


def alive(owner: Life, *, draining: bool = False, exited: bool = False) -> Owner:
    return Owner(owner, 100, draining, exited)


def owned(seen: Observation, *owners: Life | None, desired: tuple[Life | None, ...] | None = None) -> Observation:
    """Shard n belongs to the nth owner; what is desired is the same unless given."""
    rows = [Shard(n, owner, 1, "owned" if owner else "free", (desired or owners)[n]) for n, owner in enumerate(owners)]
    return replace(seen, shards=tuple(rows))


def test_calm_is_left_alone() -> None:
    """At rest nothing is done and nothing is declined."""
    tick = Scenario().live(*over(60_000, lambda seen: seen))
    assert tick.plan.actions == ()
    assert tick.plan.declined == ()


def test_an_exit_is_acted_on_in_the_tick_that_brings_it() -> None:
    """The life is marked dead, its shards are placed on who is left; the platform restarts it."""
    scenario = Scenario()
    tick = scenario.live(ended(calm(), "bet-service-2"))
    assert tick.plan.actions == (MarkDead(TWO, 1), Place(((2, ONE), (3, ONE)), 1))
    assert not scenario.done(Kill)


def test_who_is_marked_dead_already_is_not_marked_dead_again() -> None:
    """The directory knows: only what is still misplaced is placed."""
    gone = with_owners(ended(calm(), "bet-service-2"), alive(ONE), alive(TWO, exited=True))
    assert Scenario().live(gone).plan.actions == (Place(((2, ONE), (3, ONE)), 1),)


def test_an_exit_of_a_stateless_service_is_left_to_the_platform() -> None:
    """And that is said."""
    tick = Scenario().live(ended(calm(), "wallet-service"))
    assert tick.plan.actions == ()
    assert [(each.kind, each.target) for each in tick.plan.declined] == [(Kind.PROCESS_DIED, "wallet-service")]


def test_free_shards_are_placed_all_at_once() -> None:
    """At installation, or after the last owner drained."""
    tick = Scenario().live(owned(calm(), None, None, None, None))
    assert tick.plan.actions == (Place(((0, ONE), (1, TWO), (2, ONE), (3, TWO)), 1),)


def test_what_was_placed_is_not_placed_again_while_it_is_being_taken() -> None:
    """The target takes a moment to load."""
    on_their_way = owned(calm(), None, None, ONE, TWO, desired=(ONE, TWO, ONE, TWO))
    assert Scenario().live(on_their_way).plan.actions == ()


def test_who_was_meant_to_take_a_shard_and_died_is_replaced() -> None:
    """The wish names a dead boot id."""
    wished = owned(calm(), None, ONE, ONE, ONE, desired=(life("bet-service-2", "0"), ONE, ONE, ONE))
    assert Scenario().live(wished).plan.actions[0] == Place(((0, TWO),), 1)


def test_a_newcomer_gets_its_share() -> None:
    """What is on its way is not planned again."""
    back = with_owners(owned(calm(), ONE, ONE, ONE, ONE), alive(ONE), alive(TWO, exited=True), alive(NEW))
    scenario = Scenario()
    [moved] = scenario.live(back).plan.actions
    assert isinstance(moved, Place)
    assert {to for _shard, to in moved.wanted} == {NEW}
    moving = {shard for shard, _to in moved.wanted}
    assert len(moving) == 2
    desired = tuple(NEW if n in moving else ONE for n in range(4))
    under_way = with_owners(owned(calm(500), ONE, ONE, ONE, ONE, desired=desired), alive(ONE), alive(NEW))
    assert scenario.live(under_way).plan.actions == ()
    arrived = with_owners(owned(calm(1_000), *desired), alive(ONE), alive(NEW))
    assert scenario.live(arrived).plan.actions == ()


def test_a_receiver_has_no_more_hand_overs_under_way_than_it_may() -> None:
    """A large platform is not moved all at once: as some arrive, others follow."""
    count = 4 * MOVES_AT_ONCE
    newcomer = lambda seen, *desired: with_owners(  # noqa: E731
        owned(seen, *(ONE,) * count, desired=desired or None), alive(ONE), alive(NEW)
    )
    scenario = Scenario()
    [moved] = scenario.live(newcomer(calm())).plan.actions
    assert isinstance(moved, Place)
    assert len(moved.wanted) == MOVES_AT_ONCE
    moving = {shard for shard, _to in moved.wanted}
    desired = tuple(NEW if n in moving else ONE for n in range(count))
    assert scenario.live(newcomer(calm(500), *desired)).plan.actions == ()
    arrived = with_owners(owned(calm(1_000), *desired), alive(ONE), alive(NEW))
    [more] = scenario.live(arrived).plan.actions
    assert isinstance(more, Place)
    assert len(more.wanted) == MOVES_AT_ONCE


def test_shards_of_one_that_stops_go_to_the_newest_generation() -> None:
    """And nothing else moves while a roll is under way: who stops next is not known."""
    seen = owned(calm(), ONE, ONE, TWO, TWO)
    old, new = Owner(TWO, 100, False, False, 1, 3_600_000), Owner(NEW, 100, False, False, 2, 5_000)
    assert Scenario().live(with_owners(seen, replace(old, life=ONE), old, new)).plan.actions == ()
    stopping = replace(old, life=ONE, draining=True)
    assert Scenario().live(with_owners(seen, stopping, old, new)).plan.actions == (Place(((0, NEW), (1, NEW)), 1),)


def test_a_roll_that_was_left_half_way_is_balanced() -> None:
    """Two minutes after the last start of a new one: it would be idle for good otherwise."""
    seen = owned(calm(), ONE, ONE, TWO, TWO)
    old, new = Owner(TWO, 100, False, False, 1, 3_600_000), Owner(NEW, 100, False, False, 2, 121_000)
    [moved] = Scenario().live(with_owners(seen, replace(old, life=ONE), old, new)).plan.actions
    assert isinstance(moved, Place)
    assert [to for _shard, to in moved.wanted] == [NEW, NEW]


def test_balance_can_wait_while_healing_is_paused() -> None:
    """Moving what works is disruptive; placing what nobody has is not."""
    scenario = Scenario(Policy(paused="counting shards"))
    assert scenario.live(with_owners(owned(calm(), ONE, ONE, ONE, ONE), alive(ONE), alive(NEW))).plan.actions == ()
    assert scenario.live(owned(calm(500), None, ONE, TWO, TWO)).plan.actions == (Place(((0, ONE),), 1),)


def test_a_draining_owner_is_told_where_its_shards_go_and_given_none() -> None:
    """Rolling update."""
    draining = with_owners(calm(), alive(ONE), alive(TWO, draining=True))
    assert Scenario().live(draining).plan.actions == (Place(((2, ONE), (3, ONE)), 1),)


def test_nobody_to_own_pages_a_person_once() -> None:
    """And again only after it was over."""
    scenario = Scenario()
    nobody = lambda s: with_owners(owned(s, None, None, None, None), alive(ONE, exited=True))  # noqa: E731
    scenario.live(*over(5_000, nobody))
    pages = [a for a in scenario.done(Alert) if isinstance(a, Alert) and a.severity is Severity.PAGE]
    assert [page.about for page in pages] == [Kind.NOBODY_TO_OWN]
    scenario.live(*over(1_000, lambda s: s, start_ms=6_000))
    scenario.live(*over(1_000, nobody, start_ms=8_000))
    assert len(scenario.done(Alert)) == 2


def appends_fail(seen: Observation) -> Observation:
    """Postgres takes the healer's heartbeat and no appends (a full disk): commit loops and callers wait."""
    waits = tuple(Report("api-gateway", each, 5, seen.at_ms, None) for each in (ONE, TWO))
    return replace(no_beat(seen, seen.at_ms, ONE, TWO), reports=waits)


def test_nobody_to_own_says_that_those_who_could_are_well_and_cannot_write() -> None:
    """It is true that no bets are taken; nobody is killed for it, and the page says where to look."""
    scenario = Scenario()
    scenario.live(*over(30_000, appends_fail))
    pages = [a for a in scenario.done(Alert) if isinstance(a, Alert) and a.about is Kind.NOBODY_TO_OWN]
    assert len(pages) == 1
    assert "2 of them answer their probes: their writes to Postgres fail or wait" in pages[0].text
    assert not scenario.done(Kill)
    assert not scenario.done(MarkDead)


@pytest.mark.parametrize("how", [how for how in Database if how is not Database.OK])
def test_missing_heartbeats_are_nobodys_while_the_healers_own_is_not_written(how: Database) -> None:
    """Postgres is away or takes no writes: that is the page, and it is the only one."""
    scenario = Scenario()
    scenario.live(*over(30_000, lambda s: replace(appends_fail(s), database=how)))
    assert [a.about for a in scenario.done(Alert) if isinstance(a, Alert)] == [Kind.DATABASE_AWAY]


def test_without_the_directory_nothing_is_placed() -> None:
    """Cannot tell."""
    tick = Scenario().live(ended(replace(calm(), owners=None, shards=None, database=Database.AWAY), "bet-service-2"))
    assert not [action for action in tick.plan.actions if isinstance(action, Place | MarkDead)]


def test_an_exit_seen_while_the_database_was_away_is_acted_on_when_it_is_back() -> None:
    """The memory keeps it."""
    scenario = Scenario()
    scenario.live(ended(replace(calm(), owners=None, shards=None, database=Database.AWAY), "bet-service-2"))
    after = ended(calm(3_000), "bet-service-2")
    assert MarkDead(TWO, 1) in scenario.live(replace(after, exits=())).plan.actions


def test_frozen_and_quarantined_shards_are_left_and_a_person_is_called() -> None:
    """Money is never repaired by a program."""
    frozen = replace(
        calm(), shards=(*(calm().shards or ())[:3], Shard(3, TWO, 1, "frozen", TWO, "the journal has a gap"))
    )
    [alert] = Scenario().live(frozen).plan.actions
    assert isinstance(alert, Alert)
    assert "the journal has a gap" in alert.text
    assert alert.severity is Severity.PAGE


def test_five_exits_in_five_minutes_call_a_person() -> None:
    """The platform goes on trying; nothing else is done."""
    scenario = Scenario()
    for boot in range(5):
        scenario.live(ended(calm(boot * 10_000), "wallet-service", str(boot)))
    assert [a.about for a in scenario.done(Alert) if isinstance(a, Alert)] == [Kind.CRASH_LOOP]


def test_exits_that_the_healer_caused_are_no_crash_loop() -> None:
    """It killed them because they hung: that is told by itself."""
    scenario = Scenario(Policy(cool_down_ms=0, attempts_max=10))
    for boot in range(1, 7):
        boot_id, at_ms = str(boot), boot * 20_000

        def hung(seen: Observation, boot_id: str = boot_id) -> Observation:
            late = silent_to_platform(seen, 4_000, "wallet-service")
            return silent_to_healer(reborn(late, "wallet-service", boot_id), 4_000, "wallet-service")

        scenario.live(*over(4_000, hung, start_ms=at_ms))
        scenario.live(ended(calm(at_ms + 5_000), "wallet-service", boot_id))
    assert len(scenario.done(Kill)) == 6
    assert Kind.CRASH_LOOP not in [a.about for a in scenario.done(Alert) if isinstance(a, Alert)]


def test_nobody_to_own_yet_is_no_page_while_one_is_starting() -> None:
    """At the start of the platform: suspected, and over by itself."""
    scenario = Scenario()

    def starting(seen: Observation) -> Observation:
        first = tuple(replace(p, phase=Phase.STARTING) for p in seen.processes or ())
        return with_owners(owned(replace(seen, processes=first), None, None, None, None))

    scenario.live(*over(5_000, starting))
    assert not scenario.actions


def not_run(seen: Observation, instance: str) -> Observation:
    """The platform runs no such instance: its pod was deleted, and nobody saw the end."""
    return replace(
        seen,
        processes=tuple(each for each in seen.processes or () if each.instance != instance),
        probes=tuple(each for each in seen.probes if each.life.instance != instance),
    )


def test_an_owner_that_the_platform_does_not_run_and_that_does_not_beat_is_dead() -> None:
    """Such as the owners of a platform that was deleted with its database: its shards would have nobody."""
    scenario = Scenario()
    scenario.live(*over(9_500, lambda seen: no_beat(not_run(seen, "bet-service-2"), 600_000, TWO)))
    assert not scenario.done(MarkDead), "a new healer has looked for less than ten seconds"
    scenario.live(*over(1_000, lambda seen: no_beat(not_run(seen, "bet-service-2"), 600_000, TWO), 10_000))
    assert scenario.done(MarkDead)[0] == MarkDead(TWO, 1)
    assert not scenario.done(Kill)


def test_an_owner_that_beats_is_alive_wherever_it_runs() -> None:
    """The list of what runs may be behind."""
    scenario = Scenario()
    scenario.live(*over(60_000, lambda seen: not_run(seen, "bet-service-2")))
    assert not scenario.done(MarkDead)


def test_an_owner_is_not_gone_while_it_is_not_known_what_runs_or_the_database_takes_no_heartbeats() -> None:
    scenario = Scenario()
    scenario.live(*over(60_000, lambda seen: no_beat(replace(seen, processes=None, probes=()), 600_000, TWO)))
    away = replace(calm(), database=Database.AWAY)
    scenario.live(*over(60_000, lambda seen: replace(away, at_ms=seen.at_ms), 60_000))
    assert not scenario.done(MarkDead)


def phase_of(seen: Observation, phase: Phase, *instances: str) -> Observation:
    """The platform says this of these processes."""
    found = (replace(p, phase=phase) if p.instance in instances else p for p in seen.processes or ())
    return replace(seen, processes=tuple(found))


def unheard(seen: Observation, *instances: str) -> Observation:
    """Nothing is heard of these, at any vantage point, since the scenario began."""
    silent = silent_to_platform(silent_to_healer(seen, seen.at_ms, *instances), seen.at_ms, *instances)
    return no_beat(silent, seen.at_ms, *(life(instance) for instance in instances))


@pytest.mark.parametrize("phase", [Phase.STOPPING, Phase.DOWN])
def test_an_owner_that_is_being_stopped_and_does_not_beat_is_dead(phase: Phase) -> None:
    """Its node died while it was drained, or was given up by Kubernetes: nobody will ever report its exit."""
    scenario = Scenario()
    change = lambda seen: phase_of(unheard(seen, "bet-service-2"), phase, "bet-service-2")  # noqa: E731
    scenario.live(*over(9_500, change))
    assert not scenario.done(MarkDead), "others would wait ten seconds where nobody heals"
    scenario.live(*over(1_000, change, 10_000))
    assert scenario.done(MarkDead)[0] == MarkDead(TWO, 1)
    assert scenario.done(Place)[0] == Place(((2, ONE), (3, ONE)), 1)


def test_an_owner_that_is_being_stopped_and_beats_is_alive() -> None:
    """It drains: its shards are handed over by itself."""
    scenario = Scenario()
    scenario.live(*over(60_000, lambda seen: phase_of(seen, Phase.STOPPING, "bet-service-2")))
    assert not scenario.done(MarkDead)


def test_an_owner_whose_instance_runs_another_life_is_dead_though_nobody_saw_it_end() -> None:
    """Its container ended twice while no healer was there: Kubernetes keeps the last end only."""
    scenario = Scenario()
    scenario.live(*over(11_000, lambda seen: no_beat(reborn(seen, "bet-service-2", "2"), 600_000, TWO)))
    assert scenario.done(MarkDead)[0] == MarkDead(TWO, 1)


ZONE = ("bet-service-2", "wallet-service", "user-service")


def test_owners_of_a_zone_that_is_lost_are_dead_and_nobody_is_killed() -> None:
    """So many are silent at once that nobody can tell why; but that they own shards helps nobody."""
    scenario = Scenario()
    scenario.live(*over(9_500, lambda seen: unheard(seen, *ZONE)))
    assert not scenario.done(MarkDead)
    scenario.live(*over(1_000, lambda seen: unheard(seen, *ZONE), 10_000))
    assert scenario.done(MarkDead)[0] == MarkDead(TWO, 1)
    assert scenario.done(Place)[0] == Place(((2, ONE), (3, ONE)), 1)
    assert not scenario.done(Kill)


def test_owners_are_not_dead_while_nobody_beats_or_probes_are_answered() -> None:
    """Then it is Postgres, or the way to it: one vantage point is no proof."""
    scenario = Scenario()
    scenario.live(*over(60_000, lambda seen: no_beat(unheard(seen, *ZONE), seen.at_ms, ONE, TWO)))
    assert not scenario.done(MarkDead)
    scenario = Scenario()
    answering = lambda seen: no_beat(unheard(seen, "wallet-service", "user-service"), seen.at_ms, TWO)  # noqa: E731
    scenario.live(*over(60_000, answering))
    assert not scenario.done(MarkDead)
