"""A thousand histories on Kubernetes: an API server that goes away, kubelets that tell late, watches that miss what
happened, and two operators of which the one that led wakes up.

A canary is a fault that the code does not have, brought in by a switch: the simulation would find it.
"""

from __future__ import annotations

import pytest
import seeds
import simulated_pods
import simulated_world
from seeds import CHUNK, FIRST, SEEDS
from simulated_kubernetes import OnKubernetes
from simulated_operators import NODES_OF_OPERATORS
from simulated_world import INSTANCES, NODES, Broken

from betting_operator.healing import nodes
from betting_operator.healing.nodes import Nodes

pytestmark = pytest.mark.slow

# The budget of a lost node with the leader on it; of another one it is the simulation's own.
LEADER_LOST_MS_MAX = 15_000


def lived(seed: int) -> OnKubernetes:
    return seeds.lived(OnKubernetes(seed))


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
def test_every_history_on_kubernetes_ends_well(first: int) -> None:
    """Nobody acts on what is old, ends what has been replaced, or leads beside another; all is known again."""
    killed = sum(len(lived(seed).world.kills) for seed in range(first, min(first + CHUNK, FIRST + SEEDS)))
    assert killed or SEEDS < CHUNK, "no run hung anybody long enough: the faults are too tame to show anything"


@pytest.mark.parametrize("node", sorted(NODES))
@pytest.mark.parametrize("seed", range(FIRST, FIRST + 4))
def test_shards_of_a_lost_node_are_served_though_its_pods_are_shown_running(seed: int, node: str) -> None:
    """Also where the leading operator was on it: then once the next one has its Lease."""
    simulation = OnKubernetes(seed)
    if node == NODES_OF_OPERATORS["healer-1"]:
        simulation.run_lost_node(node, LEADER_LOST_MS_MAX)
    else:
        simulation.run_lost_node(node)


@pytest.mark.parametrize("name", INSTANCES)
@pytest.mark.parametrize("seed", range(FIRST, FIRST + 4))
def test_without_an_api_server_bet_services_take_over_by_themselves(seed: int, name: str) -> None:
    """For a minute nobody leads; what ended is served by the others, nobody is killed, and then one leads again."""
    OnKubernetes(seed).run_without_api(name, 60_000)


def found(first: int, what: str, **switches: bool) -> None:
    """Among the thousand the simulation notices, and says what. first: near to one that does."""
    for seed in range(first, 1_001):
        try:
            OnKubernetes(seed, **switches).run()
        except Broken as broken:
            if what in str(broken):
                return
    pytest.fail("it was never noticed: the simulation sees nothing")


def test_a_healer_that_acts_on_what_is_old_is_found() -> None:
    """It goes on with the pods that it heard of last, however long ago."""
    found(40, "by what it heard", fresh=False)


def test_a_kill_by_name_is_found() -> None:
    """It deletes whatever pod has the name by now."""
    found(1, "is ended in place of", fenced=False)


def test_a_kill_that_believes_the_kubelet_is_found() -> None:
    """The container has restarted, and its kubelet has not told: only who is asked for its boot id says so."""
    found(140, "is ended in place of", asks=False)


def test_a_watch_without_a_list_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a watch has missed is never known again."""
    monkeypatch.setattr(simulated_pods, "LIST_EVERY_MS", 1_000_000)
    found(1, "does not know what runs")


def test_a_leader_that_goes_on_without_its_lease_is_found() -> None:
    """It was frozen or cut off, and its healer acts beside that of the next one."""
    found(1, "acts, and", leased=False)


def test_a_healer_without_a_term_is_found() -> None:
    """Its operator is frozen, it is not: what it writes to Postgres is refused by nobody."""
    found(70, "acted under term", termed=False)


def test_a_healer_that_acts_on_what_it_concluded_before_a_pause_is_found() -> None:
    """Whom it took for hung has been well for seconds when it wakes up."""
    found(1, "was killed and was not hung", drops_late=False)


def test_a_healer_that_knows_no_lost_nodes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods that are shown running are a shared cause to it, and it waits."""
    monkeypatch.setattr(nodes, "watch", lambda *_: Nodes())
    with pytest.raises(Broken, match="is not served"):
        OnKubernetes(FIRST).run_lost_node("b")


def test_bet_services_that_wait_for_a_healer_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an API server there is none for a long time."""
    monkeypatch.setattr(simulated_world, "ORPHANED_AFTER_S", 60.0)
    with pytest.raises(Broken, match="without an API server"):
        OnKubernetes(FIRST).run_without_api("bet-service-2", 60_000)


def test_a_seed_is_a_history_on_kubernetes_too() -> None:
    """The same number gives the same run, fault by fault and change by change."""
    first, second = lived(7), lived(7)
    assert first.world.log == second.world.log
    assert first.cluster.api.changes == second.cluster.api.changes
