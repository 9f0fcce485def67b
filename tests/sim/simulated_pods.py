"""What one healer on Kubernetes knows of its pods, and how it ends one: `KubernetesPlatform` without its I/O.

It lists and watches, asks what runs which life it is, hears the streams of bet-services end, and looks again before it
deletes a pod. Which ends are news, and whether a pod is still the one that was meant, the real code says.
"""

from __future__ import annotations

from collections.abc import Callable

from simulated_cluster import Cluster
from simulated_supervisor import probe
from simulated_world import INSTANCES, NODE_OF, PROBE_MS, Broken, Running, World

from betting.life import Life
from betting_operator.healing.signals import Answer, Exit, Phase, Probe, Process
from betting_operator.kubernetes.list_watch import LIST_EVERY_S
from betting_operator.platforms import kubernetes, pods
from betting_operator.platforms.exit_streams import REFUSED
from betting_operator.platforms.kubernetes import KILL_WITHIN_S, LEARN_EVERY_S, NOTE_EVERY_S, Ends
from betting_operator.platforms.pods import Pod

LEARN_EVERY_MS = int(LEARN_EVERY_S * 1_000) // 100 * 100
NOTE_EVERY_MS = int(NOTE_EVERY_S * 1_000)
LIST_EVERY_MS = int(LIST_EVERY_S * 1_000)
KILL_WITHIN_MS = int(KILL_WITHIN_S * 1_000)
# Of the ends of bet-services their streams tell so many at once; of others the port is taken again before it refuses.
HEARD_SHARE = 0.5


class Pods:
    """who: which healer. fenced: whether it looks again, and at the boot id, before it deletes; asks: whether at the
    boot id; fresh: whether it knows that what it has heard is old.
    """

    def __init__(self, cluster: Cluster, who: str, *, fenced: bool, asks: bool, fresh: bool) -> None:
        self._cluster = cluster
        self._api = cluster.api
        self._world: World = cluster.world
        self._who = who
        self._fenced = fenced
        self._asks = fenced and asks
        self._fresh = fresh
        self._pods: dict[str, Pod] = {}
        self._ends = Ends()
        self._news: list[Exit] = []
        self._known: dict[tuple[str, str], str] = {}
        self._unheard_since_ms: dict[tuple[str, str], int] = {}
        self._asked_since_ms: dict[Life, int] = {}
        self._streams: dict[str, Life] = {}
        self._heard_ms = -1_000_000
        self._next_list_ms = 0
        self._at: int | None = None

    def look(self) -> None:
        """What happens beside the ticks."""
        self._watch()
        if self._world.now_ms % LEARN_EVERY_MS == 0:
            self._learn()
        self._follow()
        if self._world.now_ms % NOTE_EVERY_MS == 0 and self._api.reaches(self._who):
            self._note_lives()

    def processes(self) -> tuple[Process, ...] | None:
        """As their objects said last."""
        if self._is_stale():
            return None
        return tuple(
            Process(each.workload, name, self._boot_id(each), each.phase, each.restarts, self._unheard(each), each.node)
            for name, each in sorted(self._pods.items())
        )

    @property
    def has_news(self) -> bool:
        """Whether an exit became known."""
        return bool(self._news)

    def take_exits(self) -> tuple[Exit, ...]:
        """Told by kubelets, or heard."""
        news, self._news = self._news, []
        return tuple(news)

    def probes(self) -> tuple[Probe, ...]:
        """Of the lives that it knows; one may be over, or another one may have its name."""
        lives = {} if self._is_stale() else {life: pod for pod in self._pods.values() if (life := self._running(pod))}
        now_ms = self._world.now_ms
        self._asked_since_ms = {life: self._asked_since_ms.get(life, now_ms) for life in lives}
        return tuple(self._probe(life, pod) for life, pod in lives.items())

    def holder(self, name: str) -> Life | None:
        """As far as is known."""
        pod = self._pods.get(name)
        return None if pod is None or self._is_stale() else self._running(pod)

    def kill(self, life: Life, check: Callable[[Running], None]) -> int:
        """As `KubernetesPlatform.kill`."""
        if self._is_stale(really=True):
            ago_ms = self._world.now_ms - self._heard_ms
            raise Broken(f"{self._world.now_ms} ms: {self._who} ends {life} by what it heard {ago_ms} ms ago")
        known = self._pods.get(life.instance)
        if known is None or pods.last_life(known, self._boot_id(known)) != life:
            return 0
        if not self._api.reaches(self._who):
            return KILL_WITHIN_MS
        found = self._api.pods.get(life.instance)
        answers = self._answers(found) if found is not None else None
        if found is None or (self._fenced and pods.why_not_ended(life, known, found)):
            return 0
        if self._asks and answers is not None and answers.life != life:
            return 0
        if answers is not None and not self._can_be_evicted(life.instance):
            return 0
        self._delete(life, found, answered=answers is not None, check=check)
        return KILL_WITHIN_MS if self._api.loses_answers else 0

    def is_right(self) -> bool:
        """Whether it knows every life that runs."""
        running = {life.life for life in self._world.lives.values() if life is not None}
        return not self._is_stale() and {self._running(pod) for pod in self._pods.values()} == running

    def _delete(self, life: Life, pod: Pod, *, answered: bool, check: Callable[[Running], None]) -> None:
        world = self._world
        check_now = world.lives[life.instance]
        if check_now is not None and check_now.life == life:
            check(check_now)

        def deleted() -> None:
            world.note(f"{self._who} deletes {life}")
            running = world.lives[life.instance]
            # What has begun within the last moment, its kubelet has not told, and does not answer yet may be ended.
            if running is not None and running.life != life and (answered or not self._fenced):
                raise Broken(f"{world.now_ms} ms: {running.owner} is ended in place of {life}")
            world.kills.append(str(life))

        self._api.delete(pod, self._api.versions[pod.name], deleted)

    def _is_stale(self, *, really: bool = False) -> bool:
        return (self._fresh or really) and self._world.now_ms - self._heard_ms > kubernetes.FRESH_FOR_S * 1_000

    def _watch(self) -> None:
        world, api = self._world, self._api
        if not api.reaches(self._who) or world.now_ms < self._cluster.unlisted_until_ms.get(self._who, 0):
            self._at = None  # it lists as soon as it can
            return
        self._heard_ms = world.now_ms
        if self._at is None or world.now_ms >= self._next_list_ms:
            self._next_list_ms = world.now_ms + LIST_EVERY_MS
            for name in self._pods.keys() - api.pods.keys():
                self._forget(name)
            for pod in api.pods.values():
                self._note(pod)
        elif world.now_ms >= self._cluster.misses_until_ms.get(self._who, 0):
            for name, changed in api.changes[self._at :]:
                if changed is None:
                    self._forget(name)
                else:
                    self._note(changed)
        self._at = len(api.changes)

    def _note(self, pod: Pod) -> None:
        now_s = self._world.now_ms / 1_000
        self._pods[pod.name] = pod
        self._news += self._ends.news(pod, now_s, now_s)

    def _forget(self, name: str) -> None:
        pod = self._pods.pop(name, None)
        if pod is not None:
            self._ends.forget(pod)

    def _learn(self) -> None:
        running = {(pod.uid, pod.container): pod for pod in self._pods.values() if pod.container}
        self._known = {key: boot_id for key, boot_id in self._known.items() if key in running}
        unknown = {key: pod for key, pod in running.items() if key not in self._known and not pod.noted}
        now_ms = self._world.now_ms
        self._unheard_since_ms = {
            key: self._unheard_since_ms.get(key, now_ms) for key, pod in unknown.items() if pod.phase is Phase.RUNNING
        }
        for key, pod in unknown.items():
            if (life := self._answers(pod)) is not None:
                self._known[key] = str(life.boot)

    def _answers(self, pod: Pod) -> Running | None:
        """Whatever life answers at the address of a pod."""
        life = self._world.answers(pod.name)
        reached = life is not None and life.pod == pod.uid and self._world.is_heard(self._who, pod.name)
        return life if reached else None

    def _note_lives(self) -> None:
        for pod in list(self._pods.values()):
            boot_id = self._boot_id(pod)
            if boot_id and boot_id != pod.noted:
                self._cluster.note(pod, boot_id)

    def _follow(self) -> None:
        """The streams of bet-services."""
        world = self._world
        for name in INSTANCES:
            pod, life = self._pods.get(name), world.lives[name]
            followed = self._streams.get(name)
            if followed is not None and (life is None or life.life != followed):
                del self._streams[name]
                if pod is not None and world.is_heard(self._who, name) and world.dice.random() < HEARD_SHARE:
                    self._news += self._ends.heard(pod, followed, REFUSED, world.now_ms / 1_000)
            elif followed is None and self._is_served(pod, life):
                self._streams[name] = life.life

    def _is_served(self, pod: Pod | None, life: Running | None) -> bool:
        """Whether a stream to what is known to run there can be opened."""
        known = pod is not None and life is not None and self._running(pod) == life.life
        return known and self._world.is_heard(self._who, life.name)

    def _boot_id(self, pod: Pod) -> str:
        return self._known.get((pod.uid, pod.container), "") or pod.noted

    def _running(self, pod: Pod) -> Life | None:
        """The life that is asked."""
        boot_id = self._boot_id(pod) if pod.phase is Phase.RUNNING else ""
        return Life(pod.workload, pod.name, boot_id) if boot_id else None

    def _unheard(self, pod: Pod) -> int:
        since_ms = self._unheard_since_ms.get((pod.uid, pod.container))
        if since_ms is None or pod.phase is not Phase.RUNNING or self._boot_id(pod):
            return 0
        return self._world.now_ms - since_ms

    def _probe(self, life: Life, pod: Pod) -> Probe:
        world = self._world
        running = world.lives[life.instance]
        got_on_ms = self._asked_since_ms[life]
        if running is not None and running.life == life:
            got_on_ms = max(got_on_ms, running.answered_ms[self._who])
            silent_ms = world.now_ms - got_on_ms
            return probe(world, running, silent_ms if silent_ms > PROBE_MS else 0)
        lost = world.now_ms < world.lost_until_ms.get(NODE_OF[life.instance], 0)
        here = running is not None and running.pod == pod.uid
        refused = here and not lost and world.is_heard(self._who, life.instance)
        return Probe(life, Answer.REFUSED if refused else Answer.SILENT, world.now_ms - got_on_ms)

    def _can_be_evicted(self, name: str) -> bool:
        """Whether the disruption budget of bet-service lets it go: the others are ready."""
        others = [self._api.pods.get(each) for each in INSTANCES if each != name]
        return name not in INSTANCES or all(each is not None and each.phase is Phase.RUNNING for each in others)
