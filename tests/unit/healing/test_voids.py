"""Time that proves nothing: what was not written, not seen, slept through or merely slow is no silence of anybody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from healing_scenes import (
    Scenario,
    calm,
    certainty_of,
    ended,
    life,
    no_beat,
    over,
    process,
    silent_to_healer,
    silent_to_platform,
)

from betting_operator.healing.actions import Alert, Kill, MarkDead
from betting_operator.healing.diagnoses import TABLE, Certainty, Kind, Void
from betting_operator.healing.signals import Answer, Consumer, Database, Feed, Observation, Phase, Probe, Report

Change = Callable[[Observation], Observation]


def with_feed(seen: Observation, boot_id: str = "7", odds: str = "1", alive_us: int = 1) -> Observation:
    """A producer that is one of our processes; its last sign of life was this one."""
    running = (*(seen.processes or ()), process("season-replay", boot_id), process("odds-service", odds))
    return replace(seen, feeds=(Feed("replay", "season-replay", alive_us, suspended=False),), processes=running)


def standing(seen: Observation, boot_id: str = "1") -> Observation:
    """A consumer that stands at 5 while the journal moves."""
    consumer = Consumer("notifications", 0, 5, 10 + seen.at_ms // 500, life("notification-service", boot_id))
    running = (*(seen.processes or ()), process("notification-service", boot_id))
    return replace(seen, consumers=(consumer,), processes=running)


def read_only(seen: Observation) -> Observation:
    """The directory can be read; nothing can be written."""
    return replace(seen, database=Database.READ_ONLY)


def alerts(scenario: Scenario) -> list[str]:
    """What people were told of."""
    return [action.about for action in scenario.done(Alert) if isinstance(action, Alert)]


def test_a_read_only_database_is_away_told_once_and_no_standstill() -> None:
    """Nothing moves for fifteen seconds because nothing can be written; the consumer is well afterwards."""
    scenario = Scenario()
    frozen = lambda s: read_only(no_beat(standing(s), s.at_ms - 5_000, life("bet-service-1"), life("bet-service-2")))  # noqa: E731
    scenario.live(*over(5_000, standing), *over(15_000, frozen, start_ms=5_500))
    assert certainty_of(scenario.ticks[-1], Kind.DATABASE_AWAY, "postgres") is Certainty.CONFIRMED
    scenario.live(*over(9_000, standing, start_ms=21_000))
    assert alerts(scenario) == [Kind.DATABASE_AWAY]
    assert not scenario.done(Kill)
    scenario.live(*over(2_000, standing, start_ms=30_500))
    assert scenario.done(Kill), "ten seconds in which it could have moved are proof again"


def test_what_has_to_be_written_waits_for_a_database_that_takes_writes() -> None:
    """An owner's exit was seen: it is marked dead once that can be written; until then the reason is told."""
    scenario = Scenario()
    scenario.live(calm(0), *(read_only(ended(calm(at_ms), "bet-service-2")) for at_ms in (500, 1_000)))
    assert not scenario.done(MarkDead)
    assert any("takes no writes" in each.reason for each in scenario.ticks[-1].plan.declined)
    scenario.live(ended(calm(1_500), "bet-service-2"))
    assert scenario.done(MarkDead)


@pytest.mark.parametrize("proof", [with_feed, standing], ids=["feed", "consumer"])
def test_a_platform_that_was_stopped_for_seventy_seconds_was_nobodys_silence(proof: Change) -> None:
    """A laptop that slept: the healer knows its own pause, and everything starts anew."""
    scenario = Scenario()
    scenario.live(*over(5_000, proof))
    woke = replace(proof(calm(75_000)), late_ms=69_500)
    asleep = silent_to_platform(silent_to_healer(woke, 70_000, "wallet-service"), 70_000, "wallet-service")
    tick = scenario.live(no_beat(asleep, 70_000, life("bet-service-1"), life("bet-service-2")))
    assert not tick.diagnoses
    scenario.live(*over(9_000, proof, start_ms=75_500))
    assert not scenario.actions


def test_a_database_that_timed_out_in_the_healers_own_pause_is_not_away() -> None:
    """The timeout was the pause; a clock that was asked meanwhile is not off."""
    scenario = Scenario()
    tick = scenario.live(
        calm(0), replace(calm(70_000), late_ms=69_000, database=Database.AWAY, owners=None, shards=None)
    )
    assert certainty_of(tick, Kind.DATABASE_AWAY, "postgres") is Certainty.CANNOT_TELL
    assert not scenario.actions


def test_everybody_but_the_healer_paused_is_nobodys_silence_when_they_come_back_one_by_one() -> None:
    """The last two still look silent for seventy seconds when the others have answered again."""
    names = ("bet-service-1", "bet-service-2", "wallet-service", "api-gateway", "user-service", "event-service")

    def asleep(seen: Observation, who: tuple[str, ...] = names) -> Observation:
        beats = [life(name) for name in who if name.startswith("bet")]
        silent = silent_to_platform(silent_to_healer(seen, seen.at_ms, *who), seen.at_ms, *who)
        return no_beat(silent, seen.at_ms, *beats)

    scenario = Scenario()
    scenario.live(*over(70_000, asleep))
    scenario.live(*over(1_000, lambda s: asleep(s, names[4:]), start_ms=70_500))
    assert not scenario.done(Kill)
    assert not scenario.done(MarkDead)
    scenario.live(*over(4_000, lambda s: asleep(s, names[4:5]), start_ms=72_000))
    assert scenario.done(Kill) == [Kill(life("user-service"))], "who stays silent is found all the same"


@pytest.mark.parametrize(("feed", "odds"), [("8", "1"), ("7", "2")], ids=["the feed's", "odds-service's"])
def test_a_feeds_silence_counts_from_the_start_of_this_life(feed: str, odds: str) -> None:
    """Whatever was last heard of it in another life, its own or of who tells of it."""
    scenario = Scenario()
    scenario.live(*over(15_000, with_feed))
    scenario.live(*over(19_000, lambda s: with_feed(s, feed, odds), start_ms=15_500))
    assert not scenario.actions
    scenario.live(*over(2_000, lambda s: with_feed(s, feed, odds), start_ms=35_000))
    assert scenario.done(Kill) == [Kill(life("season-replay", feed))]


def test_a_feeds_silence_counts_from_the_healers_own_term() -> None:
    """A platform that was down for an hour: the last sign of life is an hour old, and nobody is silent."""
    scenario = Scenario()
    scenario.live(*over(19_500, lambda s: with_feed(replace(s, term=2), alive_us=5)))
    assert not scenario.actions


def odds_silent_to_healer(seen: Observation, silent_ms: int) -> Observation:
    """odds-service does not answer the healer's probe."""
    return replace(seen, probes=(*seen.probes, Probe(life("odds-service"), Answer.SILENT, silent_ms)))


def odds_silent_to_platform(seen: Observation, silent_ms: int) -> Observation:
    """Nor the platform's."""
    return silent_to_platform(seen, silent_ms, "odds-service")


def odds_silent_to_callers(seen: Observation, silent_ms: int) -> Observation:
    """It waits for Postgres, and one caller for it; another gets what it has in memory."""
    waits = Report("season-replay", life("odds-service"), 5, silent_ms, None)
    served = Report("health-monitor", life("odds-service"), 0, 0, seen.at_ms % 2_500)
    return replace(seen, reports=(*seen.reports, waits, served))


def odds_down(seen: Observation, _silent_ms: int) -> Observation:
    """It has exited, and what it reported last is still known."""
    down = (
        replace(p, phase=Phase.DOWN, boot_id="") if p.instance == "odds-service" else p for p in seen.processes or ()
    )
    return replace(seen, processes=tuple(down))


@pytest.mark.parametrize("unwell", [odds_silent_to_healer, odds_silent_to_platform, odds_silent_to_callers, odds_down])
def test_a_feed_is_not_silent_while_odds_service_makes_no_progress(
    unwell: Callable[[Observation, int], Observation],
) -> None:
    """However long it lasts; the twenty seconds start again when odds-service is well."""
    scenario = Scenario()
    scenario.live(*over(5_000, with_feed))
    scenario.live(*over(40_000, lambda s: unwell(with_feed(s), s.at_ms - 5_000), start_ms=5_500))
    scenario.live(*over(19_000, with_feed, start_ms=46_000))
    assert life("season-replay", "7") not in {action.life for action in scenario.done(Kill) if isinstance(action, Kill)}
    assert Kind.FEED_SILENT not in alerts(scenario)
    scenario.live(*over(1_500, with_feed, start_ms=65_500))
    assert Kill(life("season-replay", "7")) in scenario.done(Kill), "who is silent after that is found"


def test_a_single_lost_probe_of_odds_service_does_not_hide_a_silent_feed() -> None:
    """Below the three seconds that make a suspicion everything counts."""
    scenario = Scenario()
    lost = lambda s: odds_silent_to_healer(with_feed(s), 1_000 if s.at_ms % 2_000 else 0)  # noqa: E731
    scenario.live(*over(21_000, lost))
    assert scenario.done(Kill) == [Kill(life("season-replay", "7"))]


def test_a_feed_that_could_not_be_heard_was_not_silent() -> None:
    """odds-service does not answer for a while: the twenty seconds begin anew."""
    scenario = Scenario()
    scenario.live(*over(15_000, with_feed), *over(8_000, lambda s: replace(with_feed(s), feeds=None), start_ms=15_500))
    scenario.live(*over(19_000, with_feed, start_ms=24_000))
    assert not scenario.actions


def slow(seen: Observation, name: str, lag_ms: int = 2_000) -> Observation:
    """It answers beside its work, and its main loop runs late."""
    probes = (replace(p, lag_ms=lag_ms) if p.life.instance == name else p for p in seen.probes)
    return replace(seen, probes=tuple(probes))


def test_an_overloaded_process_is_told_and_not_killed() -> None:
    """Its callers wait and its beat is late; it gets on, so it is alive."""

    def flooded(seen: Observation) -> Observation:
        late = no_beat(slow(seen, "bet-service-2"), seen.at_ms, life("bet-service-2"))
        report = Report("api-gateway", life("bet-service-2"), 50, seen.at_ms, None)
        return replace(late, reports=(report,))

    scenario = Scenario()
    tick = scenario.live(*over(60_000, flooded))
    assert certainty_of(tick, Kind.OVERLOADED, "bet-service-2") is Certainty.CONFIRMED
    assert certainty_of(tick, Kind.PROCESS_HUNG, "bet-service-2") is Certainty.CANNOT_TELL
    assert alerts(scenario) == [Kind.OVERLOADED]
    assert not scenario.done(Kill)
    assert not scenario.done(MarkDead)


def test_a_consumer_that_is_overloaded_does_not_stand_still() -> None:
    """It would not be helped by beginning again."""

    def flooded(seen: Observation) -> Observation:
        probe = Probe(life("notification-service"), seen.probes[0].answer, 0, lag_ms=1_500)
        return replace(standing(seen), probes=(*seen.probes, probe))

    scenario = Scenario()
    scenario.live(*over(30_000, flooded))
    assert not scenario.done(Kill)


def stalled(seen: Observation, busy: bool, boot_id: str = "1") -> Observation:
    """The gateway answers beside its work; its main loop has stood since the beginning."""
    name = "api-gateway"
    probes = (replace(p, silent_ms=seen.at_ms, busy=busy) if p.life.instance == name else p for p in seen.probes)
    return silent_to_platform(replace(seen, probes=tuple(probes)), seen.at_ms, name)


def test_a_main_loop_that_stands_is_hung_one_that_burns_processor_time_gets_longer() -> None:
    """Three seconds; ten while it works at something, which is told meanwhile."""
    dead = Scenario()
    dead.live(*over(2_500, lambda s: stalled(s, busy=False)))
    assert not dead.done(Kill)
    dead.live(*over(500, lambda s: stalled(s, busy=False), start_ms=3_000))
    assert dead.done(Kill) == [Kill(life("api-gateway"))]
    busy = Scenario()
    tick = busy.live(*over(9_500, lambda s: stalled(s, busy=True)))
    assert not busy.done(Kill)
    assert certainty_of(tick, Kind.OVERLOADED, "api-gateway") is Certainty.CONFIRMED
    busy.live(*over(500, lambda s: stalled(s, busy=True), start_ms=10_000))
    assert busy.done(Kill)


def test_who_is_starting_is_not_judged() -> None:
    """Not before the platform says that it runs, and from then on it has its full time."""
    scenario = Scenario()

    def starting(seen: Observation) -> Observation:
        lives = (replace(p, phase=Phase.STARTING) if p.instance == "api-gateway" else p for p in seen.processes or ())
        return replace(silent_to_healer(seen, seen.at_ms, "api-gateway"), processes=tuple(lives))

    scenario.live(*over(30_000, starting))
    assert not scenario.ticks[-1].diagnoses


def test_a_record_that_cannot_be_written_is_told_and_changes_nothing_else() -> None:
    """It is no reason to stop healing."""
    scenario = Scenario()
    hung = lambda s: replace(stalled(s, busy=False), record_problem="No space left on device")  # noqa: E731
    scenario.live(*over(3_000, hung))
    assert Kind.RECORD_NOT_WRITTEN in alerts(scenario)
    assert scenario.done(Kill)


def test_every_diagnosis_that_rests_on_silence_lists_the_healers_own_pause() -> None:
    """Whoever adds one has to think of it; facts and a source's own word need none."""
    facts = {
        Kind.OWNER_DIED, Kind.PROCESS_DIED, Kind.CRASH_LOOP, Kind.HEALING_EXHAUSTED, Kind.SHARDS_MISPLACED,
        Kind.LEDGER_BROKEN, Kind.SHARD_STOPPED, Kind.REDIS_PRIMARY_GONE, Kind.REDIS_MEMORY_FULL, Kind.REDIS_BLOCKED,
        Kind.DISK_FULL, Kind.RECORD_NOT_WRITTEN,
    }  # fmt: skip
    assert {kind for kind, entry in TABLE.items() if Void.HEALER not in entry.voids} == facts
