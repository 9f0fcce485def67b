"""A node on which several services fail, which are well elsewhere, is bad: they are moved away, shards first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from healing_scenes import TICK_MS, Scenario, certainty_of, ended, life, process, silent_to_healer, silent_to_platform

from betting.life import Life
from betting_operator.healing import bad_nodes
from betting_operator.healing.actions import Alert, Drain, Kill, MarkDead, MoveAway, RollBack
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.nodes import LostNode, Nodes
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import (
    Answer,
    Capability,
    Database,
    Exit,
    Observation,
    Owner,
    Phase,
    Probe,
    Shard,
)

SERVICES = ("bet-service", "wallet-service", "user-service")
CAN = (Capability.MOVE_AWAY,)


@dataclass
class Cluster:
    """Three services with an instance on each of two nodes, the first on the bad one; and what becomes of them."""

    scenario: Scenario = field(default_factory=lambda: Scenario(Policy(cool_down_ms=1_000)))
    can: tuple[Capability, ...] = CAN
    nodes: tuple[str, str] = ("bad", "good")
    at_ms: int = 0
    boots: dict[str, int] = field(default_factory=dict)
    shards: Life | None = field(default_factory=lambda: life("bet-service-1"))
    silent: tuple[str, ...] = ()

    def seen(self) -> Observation:
        names = [f"{service}-{n}" for service in SERVICES for n in (1, 2)]
        lives = {name: life(name, str(self.boots.get(name, 1))) for name in names}
        owners = (lives["bet-service-1"], lives["bet-service-2"])
        found = Observation(
            at_ms=self.at_ms,
            term=1,
            capabilities=self.can,
            processes=tuple(
                replace(process(name, lives[name].boot_id), node=self.nodes[int(name[-1]) - 1]) for name in names
            ),
            probes=tuple(Probe(each, Answer.SERVING, 0) for each in lives.values()),
            database=Database.OK,
            owners=tuple(Owner(each, 200, draining=False, exited=False) for each in owners),
            shards=tuple(Shard(n, self.shards, 1, "owned", self.shards) for n in range(2)),
        )
        if self.silent:
            found = silent_to_platform(silent_to_healer(found, 4_000, *self.silent), 4_000, *self.silent)
        return found

    def look(self, *dies: str) -> None:
        """One tick, in which the exits of these are seen; each is back in the next."""
        found = self.seen()
        for name in dies:
            found = ended(found, name, str(self.boots.get(name, 1)))
            self.boots[name] = self.boots.get(name, 1) + 1
        self.scenario.live(found)
        self.at_ms += TICK_MS

    def looks(self, count: int) -> None:
        for _ in range(count):
            self.look()

    @property
    def moved(self) -> list[str]:
        return [action.life.instance for action in self.scenario.done(MoveAway) if isinstance(action, MoveAway)]


def failing(names: Sequence[str], times: int = 2, **more: object) -> Cluster:
    """A cluster in which each of these has ended so often, ten seconds apart."""
    cluster = Cluster(**more)  # type: ignore[arg-type]
    cluster.look()
    for _ in range(times):
        cluster.look(*names)
        cluster.looks(20)
    return cluster


def test_what_fails_on_one_node_only_is_moved_away_within_a_minute_of_its_first_failure() -> None:
    cluster = failing(("wallet-service-1", "user-service-1"))
    assert set(cluster.moved) == {"user-service-1", "wallet-service-1"}
    assert not cluster.scenario.done(Kill)
    first = next(
        n for n, tick in enumerate(cluster.scenario.ticks) if any(isinstance(a, MoveAway) for a in tick.plan.actions)
    )
    assert first * TICK_MS < 60_000


def test_a_person_is_told_of_the_node_once() -> None:
    cluster = failing(("wallet-service-1", "user-service-1"))
    alerts = [alert for alert in cluster.scenario.done(Alert) if isinstance(alert, Alert)]
    assert [(alert.about, alert.target) for alert in alerts] == [(Kind.BAD_NODE, "bad")]
    assert "4 failures of user-service, wallet-service on bad, none of them elsewhere" in alerts[0].text


def test_a_bet_service_that_runs_hands_its_shards_over_first() -> None:
    cluster = failing(("bet-service-1", "wallet-service-1"), 1)
    cluster.look("bet-service-1")
    cluster.shards = life("bet-service-1", "3")
    cluster.looks(4)
    cluster.look("wallet-service-1")
    cluster.looks(6)
    drained = [a.owner for a in cluster.scenario.done(Drain) if isinstance(a, Drain)]
    assert drained == [life("bet-service-1", "3")]
    assert "bet-service-1" not in cluster.moved
    cluster.shards = life("bet-service-2")
    cluster.looks(4)
    assert "bet-service-1" in cluster.moved


def test_what_is_down_most_of_the_time_is_moved_by_its_last_life() -> None:
    """It waits for the kubelet's back-off, and nothing of it runs."""
    cluster = failing(("wallet-service-1",), 1)
    cluster.look("wallet-service-1", "user-service-1")
    found = ended(cluster.seen(), "user-service-1", "2")
    cluster.scenario.live(found)
    down = tuple(
        replace(p, phase=Phase.DOWN, boot_id="") if p.instance == "user-service-1" else p for p in found.processes or ()
    )
    for _ in range(6):
        cluster.at_ms += TICK_MS
        cluster.scenario.live(replace(found, at_ms=cluster.at_ms, processes=down, exits=()))
    assert MoveAway(life("user-service-1", "2")) in cluster.scenario.actions


@pytest.mark.parametrize(
    ("names", "times"),
    [
        pytest.param(("wallet-service-1", "user-service-1", "bet-service-1"), 1, id="the node was restarted"),
        pytest.param(("wallet-service-1",), 4, id="one service only"),
        pytest.param(("wallet-service-1", "wallet-service-2", "user-service-1", "user-service-2"), 2, id="everywhere"),
        pytest.param(("wallet-service-1", "user-service-2"), 2, id="one on each node"),
    ],
)
def test_what_is_not_the_nodes_moves_nothing(names: tuple[str, ...], times: int) -> None:
    cluster = failing(names, times)
    assert not cluster.moved
    assert not [d for tick in cluster.scenario.ticks for d in tick.diagnoses if d.kind is Kind.BAD_NODE]


def test_a_platform_with_one_node_has_no_bad_one() -> None:
    """Nothing is well elsewhere; nor where no node is named."""
    for nodes in (("only", "only"), ("", "")):
        cluster = failing(("wallet-service-1", "user-service-1"), nodes=nodes)
        assert not cluster.moved


def test_what_hangs_there_counts_too() -> None:
    cluster = failing(("user-service-1",))
    for boot in (2, 3):
        cluster.silent = ("wallet-service-1",)
        cluster.looks(2)
        cluster.silent, cluster.boots["wallet-service-1"] = (), boot
        cluster.looks(22)
    assert certainty_of(cluster.scenario.ticks[-1], Kind.BAD_NODE, "bad") is Certainty.CONFIRMED


def test_what_ended_with_a_lost_node_has_not_failed_elsewhere() -> None:
    """The other node is lost and comes back; then its kubelet tells which lives have ended."""
    cluster = Cluster()
    gone = [life(name) for name in ("wallet-service-2", "user-service-2")]
    hung = [Diagnosis(Kind.PROCESS_HUNG, each.instance, Certainty.CONFIRMED, (), each) for each in gone]
    there, lost, policy = cluster.seen(), Nodes(lost=(LostNode("good", ()),)), Policy()
    known = bad_nodes.watch((), (), hung, lost, there, policy)
    cluster.boots = dict.fromkeys(("wallet-service-2", "user-service-2"), 2)
    back = cluster.seen()
    exits = [Exit(each, 0, "exit code 137") for each in gone]
    for boot in ("1", "2"):
        exits += [Exit(life(name, boot), 0, "exit code 1") for name in ("wallet-service-1", "user-service-1")]
    known = bad_nodes.watch(known, exits, (), Nodes(), back, policy)
    assert "bad" in {each.target for each in bad_nodes.diagnose(known, back)}
    known = bad_nodes.watch((), exits, (), Nodes(), back, policy)
    assert not list(bad_nodes.diagnose(known, back)), "without the loss they have failed on both nodes"


def test_failures_of_long_ago_say_nothing() -> None:
    cluster = failing(("wallet-service-1", "user-service-1"), 1)
    cluster.at_ms += Policy().window_ms
    cluster.look("wallet-service-1", "user-service-1")
    cluster.looks(20)
    assert not cluster.moved


def test_where_the_platform_cannot_move_anything_a_person_is_told() -> None:
    cluster = failing(("wallet-service-1", "user-service-1"), can=())
    assert not cluster.moved
    assert certainty_of(cluster.scenario.ticks[-1], Kind.BAD_NODE, "bad") is Certainty.CONFIRMED


def test_healing_that_is_paused_moves_nothing() -> None:
    cluster = failing(("wallet-service-1", "user-service-1"), scenario=Scenario(Policy(paused="a person looks")))
    assert not cluster.moved
    assert not cluster.scenario.done(MarkDead)


def test_a_crash_loop_on_a_bad_node_is_not_rolled_back() -> None:
    """Its version is well elsewhere."""
    both = (Capability.MOVE_AWAY, Capability.ROLL_BACK)
    cluster = failing(("wallet-service-1", "user-service-1"), 6, can=both)
    assert cluster.moved
    assert not cluster.scenario.done(RollBack)
