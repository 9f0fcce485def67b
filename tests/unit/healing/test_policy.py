"""What a policy allows: limits of single services, maintenance windows, switches from two places."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from healing_scenes import Scenario, calm, life, over, process, silent_to_healer, silent_to_platform
from hypothesis import given
from hypothesis import strategies as st

from betting_operator.healing.actions import Kill, MarkDead, Place
from betting_operator.healing.diagnoses import Kind
from betting_operator.healing.handovers import HandOvers, Refusal
from betting_operator.healing.maintenance import DAYS, Window, why_held
from betting_operator.healing.policy import (
    Policy,
    PolicyError,
    Rebalancing,
    ServiceLimits,
    decoded,
    encoded,
    in_force,
)
from betting_operator.healing.signals import Answer, Observation, Phase, Probe, Shard

NIGHT = Window(("Saturday", "Sunday"), 22 * 60, 240)
MORNING = Window(("Wednesday",), 9 * 60 + 30, 15)
ONE, TWO = life("bet-service-1"), life("bet-service-2")


def at(text: str) -> int:
    """Seconds since 1970 of this time in UTC."""
    return int(datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("windows", "time", "opens"),
    [
        ((), "2026-11-29 12:00:00", None),
        ((NIGHT,), "2026-11-28 21:59:59", "Saturday at 22:00"),
        ((NIGHT,), "2026-11-28 22:00:00", None),  # a Saturday
        ((NIGHT,), "2026-11-29 01:59:59", None),
        ((NIGHT,), "2026-11-29 02:00:00", "Sunday at 22:00"),
        ((NIGHT,), "2026-11-30 01:59:59", None),  # Monday, of the window that began on Sunday
        ((NIGHT,), "2026-11-30 02:00:00", "Saturday at 22:00"),
        ((NIGHT, MORNING), "2026-11-30 02:00:00", "Wednesday at 09:30"),
        ((NIGHT, MORNING), "2026-12-02 09:44:59", None),
        ((NIGHT, MORNING), "2026-12-02 09:45:00", "Saturday at 22:00"),
        ((Window(DAYS, 0, 1_440),), "2026-11-29 23:59:59", None),
    ],
)
def test_planned_work_begins_in_maintenance_windows(windows: tuple[Window, ...], time: str, opens: str | None) -> None:
    """Weekly, in UTC; one that begins late ends on the next day. Without any it begins at any time."""
    expected = f"outside of the maintenance windows: the next opens on {opens} UTC" if opens else ""
    assert why_held(windows, at(time)) == expected


windows = st.builds(
    Window,
    st.lists(st.sampled_from(DAYS), min_size=1, unique=True).map(tuple),
    st.integers(0, 1_439),
    st.integers(1, 1_440),
)


@given(st.lists(windows, min_size=1, max_size=3), st.integers(0, 4 * 10**9))
def test_a_window_is_open_from_its_beginning_for_as_long_as_it_lasts(given_: list[Window], wall_s: int) -> None:
    """As the calendar has it. What is said to be the next opening is one, and none comes before it."""
    now = datetime.fromtimestamp(wall_s, UTC)
    midnights = [now.replace(hour=0, minute=0, second=0) + timedelta(days=n) for n in range(-1, 8)]
    begins = [
        (midnight + timedelta(minutes=each.start_min), timedelta(minutes=each.duration_min))
        for midnight in midnights
        for each in given_
        if DAYS[midnight.weekday()] in each.days
    ]
    held = why_held(given_, wall_s)
    assert (held == "") is any(begin <= now < begin + lasts for begin, lasts in begins)
    if held:
        opening = min(begin for begin, _lasts in begins if begin > now)
        assert held.endswith(f"opens on {DAYS[opening.weekday()]} at {opening:%H:%M} UTC")


def lopsided(seen: Observation) -> Observation:
    """One of two owners has everything."""
    return replace(seen, shards=tuple(Shard(n, ONE, 1, "owned", ONE) for n in range(4)))


HELD = Policy(moves_held=why_held((NIGHT,), at("2026-11-30 12:00:00")))


def test_moves_for_balance_wait_for_a_window_and_it_is_said_for_which() -> None:
    assert len(Scenario().live(lopsided(calm())).plan.actions) == 1
    tick = Scenario(HELD).live(lopsided(calm()))
    assert tick.plan.actions == ()
    [declined] = tick.plan.declined
    assert declined.kind is Kind.SHARDS_MISPLACED
    assert declined.reason == "outside of the maintenance windows: the next opens on Saturday at 22:00 UTC"


def test_repairs_wait_for_no_window() -> None:
    """Shards without an owner are placed, what hangs is killed."""
    free = replace(calm(), shards=tuple(Shard(n, None, 1, "free", None) for n in range(4)))
    assert isinstance(Scenario(HELD).live(free).plan.actions[0], Place)
    scenario = Scenario(HELD)
    scenario.live(*over(5_000, lambda s: hung(s, "wallet-service")))
    assert scenario.done(Kill) == [Kill(life("wallet-service"))]


def test_a_hand_over_that_was_begun_in_a_window_is_still_undone_after_its_end() -> None:
    """Its receiver takes none of what was released for it: the others stay where they are."""
    shards = (Shard(0, ONE, 1, "owned", TWO), *(Shard(n, ONE, 1, "owned", ONE) for n in (1, 2, 3)))
    scenario = Scenario(HELD)
    scenario.live(replace(calm(), shards=shards))
    refusals = HandOvers(refusals=(Refusal(TWO, 0, 0),))
    scenario.memory = replace(scenario.memory, handovers=refusals)
    assert scenario.live(replace(calm(500), shards=shards)).plan.actions == (Place(((0, ONE),), 1),)


def hung(seen: Observation, *instances: str) -> Observation:
    """Silent to the healer and to the platform since the beginning."""
    return silent_to_platform(silent_to_healer(seen, seen.at_ms, *instances), seen.at_ms, *instances)


def gateways(seen: Observation, *silent: str, count: int = 4, down: str = "") -> Observation:
    """So many of them, some silent, one down."""
    names = [f"api-gateway-{n}" for n in range(1, count + 1)]
    processes = [process(name, phase=Phase.DOWN if name == down else Phase.RUNNING) for name in names]
    probes = [Probe(life(name), Answer.SERVING, 0) for name in names if name != down]
    whole = replace(seen, processes=(*(seen.processes or ()), *processes), probes=(*seen.probes, *probes))
    return hung(whole, *silent)


def share(percent: int) -> Policy:
    """Of the gateway, which must be healthy without the one that is acted on."""
    return Policy(services=(ServiceLimits("api-gateway", 10, percent),))


@pytest.mark.parametrize(
    ("percent", "count", "down", "killed"),
    [
        (75, 4, "", True),
        (76, 4, "", False),
        (75, 4, "api-gateway-4", False),
        (50, 4, "api-gateway-4", True),
        (50, 2, "", True),
        (51, 2, "", False),
        (66, 3, "", True),
        (99, 1, "", True),  # nothing is healthy: there is nothing left to keep
        (0, 4, "api-gateway-4", True),
    ],
)
def test_a_kill_leaves_the_healthy_share_that_the_policy_asks_for(
    percent: int, count: int, down: str, killed: bool
) -> None:
    """With the reason in numbers where it does not."""
    scenario = Scenario(share(percent))
    # The plain gateway of the scene is one more: without it.
    scenario.live(*over(5_000, lambda s: gateways(without(s, "api-gateway"), "api-gateway-1", count=count, down=down)))
    assert bool(scenario.done(Kill)) is killed
    if not killed:
        reasons = [each.reason for each in scenario.ticks[-1].plan.declined if each.target == "api-gateway-1"]
        well = count - 1 - bool(down)
        said = f"without it {well} of {count} of api-gateway are healthy, and the policy asks for {percent} %"
        assert reasons == [said]


def test_one_that_is_stopped_on_purpose_is_not_missed() -> None:
    """A roll replaces it."""
    names = ("api-gateway-1", "api-gateway-2", "api-gateway-3")

    def rolling(seen: Observation) -> Observation:
        seen = gateways(without(seen, "api-gateway"), names[0], count=3)
        stopping = (replace(p, phase=Phase.STOPPING) if p.instance == names[2] else p for p in seen.processes or ())
        return replace(seen, processes=tuple(stopping))

    scenario = Scenario(share(50))
    scenario.live(*over(5_000, rolling))
    assert scenario.done(Kill) == [Kill(life(names[0]))]


def test_the_share_of_one_service_is_no_other_ones_and_marking_dead_needs_none() -> None:
    """The shards of a hung owner go to the living at once; it is killed when its service has recovered."""
    scenario = Scenario(Policy(services=(ServiceLimits("bet-service", 10, 60),)))

    def hung_owner(seen: Observation) -> Observation:
        owners = tuple(replace(o, beat_age_ms=seen.at_ms) if o.life == TWO else o for o in seen.owners or ())
        return replace(hung(seen, "bet-service-2"), owners=owners)

    scenario.live(*over(5_000, hung_owner))
    assert MarkDead(TWO, 1) in scenario.actions
    assert not scenario.done(Kill)
    scenario = Scenario(share(60))
    scenario.live(*over(5_000, hung_owner))
    assert scenario.done(Kill) == [Kill(TWO)]


def without(seen: Observation, instance: str) -> Observation:
    """As if there were no such instance."""
    processes = tuple(p for p in seen.processes or () if p.instance != instance)
    return replace(seen, processes=processes, probes=tuple(p for p in seen.probes if p.life.instance != instance))


def test_a_service_may_have_a_budget_of_its_own() -> None:
    policy = Policy(disruptions_per_window=10, services=(ServiceLimits("bet-service", 1),))
    assert (policy.budget("bet-service"), policy.budget("api-gateway")) == (1, 10)
    assert (policy.healthy_percent_min("bet-service"), share(60).healthy_percent_min("api-gateway")) == (0, 60)


@pytest.mark.parametrize(
    ("own", "switch", "paused"),
    [
        ("", "", ""),
        ("", "network work", "network work"),
        ("upgrade", "", "upgrade (spec.healing.paused)"),
        ("upgrade", "network work", "upgrade (spec.healing.paused); network work (betting heal pause)"),
    ],
)
def test_a_pause_holds_from_either_place_and_says_from_which(own: str, switch: str, paused: str) -> None:
    assert in_force(Policy(paused=own), 0, paused=switch, dry_run=False).paused == paused


@pytest.mark.parametrize(("own", "switch"), [(False, False), (True, False), (False, True), (True, True)])
def test_a_dry_run_holds_from_either_place(own: bool, switch: bool) -> None:
    assert in_force(Policy(dry_run=own), 0, paused="", dry_run=switch).dry_run is (own or switch)


WHOLE = Policy(
    paused="upgrade",
    services=(ServiceLimits("bet-service", 3, 50), ServiceLimits("api-gateway", 7)),
    rebalancing=Rebalancing.APPROVE,
    windows=(NIGHT, MORNING),
)


def test_a_policy_survives_its_file() -> None:
    assert decoded(encoded(WHOLE)) == WHOLE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cool_down_ms": 300_000}, "cool_down_ms is 300000: it must be less than window_ms (300000)"),
        ({"services": (ServiceLimits("a", 0),)}, "disruptions_per_window of a is 0: it must be positive"),
        ({"services": (ServiceLimits("a", 1, 100),)}, "healthy_percent_min of a is 100: it must be from 0 to 99"),
        ({"services": (ServiceLimits("a", 1, -1),)}, "healthy_percent_min of a is -1"),
        ({"services": (ServiceLimits("a", 1), ServiceLimits("a", 2))}, "services has 2 limits of a"),
        ({"windows": (Window((), 0, 60),)}, "windows: [] must be days"),
        ({"windows": (Window(("Funday",), 0, 60),)}, "windows: ['Funday'] must be days"),
        ({"windows": (Window(DAYS, 1_440, 60),)}, "start_min is 1440"),
        ({"windows": (Window(DAYS, 0, 0),)}, "duration_min is 0: it must be from 1 to 1440"),
        ({"windows": (Window(DAYS, 0, 1_441),)}, "duration_min is 1441"),
    ],
)
def test_limits_and_windows_that_cannot_work_are_refused(change: dict[str, object], message: str) -> None:
    """In a file too."""
    policy = replace(Policy(), **change)  # type: ignore[arg-type]
    for refuse in (policy.check, lambda: decoded(encoded(policy))):
        with pytest.raises(PolicyError, match=re.escape(message)):
            refuse()


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "\x00", encoded(Policy())[:-1], encoded(Policy()).replace("10", '"x"')]
)
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(PolicyError, match="it cannot be read"):
        decoded(text)
