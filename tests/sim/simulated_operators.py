"""Two replicas of the operator: each takes part in the election by the real rules, and runs a healer while it leads."""

from __future__ import annotations

from collections.abc import Callable

from simulated_cluster import Cluster
from simulated_healer import Healer
from simulated_pods import Pods
from simulated_world import Broken, World

from betting_operator.kubernetes.candidate import POLL_EVERY_S, RETRY_S, Candidate, Lease, Write
from betting_operator.kubernetes.client import ConflictError
from betting_operator.kubernetes.elector import REQUEST_TIMEOUT_S

# As those who ask processes for their health are named: each with the node that it is on.
NODES_OF_OPERATORS = {"healer-1": "a", "healer-2": "c"}
HEALER_STARTS_MS = 1_000
RESTART_MS = 1_500


class Operator:
    """leased: whether the loss of its Lease ends it, and its healer. begin: a healer, and what it knows of its pods.

    frozen_until_ms: the operator itself stands; its healer may not.
    """

    def __init__(
        self, cluster: Cluster, who: str, begin: Callable[[str], tuple[Healer, Pods]], *, leased: bool
    ) -> None:
        self.who = who
        self.frozen_until_ms = 0
        self.healer: Healer | None = None
        self.pods: Pods | None = None
        self._cluster = cluster
        self._world: World = cluster.world
        self._begin = begin
        self._leased = leased
        self._stood = False
        self._lives = 0
        self.candidate = self._born(0)

    def killed(self) -> None:
        """It starts again, as another candidate."""
        self.candidate.lose("killed")
        self.candidate = self._born(RESTART_MS)

    def step(self, others: list[Operator]) -> None:
        """What it does in a moment. When it wakes up, either its threads or its healer go first."""
        world = self._world
        lost = world.now_ms < world.lost_until_ms.get(NODES_OF_OPERATORS[self.who], 0)
        stands = lost or world.now_ms < max(self.frozen_until_ms, world.frozen_until_ms.get(self.who, 0))
        if lost:
            world.frozen_until_ms[self.who] = max(world.frozen_until_ms.get(self.who, 0), world.now_ms + 100)
        wakes, self._stood = self._stood and not stands, stands
        if not stands and not (wakes and world.dice.random() < 0.5):
            self._elect()
        if self.healer is not None:
            self._heal(others, excused=wakes or stands)

    def _heal(self, others: list[Operator], *, excused: bool) -> None:
        """excused: it had no time yet to find out that it does not lead any more."""
        world, healer = self._world, self.healer
        assert healer is not None
        assert self.pods is not None
        if world.now_ms >= world.frozen_until_ms.get(self.who, 0):
            self.pods.look()
        term, kills = world.term, len(world.kills)
        healer.run()
        leads = next((each.who for each in others if each.candidate.leads()), "")
        if leads and not excused and (world.term != term or len(world.kills) != kills):
            raise Broken(f"{world.now_ms} ms: {self.who} acts, and {leads} leads")
        if healer.ended:
            world.note(f"{self.who} finds that another healer has begun")
            self._stop_healer()

    def _elect(self) -> None:
        world = self._world
        self.candidate.check()
        if self.candidate.lost and self._leased:
            world.note(f"{self.who} has lost the Lease: {self.candidate.lost}")
            self.candidate = self._born(RESTART_MS)
        if world.now_ms >= self._round_ms:
            self._round()
        if self.healer is None and self.candidate.has_led and (self.candidate.leads() or not self._leased):
            if not self._healer_ms:
                self._healer_ms = world.now_ms + HEALER_STARTS_MS
            if world.now_ms >= self._healer_ms:
                self.healer, self.pods = self._begin(self.who)
                world.note(f"the healer of {self.who} has started")

    def _round(self) -> None:
        """Each request is answered at once, or not in time."""
        api, now_ms = self._cluster.api, self._world.now_ms
        requests = self.candidate.round()
        try:
            request = next(requests)
            while True:
                answer: Lease | ConflictError | None = None
                if api.reaches(self.who):
                    answer = api.lease_request(request)
                if answer is None or (isinstance(request, Write) and api.loses_answers):
                    pause_s = RETRY_S if self.candidate.has_led else POLL_EVERY_S
                    self._round_ms = now_ms + int((REQUEST_TIMEOUT_S + pause_s) * 1_000)
                    requests.close()
                    return
                conflict = isinstance(answer, ConflictError)
                request = requests.throw(answer) if conflict else requests.send(answer)
        except StopIteration as end:
            self._round_ms = now_ms + int(end.value * 1_000)

    def _born(self, in_ms: int) -> Candidate:
        self._lives += 1
        self._round_ms = self._world.now_ms + in_ms
        self._stop_healer()
        return Candidate(f"{self.who}@{self._lives}", lambda: self._world.now_ms / 1_000)

    def _stop_healer(self) -> None:
        self.healer = self.pods = None
        self._healer_ms = 0
