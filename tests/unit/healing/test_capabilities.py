"""Where restarting does not help, the healer goes on with what the platform can do, and only then calls a person."""

from __future__ import annotations

from dataclasses import replace

import pytest
from healing_scenes import Scenario, calm, ended, life, process, reborn

from betting.life import Life
from betting_operator.healing.actions import Action, Alert, Kill, MoveAway, RollBack, Scale
from betting_operator.healing.diagnoses import Kind
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Capability, Exit, Observation, Owner, Phase, Probe, Size

WALLET = "wallet-service"
BET = "bet-service-1"
ALL = (Capability.MOVE_AWAY, Capability.ROLL_BACK, Capability.SCALE)
GIB = 1024**3
STEPS = (MoveAway, RollBack, Scale, Alert, Kill)


class Looping:
    """A platform on which instances crash every few seconds; each exit is a tick of its own."""

    def __init__(self, *capabilities: Capability, policy: Policy | None = None) -> None:
        self.scenario = Scenario(policy or Policy())
        self.capabilities = capabilities
        self.at_ms = 0
        self.boots: dict[str, int] = {}

    def _now(self) -> Observation:
        seen = replace(calm(self.at_ms), capabilities=self.capabilities)
        for instance, boot in self.boots.items():
            seen = reborn(seen, instance, str(boot))
        return seen

    def crash(self, times: int, *instances: str, apart_ms: int = 6_000) -> None:
        """So many exits of each of them, and the next life right after each."""
        for _ in range(times):
            for instance in instances or (WALLET,):
                boot = self.boots.get(instance, 1)
                self.scenario.live(ended(self._now(), instance, str(boot)))
                self.boots[instance] = boot + 1
                self.at_ms += apart_ms // (2 * len(instances or (WALLET,)))
            self.scenario.live(self._now())
            self.at_ms += apart_ms // 2

    def pass_ms(self, duration_ms: int, phase: Phase = Phase.RUNNING) -> None:
        """The wallet is in this phase meanwhile."""
        for _ in range(0, duration_ms, 500):
            self.at_ms += 500
            seen = self._now()
            if phase is not Phase.RUNNING:
                down = replace(process(WALLET), phase=phase, boot_id="")
                seen = replace(seen, processes=tuple(down if p.instance == WALLET else p for p in seen.processes or ()))
            self.scenario.live(seen)

    @property
    def steps(self) -> list[type[Action]]:
        """What was done about the crash loop, in this order."""
        return [
            type(each)
            for each in self.scenario.actions
            if isinstance(each, STEPS) and not (isinstance(each, Alert) and each.about != Kind.CRASH_LOOP)
        ]


def test_without_capabilities_a_crash_loop_calls_a_person_at_once() -> None:
    """Nothing else is done."""
    looping = Looping()
    looping.crash(10)
    assert looping.steps == [Alert]


def test_a_crash_loop_is_moved_away_then_rolled_back_then_a_person_is_called() -> None:
    """Each step gets two exits to help; what was tried is not tried again."""
    looping = Looping(*ALL)
    looping.crash(4)
    assert looping.steps == []
    looping.crash(1)
    assert looping.steps == [MoveAway]
    looping.crash(1)
    assert looping.steps == [MoveAway]
    looping.crash(2)
    assert looping.steps == [MoveAway, RollBack]
    looping.crash(20)
    assert looping.steps == [MoveAway, RollBack, Alert]


def test_the_life_that_is_moved_is_the_present_one_or_the_one_that_ended_last() -> None:
    """Down for a long pause, as what crashes again and again is, it is named by the life that ended."""
    looping = Looping(*ALL)
    looping.crash(5)
    [move] = looping.scenario.done(MoveAway)
    assert move == MoveAway(life(WALLET, "5"))


def test_who_is_well_after_the_move_calls_nobody() -> None:
    """Neither a person nor the next step."""
    looping = Looping(*ALL)
    looping.crash(5)
    looping.pass_ms(400_000)
    assert looping.steps == [MoveAway]


def test_who_does_not_run_within_a_minute_was_moved_in_vain() -> None:
    """Without another exit: the platform waits longer and longer before it starts it again, or found no node."""
    looping = Looping(*ALL)
    looping.crash(5)
    looping.pass_ms(50_000, Phase.DOWN)
    assert looping.steps == [MoveAway]
    looping.pass_ms(12_000, Phase.DOWN)
    assert looping.steps == [MoveAway, RollBack]
    looping.pass_ms(65_000, Phase.DOWN)
    assert looping.steps == [MoveAway, RollBack, Alert]


def test_several_instances_that_loop_are_rolled_back_first() -> None:
    """It is not the node; and one roll-back is for all of them."""
    both = replace(calm(), capabilities=ALL)
    for instance in ("bet-service-1", "bet-service-2"):
        for boot in range(1, 6):
            both = ended(both, instance, str(boot))
    scenario = Scenario()
    scenario.live(*(replace(both, at_ms=at_ms) for at_ms in range(0, 30_000, 500)))
    assert [a for a in scenario.actions if isinstance(a, STEPS[:2])] == [RollBack("bet-service")]


NEW, OLD = "demo-wallet-service-6c7d8f9b5d-z4k7m", "demo-wallet-service-5d4f8c7b9-x2b6n"


def test_a_pod_of_a_new_template_that_loops_beside_those_of_the_old_one_is_rolled_back_first() -> None:
    """A roll-out is under way: it is the version, and a node would be kept free for nothing."""
    for running, step in ((OLD, RollBack), ("demo-wallet-service-6c7d8f9b5d-x2b6n", MoveAway)):
        seen = replace(calm(), capabilities=ALL)
        pods = tuple(replace(process(WALLET), instance=name) for name in (NEW, running))
        others = tuple(p for p in seen.processes or () if p.workload != WALLET)
        exits = tuple(Exit(Life(WALLET, NEW, str(boot)), boot, "exit code 1") for boot in range(2, 7))
        seen = replace(seen, processes=(*others, *pods), exits=exits)
        scenario = Scenario()
        scenario.live(*(replace(seen, at_ms=at_ms) for at_ms in range(10, 2_000, 500)))
        assert [type(each) for each in scenario.actions if isinstance(each, STEPS)] == [step]


def test_each_template_is_rolled_back_once_and_the_action_names_it() -> None:
    """The version after the one that was rolled back, or could not be, crashes too: another template."""
    scenario = Scenario()
    for began_ms, new in ((0, NEW), (200_000, "demo-wallet-service-8f9b5d6c7-h2k4v")):
        seen = replace(calm(), capabilities=ALL)
        pods = tuple(replace(process(WALLET), instance=name) for name in (new, OLD))
        others = tuple(p for p in seen.processes or () if p.workload != WALLET)
        exits = tuple(Exit(Life(WALLET, new, str(boot)), began_ms + boot, "exit code 1") for boot in range(2, 7))
        seen = replace(seen, processes=(*others, *pods), exits=exits)
        scenario.live(*(replace(seen, at_ms=at_ms) for at_ms in range(began_ms + 10, began_ms + 2_000, 500)))
    expected = [RollBack(WALLET, "demo-wallet-service-6c7d8f9b5d"), RollBack(WALLET, "demo-wallet-service-8f9b5d6c7")]
    assert scenario.done(RollBack) == expected


def test_a_policy_that_allows_no_roll_back_is_kept() -> None:
    """After the move a person is called."""
    looping = Looping(*ALL, policy=Policy(roll_back=False))
    looping.crash(12)
    assert looping.steps == [MoveAway, Alert]


@pytest.mark.parametrize("policy", [Policy(paused="maintenance"), Policy(dry_run=True)])
def test_paused_and_in_a_dry_run_a_person_is_called_instead(policy: Policy) -> None:
    """Why nothing is done is said."""
    looping = Looping(*ALL, policy=policy)
    looping.crash(12)
    assert looping.steps == [Alert]
    reasons = {d.reason for t in looping.scenario.ticks for d in t.plan.declined if WALLET in d.target}
    assert any(("healing is paused" in reason) or ("dry run" in reason) for reason in reasons)


def test_after_an_hour_a_step_may_be_taken_again() -> None:
    """It is another illness then."""
    looping = Looping(*ALL)
    looping.crash(5)
    looping.at_ms += 3_600_000
    looping.crash(5)
    assert looping.steps == [MoveAway, MoveAway]


def short_of_memory(at_ms: int, instances: int, *capabilities: Capability) -> Observation:
    """The first bet-service needs 6 GiB, explained by its open bets; so many run."""
    seen = calm(at_ms)
    names = [f"bet-service-{n}" for n in range(1, instances + 1)]
    processes = tuple(p for p in seen.processes or () if p.workload != "bet-service")
    return replace(
        seen,
        capabilities=capabilities,
        processes=(*processes, *(process(name) for name in names)),
        probes=(*seen.probes, *(Probe(life(name), seen.probes[0].answer, 0) for name in names[2:])),
        owners=tuple(Owner(life(name), 200, draining=False, exited=False) for name in names),
        sizes=(Size(life(BET), 6 * GIB, 6 * GIB),),
    )


@pytest.mark.parametrize(
    ("capabilities", "replicas_max"), [((), 9), ((Capability.SCALE,), 0), ((Capability.SCALE,), 2)]
)
def test_short_memory_calls_a_person_where_nothing_may_be_added(
    capabilities: tuple[Capability, ...], replicas_max: int
) -> None:
    """The platform cannot, the policy does not say so, or as many as it allows run already."""
    scenario = Scenario(Policy(replicas_max=replicas_max))
    scenario.live(*(short_of_memory(at_ms, 2, *capabilities) for at_ms in range(0, 60_000, 500)))
    assert not scenario.done(Scale)
    assert [a.about for a in scenario.done(Alert) if isinstance(a, Alert)] == [Kind.MEMORY_SHORT]


def test_short_memory_adds_one_bet_service_at_a_time_up_to_what_policy_allows() -> None:
    """Each has five minutes to take shards; then a person is called."""
    scenario = Scenario(Policy(replicas_max=4))
    for at_ms in range(0, 1_000_000, 500):
        scenario.live(short_of_memory(at_ms, 2 + len(scenario.done(Scale)), Capability.SCALE))
    assert scenario.done(Scale) == [Scale("bet-service", 3), Scale("bet-service", 4)]
    times = [n * 500 for n, t in enumerate(scenario.ticks) if any(isinstance(a, Scale) for a in t.plan.actions)]
    assert times[1] - times[0] >= 300_000
    assert [a.about for a in scenario.done(Alert) if isinstance(a, Alert)] == [Kind.MEMORY_SHORT]
