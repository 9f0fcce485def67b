"""Feeds, consumers, disk and clock: what is done, and what is only said."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from healing_scenes import Scenario, calm, life, over, process

from betting_operator.healer.feeds import active_by_workload
from betting_operator.healing import stall
from betting_operator.healing.actions import Alert, Kill
from betting_operator.healing.diagnoses import Certainty, Kind
from betting_operator.healing.evidence import Evidence
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Answer, Consumer, Feed, Host, Observation, Probe

MIB = 2**20


def alerts(scenario: Scenario) -> list[str]:
    """What people were told of."""
    return [action.about for action in scenario.done(Alert) if isinstance(action, Alert)]


def with_feed(seen: Observation, alive_us: int = 0, instance: str = "season-replay", boot_id: str = "7") -> Observation:
    """A producer that is one of our processes, whose last sign of life was this one."""
    running = (*(seen.processes or ()), process("season-replay", boot_id), process("odds-service", "1"))
    return replace(seen, feeds=(Feed("replay", instance, alive_us, suspended=True),), processes=running)


def test_a_silent_feed_is_restarted_after_twenty_seconds() -> None:
    """Its process, by boot id, once."""
    scenario = Scenario()
    scenario.live(*over(19_500, with_feed))
    assert not scenario.actions
    scenario.live(*over(5_000, with_feed, start_ms=20_000))
    assert scenario.done(Kill) == [Kill(life("season-replay", "7"))]
    assert alerts(scenario) == [Kind.FEED_SILENT]


def test_a_silent_feed_of_somebody_else_is_only_told() -> None:
    """There is no process of ours to restart."""
    scenario = Scenario()
    scenario.live(*over(25_000, lambda s: with_feed(s, instance="")))
    assert not scenario.done(Kill)
    assert alerts(scenario) == [Kind.FEED_SILENT]


@pytest.mark.parametrize(
    ("answers", "active"),
    [
        ({"season-replay-1": Answer.SERVING, "season-replay-2": Answer.NOT_SERVING}, "season-replay-1"),
        ({"season-replay-1": Answer.NOT_SERVING, "season-replay-2": Answer.SERVING}, "season-replay-2"),
        ({"season-replay-1": Answer.SILENT, "season-replay-2": Answer.NOT_SERVING}, None),
        ({"season-replay-1": Answer.SERVING, "season-replay-2": Answer.SERVING}, None),
        ({"season-replay-1": Answer.SILENT}, "season-replay-1"),
    ],
)
def test_the_silence_of_a_producer_is_that_of_its_active_process(
    answers: dict[str, Answer], active: str | None
) -> None:
    """Of several processes one speaks: the one that stands by is not killed for the other's silence."""
    probes = [Probe(life(instance), answer, 0) for instance, answer in answers.items()]
    assert active_by_workload([life(instance) for instance in answers], probes).get("season-replay") == active


def following(seen: Observation, position: int, head: int) -> Observation:
    """The projector of one shard, of an owner that nobody knows."""
    return replace(seen, consumers=(Consumer("projector", 0, position, head),))


def consuming(seen: Observation, boot_id: str = "1", others: int = 0, projector: int = 0) -> Observation:
    """A consumer that stands at 5 on one shard and at `others` on another, whose journal stands or was taken in."""
    head = 10 + seen.at_ms // 500
    holder, owner = life("notification-service", boot_id), life("bet-service-1")
    consumers = (
        Consumer("notifications", 0, 5, head, holder),
        Consumer("notifications", 1, others, others, holder),
        Consumer("projector", 0, projector or head, head, owner),
    )
    running = (*(seen.processes or ()), process("notification-service", boot_id))
    return replace(seen, consumers=consumers, processes=running)


def test_a_consumer_that_stands_while_the_journal_moves_is_stuck() -> None:
    """Ten seconds at one position with more to take in."""
    scenario = Scenario()
    scenario.live(*over(9_500, lambda s: following(s, 5, 10 + s.at_ms // 500)))
    assert alerts(scenario) == []
    scenario.live(*over(1_000, lambda s: following(s, 5, 10 + s.at_ms // 500), start_ms=10_000))
    assert alerts(scenario) == [Kind.CONSUMER_STUCK]


def test_a_consumer_that_moves_or_has_nothing_to_do_is_well() -> None:
    """Behind is not stuck; at the end is not stuck; neither is one whose journal stands."""
    for position in (lambda at_ms: at_ms // 5_000, lambda _: 10_000, lambda _: 5):
        scenario = Scenario()
        scenario.live(*over(60_000, lambda s, p=position: following(s, p(s.at_ms), 10_000)))  # type: ignore[misc]
        assert alerts(scenario) == []


def test_a_consumer_that_stands_as_a_whole_is_restarted() -> None:
    """By the boot id of the life that stood; the next one has ten seconds of its own."""
    scenario = Scenario()
    scenario.live(*over(9_500, consuming))
    assert not scenario.done(Kill)
    scenario.live(*over(500, consuming, start_ms=10_000))
    assert scenario.done(Kill) == [Kill(life("notification-service"))]
    scenario.live(*over(9_500, lambda s: consuming(s, "2"), start_ms=11_000))
    assert len(scenario.done(Kill)) == 1
    scenario.live(*over(1_000, lambda s: consuming(s, "2"), start_ms=21_000))
    assert len(scenario.done(Kill)) == 2


def test_a_consumer_whose_others_move_is_only_told() -> None:
    """It is the shard, not the process: a restart would stand at the same entry."""
    scenario = Scenario()
    tick = scenario.live(*over(30_000, lambda s: consuming(s, others=1 + s.at_ms // 1_000)))
    assert not scenario.done(Kill)
    assert [(d.target, d.certainty) for d in tick.diagnoses] == [
        ("notifications of notification-service", Certainty.CONFIRMED)
    ]


def projecting(seen: Observation, standing: int, moving: int) -> Observation:
    """The projector of one process, which takes in some of its shards and not the others."""
    head, owner = 10 + seen.at_ms // 500, life("bet-service-1")
    shards = range(standing + moving)
    positions = [5 if shard < standing else head for shard in shards]
    consumers = tuple(Consumer("projector", shard, positions[shard], head, owner) for shard in shards)
    return replace(seen, consumers=consumers)


def test_shards_that_are_stuck_are_told_once_for_each_process() -> None:
    """Not once for each shard: a thousand of them would keep the healer from its work."""
    scenario = Scenario()
    tick = scenario.live(*over(11_000, lambda s: projecting(s, standing=1_000, moving=24)))
    assert [d.target for d in tick.diagnoses] == ["projector of bet-service-1"]
    assert "and 995 more shards" in tick.diagnoses[0].evidence
    scenario.live(*over(30_000, lambda s: projecting(s, standing=1_010, moving=14), start_ms=11_000))
    assert alerts(scenario) == [Kind.CONSUMER_STUCK]
    assert not scenario.done(Kill)


def test_several_processes_that_stand_at_once_cannot_be_told_apart() -> None:
    """The database is the likelier cause."""
    scenario = Scenario()
    tick = scenario.live(*over(30_000, lambda s: consuming(s, projector=7)))
    assert not scenario.done(Kill)
    assert {(d.target, d.certainty) for d in tick.diagnoses} == {
        ("notification-service", Certainty.CANNOT_TELL),
        ("bet-service-1", Certainty.CANNOT_TELL),
    }


def test_what_could_not_be_seen_has_not_stood_still() -> None:
    """A gap in the directory: the ten seconds begin anew."""
    scenario = Scenario()
    scenario.live(*over(9_000, consuming))
    scenario.live(replace(consuming(calm(9_500)), consumers=None))
    scenario.live(*over(9_500, consuming, start_ms=10_000))
    assert not scenario.done(Kill)


def test_a_full_disk_and_a_clock_that_is_off_are_told() -> None:
    """Once each; nothing is deleted and no clock is set."""
    scenario = Scenario()
    scenario.live(*over(5_000, lambda s: replace(s, host=Host(100 * MIB, -2_500))))
    assert sorted(alerts(scenario)) == [Kind.CLOCK_OFF, Kind.DISK_FULL]
    assert len(scenario.actions) == 2
    fine = Scenario()
    fine.live(*over(5_000, lambda s: replace(s, host=Host(1_000 * MIB, 1_900))))
    assert not fine.actions


def test_a_quiet_minute_on_a_busy_machine_is_quiet() -> None:
    """Late ticks, one silent probe now and then: nothing is done."""
    scenario = Scenario()
    for at_ms in range(0, 60_000, 900):
        scenario.live(replace(calm(at_ms), late_ms=at_ms % 1_600))
    assert not scenario.actions


def answering(seen: Observation, instance: str, boot_id: str) -> Observation:
    """It answers the healer's probe, in this life."""
    return replace(seen, probes=(*seen.probes, Probe(life(instance, boot_id), Answer.SERVING, 0)))


def kills_s(scenario: Scenario, instance: str, change: Callable[[Observation, str], Observation]) -> list[int]:
    """When, in seconds, an instance is killed that answers at once in each of its lives, and never gets on."""
    found: list[int] = []
    for at_ms in range(0, 600_000, 500):
        boot_id = str(len(found) + 1)
        tick = scenario.live(answering(change(calm(at_ms), boot_id), instance, boot_id))
        if Kill(life(instance, boot_id)) in tick.plan.actions:
            found.append(at_ms // 1_000)
    return found


def test_a_feed_whose_source_is_away_is_not_killed_again_and_again() -> None:
    """It answers after each restart, and stays silent: three kills have not helped, and then it is one a minute."""
    killed_s = kills_s(Scenario(), "season-replay", lambda seen, boot_id: with_feed(seen, boot_id=boot_id))
    assert len(killed_s) > 3
    assert min(later - before for before, later in pairwise(killed_s[2:])) >= 60


def test_a_consumer_that_never_moves_again_is_not_killed_again_and_again() -> None:
    """The same of one that stands in each of its lives."""
    killed_s = kills_s(Scenario(), "notification-service", consuming)
    assert len(killed_s) > 3
    assert min(later - before for before, later in pairwise(killed_s[2:])) >= 60


def test_a_feed_that_is_heard_again_has_its_attempts_back() -> None:
    """A kill helped if the producer spoke after it: a later silence is a first one."""
    scenario = Scenario()
    for number in range(5):
        boot_id, start_ms = str(number), number * 120_000
        spoke = over(
            90_000, lambda s, b=boot_id: answering(with_feed(s, s.at_ms, boot_id=b), "season-replay", b), start_ms
        )
        silent = over(
            25_000, lambda s, b=boot_id: answering(with_feed(s, boot_id=b), "season-replay", b), start_ms + 90_500
        )
        scenario.live(*spoke, *silent)
    assert len(scenario.done(Kill)) == 5


def test_thousands_of_shards_that_stand_are_looked_at_in_no_time() -> None:
    """A tick over a second late voids all evidence: what follows the journal of 10,000 shards took half a minute."""
    consumers = [Consumer(name, shard, 5, 10) for name in ("projector", "notifications") for shard in range(10_000)]
    stalls = stall.watch((), consumers, 0)
    stalls = stall.watch(stalls, [replace(each, head=11) for each in consumers], 20_000)
    started_s = time.process_time()
    found = list(stall.stuck(stalls, Evidence(1, 0, 0, 0), calm(20_000), Policy()))
    assert [len(each.evidence) for each in found] == [stall.NAMED_MAX + 3] * 2
    assert time.process_time() - started_s < 10
