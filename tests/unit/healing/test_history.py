"""What is kept of healing for people: each action once with its diagnosis, and how long what was wrong lasted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import redis_scenes
from healing_scenes import Scenario, calm, ended, life, over, process, silent_to_healer, silent_to_platform
from prometheus_client import REGISTRY

from betting_operator.healer.executor import Span
from betting_operator.healer.history import Entry, History, Outcome, Present, Repaired
from betting_operator.healing import repairs
from betting_operator.healing.actions import Kill, Place, describe
from betting_operator.healing.brain import Tick
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.flight import Record
from betting_operator.healing.plan import Declined, Plan
from betting_operator.healing.policy import Policy
from betting_operator.healing.redis_signals import FailoverPhase
from betting_operator.healing.repairs import Episode, Failover
from betting_operator.healing.signals import Observation, Phase

WALL_US = 1_700_000_000_000_000
TICK_US = 2_000
DIES = life("bet-service-2")


@dataclass
class Told:
    """Everything that the history told."""

    what: list[Entry | Repaired] = field(default_factory=list)
    now: list[Present] = field(default_factory=list)
    over: list[Episode] = field(default_factory=list)
    failovers: list[Failover] = field(default_factory=list)

    def stands(self, now: Present) -> None:
        self.now.append(now)
        self.over += now.over
        self.failovers += [now.failover] if now.failover else []

    def history(self) -> History:
        return History(self.what.append, self.stands)

    @property
    def entries(self) -> list[Entry]:
        return [each for each in self.what if isinstance(each, Entry)]

    @property
    def repaired(self) -> list[Repaired]:
        return [each for each in self.what if isinstance(each, Repaired)]


def outcomes_of(plan: Plan, outcome: str = "done") -> tuple[str, ...]:
    return tuple(f"{describe(action)}: {outcome}" for action in plan.actions)


def told(
    ticks: Iterable[Observation], outcome: Callable[[Tick], str] = lambda _tick: "done", policy: Policy | None = None
) -> Told:
    """What a history tells of a healer that lives through these ticks."""
    scenario, audience = Scenario(policy or Policy()), Told()
    history = audience.history()
    for seen in ticks:
        tick = scenario.live(seen)
        note(history, seen, tick.diagnoses, tick.plan, outcome(tick), scenario.memory.exits)
    return audience


def note(
    history: History,
    seen: Observation,
    diagnoses: tuple[Diagnosis, ...] = (),
    plan: Plan | None = None,
    outcome: str = "done",
    exits: Sequence[object] = (),
) -> None:
    plan = plan or Plan()
    wall_us = WALL_US + seen.at_ms * 1_000
    record = Record(wall_us + TICK_US, Policy(), seen, diagnoses, plan, outcomes_of(plan, outcome))
    spans = [Span(wall_us + 100, wall_us + 1_100)] * len(plan.actions)
    history.note(7, record, exits, wall_us, spans)  # type: ignore[arg-type]


def died(seen: Observation) -> Observation:
    """The exit of a bet-service was seen 300 ms before its tick."""
    found = ended(seen, DIES.instance)
    return replace(found, exits=tuple(replace(each, at_ms=seen.at_ms - 300) for each in found.exits))


def marked(seen: Observation, *, owned: bool) -> Observation:
    """It is marked dead, its shards wait for the other or are owned by it."""
    heir = life("bet-service-1")
    owners = tuple(replace(each, exited=each.life == DIES) for each in seen.owners or ())
    shards = tuple(
        replace(each, owner=heir if owned else DIES, desired_owner=heir) if each.owner == DIES else each
        for each in seen.shards or ()
    )
    processes = tuple(each for each in seen.processes or () if each.instance != DIES.instance)
    return replace(seen, owners=owners, shards=shards, processes=processes, probes=seen.probes)


def death(wait_ms: int = 1_000) -> list[Observation]:
    """It dies; its shards are owned again so long after the tick that saw it."""
    seen = [calm(0), died(calm(500))]
    seen += [marked(calm(at_ms), owned=at_ms >= 500 + wait_ms) for at_ms in range(1_000, 8_000, 500)]
    return seen


def test_a_death_is_told_with_evidence_action_target_and_times() -> None:
    found = told(death())
    first = found.entries[0]
    assert (first.diagnosis, first.action, first.outcome) == (Kind.OWNER_DIED, "MarkDead", Outcome.DONE)
    assert (first.target.instance, first.target.boot_id) == (DIES.instance, DIES.boot_id)
    assert first.evidence == ("exit seen: killed by SIGKILL",)
    assert "marked dead" in first.reason
    assert first.evidence_us == WALL_US + 200_000
    assert (first.began_us, first.ended_us) == (WALL_US + 500_100, WALL_US + 501_100)
    second = found.entries[1]
    assert (second.diagnosis, second.about, second.action) == (Kind.OWNER_DIED, str(DIES), "Place")
    assert second.target.shards == (2, 3)
    assert (first.number.wall_us, first.number.place, second.number.place) == (WALL_US + 500_000 + TICK_US, 0, 1)


def test_a_dead_owner_is_repaired_once_others_own_its_shards() -> None:
    """Not when it is marked dead: nobody can bet on its shards then."""
    for wait_ms in (1_000, 2_500):
        [repaired] = told(death(wait_ms)).repaired
        assert (repaired.diagnosis, repaired.about) == (Kind.OWNER_DIED, str(DIES))
        assert repaired.took_ms == 300 + wait_ms
        assert len(repaired.entries) == 2


def test_while_the_directory_cannot_be_read_nothing_counts_as_repaired() -> None:
    blind = [replace(each, owners=None, shards=None) for each in death()[2:]]
    found = told([*death()[:2], *blind])
    assert not [each for each in found.over if each.kind is Kind.OWNER_DIED]
    assert any(each.episode.kind is Kind.OWNER_DIED for each in found.now[-1].lasting)


def test_a_diagnosis_that_comes_back_at_once_was_not_over() -> None:
    """Between two of its ticks one is without it: one episode, from its first beginning on."""

    def down(seen: Observation) -> Observation:
        rest = (each for each in seen.processes or () if each.instance != "event-service")
        return replace(seen, processes=(*rest, process("event-service", "", phase=Phase.DOWN)))

    ticks = [down(calm(0)), calm(500), down(calm(1_000)), calm(1_500), *over(4_000, lambda seen: seen, 2_000)]
    found = told(ticks)
    assert [(each.kind, each.took_ms) for each in found.over] == [(Kind.PROCESS_DIED, 1_500)]


def test_silence_is_counted_from_its_beginning_and_shown_once_confirmed() -> None:
    """Suspected for less than five seconds is no news; what is shown does not change with every tick."""

    def silent(seen: Observation) -> Observation:
        for_ms = seen.at_ms
        return silent_to_platform(silent_to_healer(seen, for_ms, "wallet-service"), for_ms, "wallet-service")

    found = told(over(6_000, silent))
    shown = [present.lasting for present in found.now]
    first = next(number for number, each in enumerate(shown) if each)
    assert shown[first][0].episode.certainty is Certainty.CONFIRMED
    assert shown[first][0].since_us <= WALL_US + 500_000
    assert len({each for each in shown if each}) == 1, "the evidence stays as it was when it was confirmed"


def test_what_is_suspected_for_long_is_shown() -> None:
    audience = Told()
    history = audience.history()
    suspected = Diagnosis(Kind.PROCESS_HUNG, "wallet-service", Certainty.SUSPECTED, ("silent",))
    for at_ms in range(0, 6_000, 500):
        note(history, calm(at_ms), (suspected,))
    assert not audience.now[9].lasting
    assert [each.episode.target for each in audience.now[10].lasting] == ["wallet-service"]


def test_the_same_action_with_the_same_outcome_is_told_once_a_minute() -> None:
    """A healer that fails every half second must not fill the history with it."""
    audience = Told()
    history = audience.history()
    hung = Diagnosis(Kind.PROCESS_HUNG, "wallet-service", Certainty.CONFIRMED, ("silent",), life("wallet-service"))
    kill = Plan((Kill(life("wallet-service")),))
    for number in range(20):
        note(history, calm(number * 500), (hung,), kill, f"failed: no answer within {number} s")
    note(history, calm(10_500), (hung,), kill)
    assert [each.outcome for each in audience.entries] == [Outcome.FAILED, Outcome.DONE]
    assert audience.entries[0].message == "no answer within 0 s"


def test_planned_moves_are_one_entry_however_many_ticks_they_take() -> None:
    """The shards of a death that comes meanwhile are another."""
    audience = Told()
    history = audience.history()
    moves = Diagnosis(Kind.SHARDS_MISPLACED, "shards", Certainty.CONFIRMED, ("2 to hand over",))
    death = Diagnosis(Kind.OWNER_DIED, str(DIES), Certainty.CONFIRMED, ("exit seen",), DIES)
    for number in range(2):
        note(history, calm(500 * number), (moves,), Plan((Place(((number, life("bet-service-2")),), 1),)))
    note(history, calm(1_000), (moves, death), Plan((Place(((2, life("bet-service-1")),), 1),)))
    told = [(each.diagnosis, each.action, each.target.shards) for each in audience.entries]
    assert told == [(Kind.SHARDS_MISPLACED, "Place", (0,)), (Kind.OWNER_DIED, "Place", (2,))]


def test_what_is_declined_for_five_seconds_is_told_once_with_its_reason() -> None:
    """A kill that waits for its end is no news, nor is what is unsure, nor what nothing is ever done about."""
    audience = Told()
    history = audience.history()
    hung = Diagnosis(Kind.PROCESS_HUNG, "wallet-service", Certainty.CONFIRMED, ("silent",), life("wallet-service"))
    unsure = Diagnosis(Kind.PROCESS_HUNG, "odds-service", Certainty.SUSPECTED, ("silent",))
    overloaded = Diagnosis(Kind.OVERLOADED, "api-gateway", Certainty.CONFIRMED, ("late",))
    for at_ms in range(0, 9_000, 500):
        reason = "this life has been killed already" if at_ms < 3_000 else f"healing is paused: {at_ms}"
        declined = (
            Declined(Kind.PROCESS_HUNG, "wallet-service", reason),
            Declined(Kind.PROCESS_HUNG, "odds-service", "suspected: silent"),
            Declined(Kind.OVERLOADED, "api-gateway", repairs.TABLE[Kind.OVERLOADED].heals),
        )
        note(history, calm(at_ms), (hung, unsure, overloaded), Plan(declined=declined))
    [entry] = audience.entries
    assert (entry.outcome, entry.action, entry.reason) == (Outcome.DECLINED, "", "healing is paused: 8000")
    assert entry.target.instance == "wallet-service"


def test_a_dry_run_tells_what_would_have_been_done() -> None:
    found = told([calm(0), *(died(calm(at_ms)) for at_ms in range(500, 8_000, 500))], policy=Policy(dry_run=True))
    assert {each.outcome for each in found.entries} == {Outcome.DECLINED}
    assert any("mark dead bet-service-2" in each.decision for each in found.entries)
    assert {each.reason for each in found.entries} == {"dry run: nothing is done"}


def test_a_failover_is_told_from_the_end_of_the_old_primary_to_the_new_epoch() -> None:
    well = redis_scenes.well
    seen = [
        well(0),
        redis_scenes.gone(well(500)),
        redis_scenes.recorded(redis_scenes.gone(well(1_000)), FailoverPhase.PROMOTING, candidate=redis_scenes.TWO),
        redis_scenes.recorded(well(1_500), FailoverPhase.STEADY, primary=redis_scenes.TWO, epoch=8),
        redis_scenes.recorded(well(2_000), FailoverPhase.STEADY, primary=redis_scenes.TWO, epoch=8),
    ]
    [failover] = told(seen).failovers
    assert (failover.before, failover.after, failover.epoch) == (redis_scenes.ONE, redis_scenes.TWO, 8)
    assert (failover.began_ms, failover.ended_ms) == (500, 1_500)


def test_a_healer_that_begins_in_the_middle_tells_no_failover() -> None:
    """It does not know who was primary before."""
    seen = redis_scenes.recorded(redis_scenes.well(0), FailoverPhase.STEADY, epoch=8)
    assert not told([seen, replace(seen, at_ms=500)]).failovers


def test_repair_times_are_a_metric() -> None:
    labels = {"diagnosis": "owner-died"}
    before = REGISTRY.get_sample_value("betting_healer_repair_seconds_sum", labels) or 0.0
    told(death(2_500))
    after = REGISTRY.get_sample_value("betting_healer_repair_seconds_sum", labels)
    assert after is not None
    assert round(after - before, 3) == 2.8


def test_the_confirmed_diagnoses_that_stand_are_a_metric() -> None:
    """One that is suspected is none yet. One that never was is 0: without a healer there is no value at all."""

    def standing(kind: str) -> float | None:
        return REGISTRY.get_sample_value("betting_healer_diagnoses", {"diagnosis": kind})

    history, scenario, most = History(), Scenario(), 0.0
    for seen in death():
        tick = scenario.live(seen)
        note(history, seen, tick.diagnoses, tick.plan, exits=scenario.memory.exits)
        assert standing("owner-died") == sum(
            each.kind is Kind.OWNER_DIED and each.confirmed for each in tick.diagnoses
        ), seen.at_ms
        most = max(most, standing("owner-died") or 0.0)
    assert most == 1.0
    assert standing("owner-died") == 0.0, "it is over"
    assert standing("redis-blocked") == 0.0


def test_an_audience_that_fails_does_not_end_the_healer() -> None:
    """Nothing is healed by what people are told."""

    def fails(_what: object) -> None:
        raise ValueError("no")

    history, scenario = History(fails, fails), Scenario()
    for seen in death():
        tick = scenario.live(seen)
        note(history, seen, tick.diagnoses, tick.plan, exits=scenario.memory.exits)
