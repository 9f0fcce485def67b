"""Kubernetes: the pods of one platform in one namespace, as the API server tells them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from kubernetes.config import ConfigException

from betting.life import Life
from betting.runtime import logs
from betting.runtime.errors import ConfigurationError
from betting.runtime.loops import FailureLog
from betting_operator.healing.redis_signals import REDIS_WORKLOAD
from betting_operator.healing.signals import BET_SERVICE, Exit, Phase, Rebalance
from betting_operator.kubernetes.client import (
    Client,
    ConflictError,
    Event,
    EvictionBlockedError,
    Json,
    KubernetesError,
    NotFoundError,
    configuration,
)
from betting_operator.kubernetes.kinds import PODS
from betting_operator.kubernetes.list_watch import ListWatch
from betting_operator.kubernetes.rebalancing import Rebalances
from betting_operator.kubernetes.workloads import POSTGRES
from betting_operator.platforms import pods
from betting_operator.platforms.exit_streams import ExitStreams
from betting_operator.platforms.kubernetes_hands import Hands
from betting_operator.platforms.pods import Ended, Pod
from betting_operator.platforms.port import AskStored, CannotDo, Capability, Instance, Platform, free_bytes
from betting_operator.platforms.present_lives import PresentLives

# Without a list, an event or a new watch for so long it is not known what runs.
FRESH_FOR_S = 20.0
# How often containers whose life is not known are asked for it.
LEARN_EVERY_S = 0.25
# How often it is looked whether each pod has its life noted on it.
NOTE_EVERY_S = 1.0
# What a process that hangs is left between SIGTERM and SIGKILL. With 0 the API would forget a pod whose end nobody saw.
HUNG_GRACE_S = 1
# The healer waits for a kill, and beats meanwhile no more: instances take over by themselves after ten seconds.
KILL_WITHIN_S = 3.0
# Who is killed is asked once more, for so long: most have answered nobody for three seconds by then.
LAST_ASKED_S = 0.25
# A pod changes while it is being deleted: it is looked at again, so often.
KILL_TRIES = 3
# Lives whose end was told: more than a namespace shows at once, so that none is told twice.
ENDS_KNOWN = 4_096

_log = logs.get(__name__)


def connected(namespace: str, platform: str, redis_url: str, folder: Path, stored: AskStored) -> KubernetesPlatform:
    """With the API server that the pod's ServiceAccount or KUBECONFIG leads to; see KubernetesPlatform.

    Raises ConfigurationError when neither does.
    """
    try:
        found = configuration()
    except ConfigException as error:
        raise ConfigurationError(
            f"no API server is known: run it in a pod with a ServiceAccount, or set KUBECONFIG ({error})"
        ) from None
    return KubernetesPlatform(Client(found), namespace, platform, redis_url, folder, stored)


class Ends:
    """Which ends are news, each life once, and when they were by the healer's own clock."""

    def __init__(self) -> None:
        self._told: dict[Life, None] = {}
        self._ran_s: dict[str, float] = {}  # by pod: when a container was last seen running in it

    def news(self, pod: Pod, now_s: float, wall_s: float) -> list[Exit]:
        """Of what this pod's status shows now. now_s, wall_s: the same moment, monotonic and since 1970.

        The node's clock may be off: an end is not later than now, nor earlier than its container was seen running.
        """
        found = [self._exit(pod, each, now_s, wall_s) for each in pod.ended if each.life not in self._told]
        for each in pod.ended:  # the latest sight last
            self._told.pop(each.life, None)
            self._told[each.life] = None
        while len(self._told) > ENDS_KNOWN:
            del self._told[next(iter(self._told))]
        if pod.container:
            self._ran_s[pod.uid] = now_s
        return found

    def heard(self, pod: Pod, life: Life, how: str, now_s: float) -> list[Exit]:
        """Of a life whose end was seen now, before its kubelet reports it."""
        if life in self._told:
            return []
        self._told[life] = None
        return [Exit(life, int(now_s * 1_000), how, ordered=pod.phase is Phase.STOPPING)]

    def forget(self, pod: Pod) -> None:
        """A pod that has gone."""
        self._ran_s.pop(pod.uid, None)

    def _exit(self, pod: Pod, ended: Ended, now_s: float, wall_s: float) -> Exit:
        age_s = 0.0 if ended.at_s is None else max(0.0, wall_s - ended.at_s)
        at_s = max(now_s - age_s, self._ran_s.get(pod.uid, -math.inf))
        return Exit(ended.life, int(at_s * 1_000), ended.how, ended.ordered)


class KubernetesPlatform(Platform):
    """`silent_ms` is that of processes whose life is not known: how long they have been asked for it in vain, from
    here. Of others it stays 0: the kubelet tells of its probes only whether they pass; one that does not may have had
    the answer "not serving", as a standby gives it for days.

    redis_url: of any Redis node, for the credentials. folder: where the healer keeps its record. stored: asks the
    database before anything is rolled back.
    """

    capabilities = frozenset(Capability)

    def __init__(
        self, client: Client, namespace: str, platform: str, redis_url: str, folder: Path, stored: AskStored
    ) -> None:
        self._client = client
        self._hands = Hands(client, namespace, platform, stored)
        self._namespace = namespace
        self._platform = platform
        self._folder = folder
        self._lives = PresentLives(redis_url)
        self._pods: dict[str, Pod] = {}  # by name
        self._ends = Ends()
        self._streams = ExitStreams(self._lives, self._heard)
        self._news: list[Exit] = []
        self._exited: Callable[[], None] = lambda: None
        self._watch = ListWatch(
            client, PODS, namespace, pods.selector(platform), listed=self._take_all, changed=self._take
        )
        self._rebalances = Rebalances(client, namespace)

    async def run(self, exited: Callable[[], None]) -> None:
        """Watches pods, asks those that run which life they are in, and follows those of bet-services to their end."""
        self._exited = exited
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch.run())
                group.create_task(self._learn())
                group.create_task(self._note_lives())
                group.create_task(self._rebalances.run())
                group.create_task(self._hands.sweep())
        finally:
            await self._streams.close()

    def instances(self) -> tuple[Instance, ...] | None:
        """Every pod as its status said last; None when the API server has not been heard for a while."""
        if time.monotonic() - self._watch.heard_s > FRESH_FOR_S:
            return None
        return tuple(self._instance(pod) for _name, pod in sorted(self._pods.items()) if pod.is_instance)

    def take_exits(self) -> tuple[Exit, ...]:
        """Ends that were seen, or reported by kubelets, since the last call, each life once."""
        news, self._news = self._news, []
        return tuple(news)

    @property
    def followed(self) -> frozenset[Life]:
        """Lives of bet-services whose end would be heard at once: their health streams are open."""
        return frozenset(self._streams.open)

    async def kill(self, life: Life) -> None:
        """Deletes its pod: by eviction where it answers and gets on, so that disruption budgets hold and it stops in
        order; else within a second. Its owner makes the next one.

        Fenced by the pod's uid and resourceVersion, and by the life in its container. What cannot be seen is a
        container that restarted within the last second, which its kubelet has not reported: if it answers, nothing is
        done; if it does not yet, the new life is ended in place of the named one. Raises CannotDo.
        """
        await self._end(life, also_ended=False)

    async def move_away(self, life: Life) -> None:
        """Keeps new pods off the node for some minutes, then deletes the pod as `kill` does: its owner makes the next
        one, and the scheduler places it elsewhere. Where no container runs the pod is deleted if this life was its
        last one. Raises CannotDo.
        """
        if life.workload in (REDIS_WORKLOAD, POSTGRES):
            raise CannotDo(f"{life.instance} cannot be moved: it is bound to its node")
        known = self._known(life)
        others = {pod.node for pod in self._pods.values() if pod.node and pod.phase is Phase.RUNNING} - {known.node}
        if not known.node or not others:
            raise CannotDo(f"{life.instance} cannot be moved: no other node is known on which anything runs")
        try:
            async with asyncio.timeout(KILL_WITHIN_S):
                # On a bad node it has ended most of the time; on a lost one its kubelet last said that it runs.
                await self._hands.keep_off(known.node, others, known.name, lost=bool(known.container))
        except TimeoutError:
            raise CannotDo(f"{life.instance} could not be moved: the API server does not answer") from None
        await self._end(life, also_ended=True)

    async def roll_back(self, workload: str, template: str) -> None:
        """See `Hands.roll_back`."""
        await self._hands.roll_back(workload, template)

    async def scale(self, workload: str, replicas: int) -> None:
        """See `Hands.scale`."""
        await self._hands.scale(workload, replicas)

    async def report(self, lines: Sequence[str]) -> None:
        """Writes log lines: on Kubernetes that is what people follow. `betting heal log` has them from Postgres."""
        for line in lines:
            _log.info("healing", line=line)

    def disk_free_bytes(self) -> int | None:
        """Of the volume with the flight record."""
        return free_bytes(self._folder)

    def rebalance(self) -> Rebalance | None:
        """As the ShardRebalances of the platform say; None when the API server has not been heard for a while."""
        return self._rebalances.signal(self._platform)

    async def close(self) -> None:
        """Closes the connections to the API server."""
        await self._client.close()

    async def _end(self, life: Life, *, also_ended: bool) -> None:
        """Deletes its pod, see `kill`. also_ended: also where none runs in it and this life was the last one."""
        undone = f"pod {life.instance} could not be deleted"
        try:
            async with asyncio.timeout(KILL_WITHIN_S):
                if not await self._deleted(life, also_ended=also_ended):
                    raise CannotDo(f"{undone}: it changed {KILL_TRIES} times meanwhile")
        except TimeoutError:
            raise CannotDo(f"{undone} within {KILL_WITHIN_S:g} s: the API server does not answer") from None
        except NotFoundError:
            raise CannotDo(f"{life} is over: its pod is gone") from None
        except EvictionBlockedError as error:
            raise CannotDo(f"{life} still serves, and its disruption budget lets none go now: {error}") from None
        except KubernetesError as error:
            raise CannotDo(f"{undone}: {error}") from None

    async def _deleted(self, life: Life, *, also_ended: bool) -> bool:
        """False: the pod changed whenever it was to be deleted."""
        for _try in range(KILL_TRIES):
            try:
                await self._delete(life, also_ended=also_ended)
            except ConflictError:
                continue
            return True
        return False

    async def _delete(self, life: Life, *, also_ended: bool) -> None:
        known = self._known(life)
        found = await self._client.get(PODS, self._namespace, life.instance)
        pod = pods.read(found)
        why_not = pods.why_not_ended(life, known, pod, also_ended=also_ended)
        if pod is None or why_not:
            raise CannotDo(why_not)
        answer = await self._lives.ask(pod, LAST_ASKED_S) if pod.container else None
        if answer is not None and answer.boot_id != life.boot_id:
            raise CannotDo(f"{life} is over: {answer.boot_id} answers in its place")
        version = str(found["metadata"]["resourceVersion"])
        if answer is not None and answer.gets_on:
            await self._client.evict(self._namespace, pod.name, uid=pod.uid, resource_version=version)
        else:
            await self._client.delete(
                PODS, self._namespace, pod.name, uid=pod.uid, resource_version=version, grace_s=HUNG_GRACE_S
            )

    def _known(self, life: Life) -> Pod:
        """The pod that has this life in its container, or had it last where none runs. Raises CannotDo."""
        pod = self._pods.get(life.instance)
        if pod is not None and pods.last_life(pod, self._lives.boot_id(pod)) == life:
            return pod
        raise CannotDo(f"{life} is over, or was never seen")

    def _take_all(self, objects: Iterable[Json]) -> None:
        """Who is not in the list any more has gone, and nobody saw how."""
        found = [pod for each in objects if (pod := pods.read(each)) is not None]
        for name in self._pods.keys() - {pod.name for pod in found}:
            _log.info("pod gone while nobody looked", instance=name)
            self._forget(self._pods[name])
        for pod in found:
            self._note(pod)

    def _take(self, event: Event) -> None:
        pod = pods.read(event.object)
        if pod is None:
            return
        self._note(pod)
        if event.type == "DELETED":
            self._forget(pod)

    def _note(self, pod: Pod) -> None:
        self._pods[pod.name] = pod
        self._tell(self._ends.news(pod, time.monotonic(), time.time()))

    def _heard(self, pod: Pod, life: Life, how: str) -> None:
        self._tell(self._ends.heard(self._pods.get(pod.name, pod), life, how, time.monotonic()))

    def _tell(self, news: list[Exit]) -> None:
        if news:
            self._news += news
            self._exited()

    def _forget(self, pod: Pod) -> None:
        self._ends.forget(pod)
        del self._pods[pod.name]

    async def _learn(self) -> None:
        while True:
            await self._lives.learn(self._pods.values())
            self._streams.follow(self._owners())
            await asyncio.sleep(LEARN_EVERY_S)

    async def _note_lives(self) -> None:
        """Notes the life in each pod on it, once for each container."""
        failures = FailureLog(_log, "lives not noted on their pods")
        while True:
            await asyncio.sleep(NOTE_EVERY_S)
            for pod in list(self._pods.values()):
                boot_id = self._lives.boot_id(pod)
                if not boot_id or boot_id == pod.noted:
                    continue
                note = {"metadata": {"uid": pod.uid, "annotations": pods.life_note(pod, boot_id)}}
                try:
                    await self._client.patch(PODS, self._namespace, pod.name, note)
                    failures.worked()
                except (NotFoundError, ConflictError):
                    continue  # it has gone meanwhile
                except KubernetesError as error:
                    failures.failed(error)
                    break

    def _owners(self) -> dict[Life, Pod]:
        """The lives of bet-services that run. Their end leaves shards without an owner, so each second counts."""
        known = ((pod, self._lives.boot_id(pod)) for pod in self._pods.values() if pod.workload == BET_SERVICE)
        return {Life(pod.workload, pod.name, boot_id): pod for pod, boot_id in known if boot_id}

    def _instance(self, pod: Pod) -> Instance:
        return Instance(
            workload=pod.workload,
            instance=pod.name,
            boot_id=self._lives.boot_id(pod),
            phase=pod.phase,
            address=pod.address,
            restarts=pod.restarts,
            silent_ms=self._lives.unheard_ms(pod),
            node=pod.node,
            health_address=pod.health_address,
        )
