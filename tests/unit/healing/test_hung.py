"""When silence is proof, and when it is not: every vantage point present, missing and contradictory."""

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
    reborn,
    silent_to_healer,
    silent_to_platform,
)

from betting_operator.healing.actions import Alert, Kill, MarkDead, Place
from betting_operator.healing.diagnoses import Certainty, Kind
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Answer, Database, Observation, Phase, Probe

OWNER = life("bet-service-2")


def hung_wallet(seen: Observation) -> Observation:
    """Neither the healer nor the platform gets an answer from wallet-service, since the beginning."""
    return silent_to_platform(silent_to_healer(seen, seen.at_ms, "wallet-service"), seen.at_ms, "wallet-service")


def hung_owner(seen: Observation) -> Observation:
    """Nor from bet-service-2, and its beat stopped at the beginning."""
    silent = silent_to_platform(silent_to_healer(seen, seen.at_ms, "bet-service-2"), seen.at_ms, "bet-service-2")
    return no_beat(silent, seen.at_ms, OWNER)


def test_two_vantage_points_silent_for_three_seconds_are_proof() -> None:
    """Killed by the boot id of the life that was silent, once, and not before its time."""
    scenario = Scenario()
    scenario.live(*over(2_500, hung_wallet))
    assert not scenario.done(Kill)
    scenario.live(*over(1_500, hung_wallet, start_ms=3_000))
    assert scenario.done(Kill) == [Kill(life("wallet-service"))]


def test_a_hung_owner_loses_its_shards_first_and_is_killed_then() -> None:
    """In one tick: marked dead, its shards placed on who is left, killed."""
    scenario = Scenario()
    tick = scenario.live(*over(3_000, hung_owner))
    assert tick.plan.actions[0] == MarkDead(OWNER, 1)
    assert tick.plan.actions[1] == Place(((2, life("bet-service-1")), (3, life("bet-service-1"))), 1)
    assert tick.plan.actions[2] == Kill(life("bet-service-2"))


@pytest.mark.parametrize(
    ("seen", "certainty"),
    [
        (lambda s: silent_to_healer(s, s.at_ms, "wallet-service"), Certainty.SUSPECTED),
        (lambda s: silent_to_platform(s, s.at_ms, "wallet-service"), Certainty.SUSPECTED),
        (lambda s: silent_to_healer(replace(s, processes=None), s.at_ms, "wallet-service"), None),
        (lambda s: replace(s, probes=()), None),
    ],
    ids=["only the healer", "only the platform", "the platform is not seen", "nobody was asked"],
)
def test_one_vantage_point_is_not_proof(seen: object, certainty: Certainty | None) -> None:
    """However long it lasts: suspected at most, and nothing is done."""
    scenario = Scenario()
    tick = scenario.live(*over(30_000, seen))
    assert certainty_of(tick, Kind.PROCESS_HUNG, "wallet-service") is certainty
    assert not scenario.done(Kill)
    if certainty is not None:
        [declined] = [each for each in tick.plan.declined if each.target == "wallet-service"]
        assert declined.reason.startswith("suspected")


def test_a_fresh_beat_contradicts_the_probes() -> None:
    """Its commit loop is alive: cannot tell, nothing is done."""
    scenario = Scenario()
    silent = lambda s: silent_to_platform(silent_to_healer(s, s.at_ms, "bet-service-2"), s.at_ms, "bet-service-2")  # noqa: E731
    tick = scenario.live(*over(10_000, silent))
    assert certainty_of(tick, Kind.PROCESS_HUNG, "bet-service-2") is Certainty.CANNOT_TELL
    assert not scenario.actions


def test_a_missing_beat_alone_is_the_way_to_postgres() -> None:
    """Who answers is not hung."""
    scenario = Scenario()
    tick = scenario.live(*over(10_000, lambda s: no_beat(s, s.at_ms, OWNER)))
    assert certainty_of(tick, Kind.PROCESS_HUNG, "bet-service-2") is None
    assert not scenario.done(MarkDead)


def test_healer_and_beat_are_two_vantage_points_too() -> None:
    """The platform's probe may be the one that is missing."""
    scenario = Scenario()
    scenario.live(*over(3_000, lambda s: no_beat(silent_to_healer(s, s.at_ms, "bet-service-2"), s.at_ms, OWNER)))
    assert scenario.done(Kill)


def test_a_late_tick_voids_the_evidence_so_far() -> None:
    """A healer that was stopped takes its own pause for nobody's silence: a full window starts again."""
    scenario = Scenario()
    scenario.live(*over(2_500, hung_wallet))
    scenario.live(replace(hung_wallet(calm(12_500)), late_ms=9_500))
    scenario.live(*over(2_000, hung_wallet, start_ms=13_000))
    assert not scenario.done(Kill)
    scenario.live(hung_wallet(calm(15_500)))
    assert scenario.done(Kill)


def test_a_new_term_starts_with_no_evidence() -> None:
    """Just having become leader voids what others saw."""
    scenario = Scenario()
    scenario.live(*over(2_500, hung_wallet))
    scenario.live(*(replace(each, term=2) for each in over(2_500, hung_wallet, start_ms=3_000)))
    assert not scenario.done(Kill)


def test_beats_that_could_not_arrive_are_no_evidence() -> None:
    """Postgres frozen for five seconds: everybody's beat is old afterwards, nobody is hung."""
    scenario = Scenario()
    away = lambda s: replace(s, database=Database.AWAY, owners=None, shards=None)  # noqa: E731
    scenario.live(*over(2_000, lambda s: s))
    scenario.live(*over(5_000, away, start_ms=2_500))
    tick = scenario.live(*over(1_000, lambda s: no_beat(s, 6_000, OWNER, life("bet-service-1")), start_ms=8_000))
    assert not scenario.done(MarkDead)
    assert not scenario.done(Kill)
    assert not tick.diagnoses


def test_an_answer_in_between_ends_the_silence() -> None:
    """Slow is not hung."""
    scenario = Scenario()
    for start in range(0, 12_000, 3_000):
        scenario.live(*over(2_000, lambda s: silent_to_healer(s, s.at_ms, "wallet-service"), start_ms=start))
        scenario.live(calm(start + 2_500))
    assert not scenario.actions


def test_a_new_life_does_not_inherit_the_silence_of_the_last() -> None:
    """The evidence names a boot id."""
    scenario = Scenario()
    scenario.live(*over(2_500, hung_wallet))

    def next_life(seen: Observation) -> Observation:
        silent_ms = max(0, seen.at_ms - 4_000)
        late = silent_to_platform(seen, silent_ms, "wallet-service")
        return silent_to_healer(reborn(late, "wallet-service", "2"), silent_ms, "wallet-service")

    scenario.live(*over(3_500, next_life, start_ms=3_000))
    assert not scenario.done(Kill)
    scenario.live(*over(500, next_life, start_ms=7_000))
    assert scenario.done(Kill) == [Kill(life("wallet-service", "2"))]


def test_who_starts_is_not_hung() -> None:
    """A replay may take its time: silence counts once it has served."""
    scenario = Scenario()

    def starting(seen: Observation) -> Observation:
        found = (
            replace(p, phase=Phase.STARTING) if p.instance == "wallet-service" else p for p in seen.processes or ()
        )
        return hung_wallet(replace(seen, processes=tuple(found)))

    scenario.live(*over(60_000, starting))
    assert not scenario.done(Kill)


def test_refusing_connections_while_running_is_silence() -> None:
    """A process that lives and listens no more answers nobody."""
    scenario = Scenario()

    def deaf(seen: Observation) -> Observation:
        probes = (
            replace(p, answer=Answer.REFUSED, silent_ms=seen.at_ms) if p.life.instance == "wallet-service" else p
            for p in seen.probes
        )
        return silent_to_platform(replace(seen, probes=tuple(probes)), seen.at_ms, "wallet-service")

    scenario.live(*over(3_000, deaf))
    assert scenario.done(Kill)


def test_both_owners_silent_at_once_is_a_shared_cause() -> None:
    """The machine or the network is the likelier cause: cannot tell, a person is told once."""
    scenario = Scenario()

    def both(seen: Observation) -> Observation:
        silent = silent_to_platform(
            silent_to_healer(seen, seen.at_ms, "bet-service-1", "bet-service-2"),
            seen.at_ms,
            "bet-service-1",
            "bet-service-2",
        )
        return no_beat(silent, seen.at_ms, OWNER, life("bet-service-1"))

    tick = scenario.live(*over(20_000, both))
    assert certainty_of(tick, Kind.PROCESS_HUNG, "bet-service-1") is Certainty.CANNOT_TELL
    assert not scenario.done(Kill)
    assert not scenario.done(MarkDead)
    alerts = [alert for alert in scenario.done(Alert) if isinstance(alert, Alert) and alert.about == Kind.SHARED_CAUSE]
    assert len(alerts) == 1


def test_many_services_silent_at_once_is_a_shared_cause() -> None:
    """Four processor hogs slow everybody down: nobody is killed for it."""
    scenario = Scenario()
    many = ("wallet-service", "api-gateway", "user-service")
    scenario.live(*over(20_000, lambda s: silent_to_platform(silent_to_healer(s, s.at_ms, *many), s.at_ms, *many)))
    assert not scenario.done(Kill)


def test_an_exit_that_was_seen_is_acted_on_also_when_many_are_silent() -> None:
    """Individually proven deaths do not wait for the shared cause to clear."""
    scenario = Scenario()
    many = ("wallet-service", "api-gateway", "user-service")

    def seen(each: Observation) -> Observation:
        return ended(silent_to_platform(silent_to_healer(each, each.at_ms, *many), each.at_ms, *many), "bet-service-2")

    scenario.live(*over(5_000, seen))
    assert MarkDead(OWNER, 1) in scenario.actions
    assert not scenario.done(Kill)


def test_paused_healing_kills_nobody_and_says_why() -> None:
    """Marking dead is not disruptive and fenced: bettors of a dead owner do not wait for the pause to end."""
    scenario = Scenario(Policy(paused="upgrade of the switch"))
    tick = scenario.live(*over(5_000, hung_owner))
    assert not scenario.done(Kill)
    assert MarkDead(OWNER, 1) in scenario.actions
    assert any("upgrade of the switch" in each.reason for each in tick.plan.declined)


def test_a_dry_run_does_nothing_and_says_what_it_would_have_done() -> None:
    """Alerts are told all the same."""
    scenario = Scenario(Policy(dry_run=True))
    tick = scenario.live(*over(5_000, hung_owner))
    assert {type(action) for action in scenario.actions} <= {Alert}
    assert any(each.reason.startswith("dry run") and "kill" in each.target for each in tick.plan.declined)


def test_one_service_is_acted_on_one_at_a_time() -> None:
    """A second kill in the same service waits for the cool-down."""
    scenario = Scenario(Policy(cool_down_ms=5_000))
    scenario.live(*over(3_000, hung_wallet))
    scenario.live(*over(3_000, lambda s: reborn(hung_wallet(s), "wallet-service", "2"), start_ms=3_500))
    assert len(scenario.done(Kill)) == 1
    assert "one at a time" in scenario.ticks[-1].plan.declined[-1].reason
    scenario.live(*over(2_000, lambda s: reborn(hung_wallet(s), "wallet-service", "2"), start_ms=7_000))
    assert scenario.done(Kill)[1:] == [Kill(life("wallet-service", "2"))]


def test_killing_without_effect_ends_after_three_tries() -> None:
    """Then a person must look; being seen healthy starts the count anew."""
    scenario = Scenario(Policy(cool_down_ms=0))

    def hangs(boot: int) -> None:
        start = boot * 10_000
        scenario.live(*over(4_000, lambda s: reborn(hung_wallet(s), "wallet-service", str(boot)), start_ms=start))

    for boot in range(1, 6):
        hangs(boot)
    assert len(scenario.done(Kill)) == 3
    assert "a person must look" in scenario.ticks[-1].plan.declined[-1].reason
    scenario.live(calm(70_000))
    hangs(8)
    assert len(scenario.done(Kill)) == 4


def pair(seen: Observation, boot_id: str, silent_ms: int) -> Observation:
    """Two of a kind of which one serves; the other stands by, or is silent to the healer and to the platform."""
    standby = life("odds-service-2", boot_id)
    answer = Answer.SILENT if silent_ms else Answer.NOT_SERVING
    processes = (process("odds-service-1"), process("odds-service-2", boot_id, silent_ms=silent_ms))
    probes = (Probe(life("odds-service-1"), Answer.SERVING, 0), Probe(standby, answer, silent_ms))
    return replace(seen, processes=(*(seen.processes or ()), *processes), probes=(*seen.probes, *probes))


def test_one_that_stands_by_is_healthy_after_a_minute() -> None:
    """It never serves while another one does: its attempts would be spent after three hangs, however far apart."""
    scenario = Scenario()
    for number in range(5):
        boot_id, start_ms = str(number), number * 100_000
        scenario.live(*over(90_000, lambda s, b=boot_id: pair(s, b, 0), start_ms=start_ms))  # type: ignore[misc]
        hung_ms = start_ms + 90_500
        scenario.live(*over(4_000, lambda s, b=boot_id, h=hung_ms: pair(s, b, s.at_ms - h + 500), start_ms=hung_ms))  # type: ignore[misc]
    assert scenario.done(Kill) == [Kill(life("odds-service-2", str(number))) for number in range(5)]


def test_a_kill_that_did_not_arrive_is_tried_again() -> None:
    """The life is still there ten seconds later: nobody has ended it."""
    scenario = Scenario()
    scenario.live(*over(12_900, hung_wallet))
    assert len(scenario.done(Kill)) == 1
    assert "killed already" in scenario.ticks[-1].plan.declined[-1].reason
    scenario.live(*over(2_000, hung_wallet, start_ms=13_000))
    assert scenario.done(Kill) == [Kill(life("wallet-service"))] * 2


def hung_of(name: str) -> Callable[[Observation], Observation]:
    """Silent since the last full hundred seconds."""

    def seen(each: Observation) -> Observation:
        silent_ms = each.at_ms % 100_000
        silent = silent_to_platform(silent_to_healer(each, silent_ms, name), silent_ms, name)
        return no_beat(silent, silent_ms, life(name))

    return seen


def hung_again(name: str, boot_id: str, since_ms: int) -> Callable[[Observation], Observation]:
    """This life of an instance is silent since then."""

    def seen(each: Observation) -> Observation:
        silent_ms = each.at_ms - since_ms
        silent = silent_to_platform(silent_to_healer(each, silent_ms, name), silent_ms, name)
        return reborn(silent, name, boot_id)

    return seen


def test_the_budget_of_a_service_is_kept() -> None:
    """While another of its instances is well. It comes back with time."""
    scenario = Scenario(Policy(disruptions_per_window=1, cool_down_ms=0))
    for number, start_ms in enumerate((0, 40_000, 80_000)):
        scenario.live(reborn(calm(start_ms), "bet-service-1", f"life {number}"))
        scenario.live(*over(4_000, hung_again("bet-service-1", f"life {number}", start_ms), start_ms=start_ms + 500))
    assert len(scenario.done(Kill)) == 2, "the first, and one again"
    assert any("budget" in each.reason for each in scenario.ticks[-1].plan.declined)
    scenario.live(*over(4_000, hung_of("bet-service-2"), start_ms=100_000))
    assert len(scenario.done(Kill)) == 3, "it is the other's first"
    scenario.live(reborn(calm(150_000), "bet-service-1", "life 3"))
    scenario.live(*over(4_000, hung_again("bet-service-1", "life 3", 150_000), start_ms=150_500))
    assert len(scenario.done(Kill)) == 4, "it was well for a minute"


def test_first_failures_of_many_things_spend_nobody_elses_budget() -> None:
    """Each service has its own."""
    scenario = Scenario(Policy(disruptions_per_window=1))
    names = ("bet-service-1", "wallet-service", "api-gateway", "user-service", "event-service")
    for number, name in enumerate(names):
        scenario.live(*over(4_000, hung_of(name), start_ms=number * 100_000))
    assert [kill.life.instance for kill in scenario.done(Kill) if isinstance(kill, Kill)] == list(names)


def test_the_only_gateway_is_never_left_hanging_for_a_budget() -> None:
    """A life that was healthy hangs: it is killed, however often that was; a person is told all the same."""
    scenario = Scenario(Policy(disruptions_per_window=1, cool_down_ms=0))
    for number in range(4):
        start_ms, boot_id = number * 20_000, f"life {number}"
        scenario.live(reborn(calm(start_ms), "api-gateway", boot_id))
        scenario.live(*over(4_000, hung_again("api-gateway", boot_id, start_ms), start_ms=start_ms + 500))
    assert len(scenario.done(Kill)) == 4
    assert any(a.about == Kind.HEALING_EXHAUSTED for a in scenario.done(Alert) if isinstance(a, Alert))


def test_the_only_gateway_is_tried_again_after_kills_in_vain() -> None:
    """It never gets healthy: after three kills once a minute, and a person is called."""
    scenario = Scenario()
    for number in range(40):
        hung = hung_again("api-gateway", f"life {number}", number * 8_500)
        scenario.live(*over(8_000, hung, start_ms=number * 8_500))
    assert 6 <= len(scenario.done(Kill)) <= 8
