"""Kubernetes keeps the contract of the platform port: a real API server, and real services in the place of pods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import kubelet
import pytest
from cutting_proxy import CuttingProxy
from kube_api import Json, KubeApi
from platform_contract import PlatformContract, World, until
from pod_processes import POD_RULES, PodProcesses, pod_processes

from betting.life import Life
from betting_operator.healing.signals import BET_SERVICE, Exit, Phase
from betting_operator.kubernetes.client import Client, configuration
from betting_operator.platforms import pods
from betting_operator.platforms.exit_streams import REFUSED
from betting_operator.platforms.kubernetes import KubernetesPlatform
from betting_operator.platforms.port import CannotDo, Instance, Stored, present_lives

WORKLOAD = "worker"
GRACE_PERIOD_S = 45
REQUEST_TIMEOUT_S = 1.0


class PodWorld(World):
    def __init__(self, platform: KubernetesPlatform, pods: PodProcesses, api: KubeApi, namespace: str) -> None:
        self.platform = platform
        self.pods = pods
        self.api = api
        self.namespace = namespace

    async def crash(self, instance: str) -> None:
        await self.pods.crash(instance)

    async def go_silent(self) -> None:
        self.pods.paused = True
        self.api.pause()

    def note_exit(self) -> None:
        self.exited += 1

    async def exits(self, at_least: int = 1) -> list[Exit]:
        """So many ends, as they are told."""
        found: list[Exit] = []

        def told() -> bool:
            found.extend(self.platform.take_exits())
            return len(found) >= at_least

        await until(told, "the end is told")
        return found


async def nothing_stored() -> Stored:
    """Nobody asks for a roll-back here."""
    raise CannotDo("there is no database")


@asynccontextmanager
async def watching(
    api: KubeApi,
    namespace: str,
    kubeconfig: Path,
    folder: Path,
    timeout_s: float = REQUEST_TIMEOUT_S,
    workload: str = WORKLOAD,
) -> AsyncIterator[PodWorld]:
    """A namespace without pods, and a platform that watches it."""
    client = Client(configuration(kubeconfig), timeout_s=timeout_s)
    platform = KubernetesPlatform(client, namespace, "demo", "redis://:secret@redis:6379/0", folder, nothing_stored)
    async with pod_processes(api, namespace, workload) as pods:
        world = PodWorld(platform, pods, api, namespace)
        task = asyncio.create_task(platform.run(world.note_exit))
        try:
            yield world
        finally:
            task.cancel()
            await asyncio.wait([task])
            await platform.close()
            api.recover()


@pytest.fixture
async def world(kube_api: KubeApi, namespace: str, demo: str, tmp_path: Path) -> AsyncIterator[PodWorld]:
    """Two pods on two nodes, watched with the rights that the operator has."""
    kubeconfig = kube_api.service_account(namespace, "betting-operator", POD_RULES)
    async with watching(kube_api, namespace, kubeconfig, tmp_path) as world:
        for name, node in (("worker-1", "node-1"), ("worker-2", "node-2")):
            await world.pods.create(name, node)
        yield world


class TestKubernetesPlatform(PlatformContract):
    """Everything that a platform must do."""


async def test_the_end_of_a_bet_service_is_told_before_its_kubelet_reports_it(
    kube_api: KubeApi, namespace: str, tmp_path: Path
) -> None:
    """Its shards have nobody: the word of the kubelet comes up to a second later, and the same end is told once."""
    kubeconfig = kube_api.service_account(namespace, "betting-operator", POD_RULES)
    async with watching(kube_api, namespace, kubeconfig, tmp_path, workload=BET_SERVICE) as world:
        await world.pods.create("bet-1")
        life = await world.life("bet-1")
        await until(lambda: life in world.platform.followed, "its stream is open")
        world.pods.paused = True
        await world.pods.hang("bet-1")
        [ended] = await world.exits()
        assert (ended.life, ended.how, ended.ordered) == (life, REFUSED, False)
        world.pods.paused = False
        await world.pods.crash("bet-1")
        await until(lambda: present(world, "bet-1").life not in (None, life), "its next life runs")
        assert world.platform.take_exits() == ()


async def test_a_healer_that_begins_later_knows_the_life_of_a_pod_that_answers_nobody_any_more(
    kube_api: KubeApi, namespace: str, tmp_path: Path, world: PodWorld
) -> None:
    """As on a node that was lost together with the healer before: it was noted on the pod, for this container alone."""
    life = await world.life("worker-1")
    await until(lambda: noted(world, "worker-1") == life.boot_id, "its life is noted")
    world.pods.paused = True
    await world.pods.hang("worker-1")
    kubeconfig = kube_api.service_account(namespace, "next-operator", POD_RULES)
    async with watching(kube_api, namespace, kubeconfig, tmp_path) as later:
        assert await later.life("worker-1") == life
        world.pods.paused = False
        await world.pods.crash("worker-1")
        await until(lambda: present(later, "worker-1").life not in (None, life), "another container is another life")


async def test_a_pod_that_is_deleted_stops_and_its_confirmed_end_is_told(world: PodWorld) -> None:
    """While it stops it is there, in its life; its kubelet's last word on it has the life that ended."""
    life = await world.life("worker-1")
    world.pods.paused = True
    await world.pods.request("DELETE", f"{world.pods.path}/worker-1", {})
    await until(lambda: phase_of(world, "worker-1") is Phase.STOPPING, "it stops")
    assert present(world, "worker-1").life == life
    await world.pods.confirm("worker-1")
    [ended] = await world.exits()
    assert (ended.life, ended.how, ended.ordered) == (life, "exit code 0", True)
    await until(lambda: "worker-1" not in names(world), "it is gone")


async def test_a_pod_that_was_deleted_by_force_has_proven_nothing(world: PodWorld) -> None:
    """A person took it from the API with grace 0: its process may run on a node that nobody hears."""
    life = await world.life("worker-1")
    await world.pods.force_delete("worker-1")
    await until(lambda: "worker-1" not in names(world), "it is gone")
    assert world.platform.take_exits() == ()
    with pytest.raises(CannotDo, match="is over, or was never seen"):
        await world.platform.kill(life)


async def test_what_answers_is_evicted_and_a_disruption_budget_holds(world: PodWorld) -> None:
    """It hands its work on and stops in order; where the budget lets none go it lives on."""
    life = await world.life("worker-1")
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "worker"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app.kubernetes.io/name": WORKLOAD}}},
    }
    budgets = f"/apis/policy/v1/namespaces/{world.namespace}/poddisruptionbudgets"
    await world.pods.request("POST", budgets, budget)
    with pytest.raises(CannotDo, match="still serves, and its disruption budget lets none go now"):
        await world.platform.kill(life)
    assert await world.life("worker-1") == life
    await world.pods.request("DELETE", f"{budgets}/worker", {})
    world.pods.paused = True
    await world.platform.kill(life)
    assert (await metadata(world, "worker-1"))["deletionGracePeriodSeconds"] == GRACE_PERIOD_S


async def test_what_hangs_is_left_a_second_and_never_forgotten_at_once(world: PodWorld) -> None:
    """Its pod stays in the API until its kubelet has seen it end, and then its end is told."""
    life = await world.life("worker-1")
    await world.pods.hang("worker-1")
    world.pods.paused = True
    await world.platform.kill(life)
    assert (await metadata(world, "worker-1"))["deletionGracePeriodSeconds"] == 1
    world.pods.paused = False
    assert [each.life for each in await world.exits()] == [life]
    await world.next_life(life)


async def test_a_later_life_that_the_kubelet_has_not_reported_is_left_alone(world: PodWorld) -> None:
    """The container restarted a moment ago: the status still shows the one before."""
    life = await world.life("worker-1")
    await world.pods.restart_unreported("worker-1")
    with pytest.raises(CannotDo, match=f"{world.pods.boot_id('worker-1')} answers in its place"):
        await world.platform.kill(life)
    assert "deletionTimestamp" not in await metadata(world, "worker-1")


async def test_only_what_should_run_for_this_platform_is_an_instance(world: PodWorld) -> None:
    """Not the migration, not another platform's pods, and not the operator that makes them."""
    await world.life("worker-1")
    migration = kubelet.pod("migrate", "demo-migrate-1a2b3c4d-x7k2p", restartPolicy="Never")
    other = kubelet.pod("worker", "other-worker-1", platform="other")
    operator = kubelet.pod("betting-operator", "betting-operator-7d9c5b6f4d-qx2lm")
    operator["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "Helm"
    ours = kubelet.pod("wallet-service", "demo-wallet-service-6c7d8f9b5d-z4k7m")
    for each in (migration, other, operator, ours):
        await world.pods.request("POST", world.pods.path, each)
    await until(lambda: ours["metadata"]["name"] in names(world), "a pod that waits for a node")
    assert names(world) == {"worker-1", "worker-2", ours["metadata"]["name"]}
    assert present(world, ours["metadata"]["name"]).phase is Phase.STARTING


async def test_what_happened_while_the_api_was_away_is_told_as_far_as_it_shows(
    kube_api: KubeApi, namespace: str, tmp_path: Path
) -> None:
    """A restart shows in the pod that is there; of a pod that has gone nothing is known, so nothing is told."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(CuttingProxy(kube_api.url))
        kubeconfig = kube_api.kubeconfig(url=f"https://{proxy.address}")
        world = await stack.enter_async_context(watching(kube_api, namespace, kubeconfig, tmp_path))
        for name in ("worker-1", "worker-2"):
            await world.pods.create(name)
        first, second = await world.life("worker-1"), await world.life("worker-2")
        proxy.answers.clear()
        proxy.cut()
        await world.pods.crash("worker-1")
        await world.pods.delete_confirmed("worker-2")
        await until(lambda: world.platform.instances() is None, "nothing is told")
        proxy.cut()
        proxy.answers.set()
        await until(lambda: names(world) == {"worker-1"}, "what is there now")
        assert [each.life for each in await world.exits()] == [first]
        assert await world.next_life(first)
        with pytest.raises(CannotDo):
            await world.platform.kill(second)


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_an_api_server_that_comes_back_finds_everybody_in_the_same_life(world: PodWorld, how: str) -> None:
    """Nothing is told while it is away, no end is made up of that, and nobody is asked again who they are."""
    lives = {name: await world.life(name) for name in ("worker-1", "worker-2")}
    world.pods.paused = True
    if how == "killed":
        await asyncio.to_thread(world.api.kill)
    else:
        world.api.pause()
    with pytest.raises(CannotDo, match="could not be deleted"):
        await world.platform.kill(lives["worker-1"])
    await until(lambda: world.platform.instances() is None, "nothing is told")
    await asyncio.to_thread(world.api.recover)
    await until(lambda: present_lives(world.platform.instances()) == lives, "the same lives")
    assert world.platform.take_exits() == ()


async def test_a_kill_does_not_wait_for_an_api_server_that_hangs(
    kube_api: KubeApi, namespace: str, tmp_path: Path
) -> None:
    """The healer has more to do meanwhile, and beats."""
    async with watching(kube_api, namespace, kube_api.kubeconfig(), tmp_path, timeout_s=60.0) as world:
        await world.pods.create("worker-1")
        life = await world.life("worker-1")
        await world.go_silent()
        with pytest.raises(CannotDo, match="could not be deleted within 3 s: the API server does not answer"):
            await world.platform.kill(life)


async def test_a_platform_that_may_not_look_tells_nothing_until_it_may(
    kube_api: KubeApi, namespace: str, tmp_path: Path
) -> None:
    """What is forbidden is not an empty namespace."""
    kubeconfig = kube_api.service_account(namespace, "betting-operator", ())
    async with watching(kube_api, namespace, kubeconfig, tmp_path) as world:
        await world.pods.create("worker-1")
        with pytest.raises(CannotDo):
            await world.platform.kill(Life(WORKLOAD, "worker-1", world.pods.boot_id("worker-1")))
        assert world.platform.instances() is None
        await asyncio.to_thread(kube_api.service_account, namespace, "betting-operator", POD_RULES)
        assert (await world.life("worker-1")).boot_id == world.pods.boot_id("worker-1")


def noted(world: PodWorld, name: str) -> str:
    """The boot id that is noted on a pod for the container that runs."""
    found = pods.read(world.api.request("GET", f"{world.pods.path}/{name}"))
    assert found is not None
    return found.noted


def names(world: PodWorld) -> set[str]:
    """Of the instances; none while nothing is told."""
    return {each.instance for each in world.platform.instances() or ()}


def present(world: PodWorld, name: str) -> Instance:
    """An instance that is there."""
    return next(each for each in world.platform.instances() or () if each.instance == name)


def phase_of(world: PodWorld, name: str) -> Phase:
    """Of an instance that is there."""
    return present(world, name).phase


async def metadata(world: PodWorld, name: str) -> dict[str, object]:
    """As the API has it."""
    found: dict[str, object] = (await world.pods.request("GET", f"{world.pods.path}/{name}"))["metadata"]
    return found


async def placeholders(world: PodWorld) -> list[Json]:
    """The pods that keep others off a node."""
    listed = await world.pods.request("GET", world.pods.path)
    return [each for each in listed["items"] if each["metadata"]["labels"]["app.kubernetes.io/name"] == "placeholder"]


async def test_new_pods_are_kept_off_the_node_by_one_placeholder_that_is_no_instance(world: PodWorld) -> None:
    """Admitted under Pod Security `restricted`, owned by the platform, gone by itself; nothing else is changed."""
    life = await world.life("worker-1")
    await world.platform.move_away(life)
    moved = await world.next_life(life)
    [made] = await placeholders(world)
    assert (made["spec"]["nodeName"], made["spec"]["activeDeadlineSeconds"]) == ("node-1", 660)
    assert made["metadata"]["ownerReferences"][0]["kind"] == "BettingPlatform"
    assert made["spec"]["containers"][0]["image"] == kubelet.IMAGE
    assert names(world) == {"worker-1", "worker-2"}
    assert present_lives(world.platform.instances())["worker-1"] == moved


async def test_what_waits_for_its_kubelet_is_moved_by_its_last_life(world: PodWorld) -> None:
    """It crashes again and again, and most of the time nothing of it runs. Killing it is no help, and refused."""
    life = await world.life("worker-1")
    await world.pods.end_for_good("worker-1")
    await until(lambda: phase_of(world, "worker-1") is Phase.DOWN, "it is down")
    with pytest.raises(CannotDo, match="is over"):
        await world.platform.kill(life)
    with pytest.raises(CannotDo, match="is over, or was never seen"):
        await world.platform.move_away(Life(WORKLOAD, "worker-1", "of-before"))
    assert await placeholders(world) == []
    await world.platform.move_away(life)
    await world.next_life(life)
    assert present(world, "worker-1").node == "node-2"


async def test_not_so_many_nodes_are_kept_free_that_too_few_are_left(world: PodWorld) -> None:
    """Both of two: everything would wait for a node."""
    first = await world.life("worker-1")
    await world.platform.move_away(first)
    await world.next_life(first)
    await world.pods.create("worker-3", "node-1")
    await world.life("worker-3")
    second = await world.life("worker-2")
    with pytest.raises(CannotDo, match="that leaves 0 of 2 nodes, 1 are kept free already"):
        await world.platform.move_away(second)
    assert await world.life("worker-2") == second
    assert len(await placeholders(world)) == 1


async def test_where_everything_is_on_one_node_nothing_is_moved(
    kube_api: KubeApi, namespace: str, demo: str, tmp_path: Path
) -> None:
    kubeconfig = kube_api.service_account(namespace, "betting-operator", POD_RULES)
    async with watching(kube_api, namespace, kubeconfig, tmp_path) as world:
        for name in ("worker-1", "worker-2"):
            await world.pods.create(name)
        with pytest.raises(CannotDo, match="no other node is known"):
            await world.platform.move_away(await world.life("worker-1"))


@pytest.mark.parametrize("workload", ["valkey", "postgres"])
async def test_what_has_a_volume_on_its_node_is_not_moved(world: PodWorld, workload: str) -> None:
    with pytest.raises(CannotDo, match="it is bound to its node"):
        await world.platform.move_away(Life(workload, "demo-0", "1"))
    assert await placeholders(world) == []


async def test_a_process_that_has_never_answered_is_told_with_how_long_it_was_asked_in_vain(world: PodWorld) -> None:
    """Its node was lost before this healer began: no life of it is known, so nothing else is silent there."""
    await world.life("worker-1")
    await world.pods.request("POST", world.pods.path, kubelet.pod(WORKLOAD, "worker-3", nodeName="node-3"))
    container = kubelet.container(WORKLOAD, kubelet.running(), None)
    status = {"status": kubelet.status(container, ip="127.254.254.254")}
    await world.pods.request("PATCH", f"{world.pods.path}/worker-3/status", status, "application/merge-patch+json")
    await until(lambda: "worker-3" in names(world) and present(world, "worker-3").silent_ms > 0, "it is silent")
    assert present(world, "worker-3").life is None
    assert present(world, "worker-1").silent_ms == 0
