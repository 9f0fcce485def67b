"""A thousand histories on the laptop: no append behind a fence, nobody healthy is killed, every shard comes back.

A canary is an old fault brought back by a switch: the simulation would have found it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import seeds
from seeds import CHUNK, FIRST, SEEDS
from simulated import Simulation
from simulated_world import NODES, Broken

from betting_operator.healing import feeds, rebalancing
from betting_operator.healing.diagnoses import TABLE, Kind
from betting_operator.healing.gate import Gate

pytestmark = pytest.mark.slow


def lived(seed: int, *, storm: bool = False, asked: bool = False) -> Simulation:
    return seeds.lived(Simulation(seed, storm=storm, asked=asked))


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
def test_every_history_ends_well(first: int) -> None:
    """Kills, freezes, overloads, outages of the database, sleep, lost probes, healers that die: whatever comes."""
    killed = sum(len(lived(seed).world.kills) for seed in range(first, min(first + CHUNK, FIRST + SEEDS)))
    assert killed or SEEDS < CHUNK, "no run hung anybody long enough: the faults are too tame to show anything"


def test_who_wakes_up_last_and_sleeps_again_at_once_counts_as_asleep_all_the_while() -> None:
    """This history was taken for one in which a working process is killed: nobody had heard it between two sleeps."""
    lived(70_211)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + 8))
def test_whoever_hangs_in_a_storm_is_found(seed: int) -> None:
    """One fault in eight seconds for five minutes, on whomever: nobody is left hanging for what others had."""
    assert len(lived(seed, storm=True).world.kills) > 12, "too tame: an old budget of ten would not have been spent"


@pytest.mark.parametrize("node", sorted(NODES))
@pytest.mark.parametrize("seed", range(FIRST, FIRST + 8))
def test_a_lost_node_is_known_for_one(seed: int, node: str) -> None:
    """Up to four of ten are silent at once; their shards are served elsewhere within seconds all the same."""
    Simulation(seed).run_lost_node(node)


def test_a_healer_that_does_not_know_what_runs_where_is_found() -> None:
    """It takes a lost node for a shared cause, and waits."""
    with pytest.raises(Broken, match="is not served"):
        Simulation(FIRST, nodes_seen=False).run_lost_node("b")


def test_rebalances_are_carried_out_through_every_history() -> None:
    """People empty one bet-service after the other while things break: nothing is lost, and the last plan is done."""
    asked = [lived(seed, asked=True).world.rebalance for seed in range(FIRST, FIRST + min(SEEDS, 100))]
    assert sum(len(each.moves) for each in asked) > len(asked) / 2, "too few moves: nothing was carried out"


def test_a_rebalance_that_does_not_go_on_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each move is begun by the healer, one after the other, also after it was killed."""
    monkeypatch.setattr(rebalancing, "begin", lambda *_: ())
    found(5, "did not go on", asked=True)


def found(seeds: int, what: str, *, first: int = 1, **switches: bool) -> None:
    """Within so many seeds the simulation notices, and says what."""
    for seed in range(first, first + seeds):
        try:
            Simulation(seed, **switches).run()  # type: ignore[arg-type]
        except Broken as broken:
            if what in str(broken):
                return
    pytest.fail("it was never noticed: the simulation sees nothing")


def not_void(monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    """As if the table listed no time that does not count."""
    monkeypatch.setitem(TABLE, kind, replace(TABLE[kind], voids=()))


def test_an_append_without_a_fence_is_found() -> None:
    """Without the check of owner and epoch a stale owner's append must be noticed: one history in some hundreds."""
    found(1_000, "appended", first=250, fence=False)


def test_a_healer_that_does_not_see_that_nothing_can_be_written_is_found() -> None:
    """It takes a consumer that could not move for one that stands still, owners that could not beat for cut off."""
    found(20, "was killed and was not hung", first=60, writes_seen=False)


def test_a_healer_that_does_not_see_its_own_pause_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes its own sleep for a feed's silence."""
    not_void(monkeypatch, Kind.FEED_SILENT)
    found(20, "season-replay", first=190, pause_seen=False)


def test_a_healer_that_believes_a_stuck_odds_service_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes prices that odds-service does not take in for a feed's silence."""
    monkeypatch.setattr(feeds, "makes_progress", lambda *_: True)
    found(300, "season-replay")


def test_health_that_waits_for_the_work_is_found() -> None:
    """A process that is overloaded does not answer in time, and is killed for it."""
    found(300, "was killed and was not hung", beside=False)


def test_one_budget_for_everything_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten kills somebody is left hanging."""

    def spent(gate: Gate, _service: str) -> str:
        return "spent" if len(gate._disruptions) >= gate._policy.disruptions_per_window else ""

    monkeypatch.setattr(Gate, "spent", spent)
    monkeypatch.setattr(Gate, "is_last", lambda *_: False)
    found(8, "left hanging", storm=True)


def test_a_seed_is_a_history() -> None:
    """The same number gives the same run, fault by fault and entry by entry."""
    first, second = lived(7).world, lived(7).world
    assert first.log == second.log
    assert first.journal == second.journal
