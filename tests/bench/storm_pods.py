"""What kwok's pods lack, as no container runs in them: processes that answer, a kubelet's word on them, heartbeats.

- A pod's diagnostics: a gRPC server at an address of its own for each pod (`storm_answers`). It answers what it was
  given: it serves; and of those that call bet-services, quiet figures of each of them.
- A pod's health stream: the same server. Those that will exit are in one process, which is killed.
- The status of pods: written as a kubelet of Kubernetes 1.34 writes it (`kubelet`), to the real API server.
- Directory and heartbeats: a real Postgres, in which one task writes the heartbeats of all that live, and takes the
  shards that the healer wants them to have.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import kubelet
from kwok_cluster import NAMESPACE, PLATFORM

from betting.journal import directory
from betting.life import Life
from betting_operator.healing.signals import BET_SERVICE, Phase
from betting_operator.kubernetes.client import AwayError, Client, Event, Json
from betting_operator.kubernetes.kinds import PODS
from betting_operator.kubernetes.list_watch import ListWatch
from betting_operator.kubernetes.workloads import GRPC_PORT
from betting_operator.platforms import pods

ANSWERS = Path(__file__).with_name("storm_answers.py")
# Between the end of a container and its kubelet's report of it, with the next one running.
REPORTED_AFTER_S = 1.0
BEAT_EVERY_S = 0.5
TAKE_EVERY_S = 0.25
# As many addresses as wanted, and others than those of another run on this machine.
_SECOND, _THIRD = 1 + os.getpid() % 250, os.getpid() // 250 % 250
_numbers = itertools.count(256)

_BEAT = "UPDATE betting.instances SET beat_at = clock_timestamp() WHERE life = ANY($1::text[]) AND NOT exited"
# What an owner gives up and the next one takes, in one step: nothing is appended here.
_TAKE = """
UPDATE betting.shards SET owner = desired_owner, address = '127.0.0.1:7100', state = 'owned', epoch = epoch + 1
WHERE desired_owner = ANY($1::text[]) AND owner IS DISTINCT FROM desired_owner
"""
_OWNED = "SELECT owner, count(*) FROM betting.shards WHERE state = 'owned' GROUP BY owner"
_EXITED = "SELECT life FROM betting.instances WHERE exited"


class _Answers:
    """A process with the servers of many pods (`storm_answers`)."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._one_at_a_time = asyncio.Lock()

    async def start(self) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, str(ANSWERS), stdin=pipe, stdout=pipe, env=environment
        )

    async def serve(self, life: Life, ip: str) -> None:
        """Returns once it answers at this address."""
        async with self._one_at_a_time:
            self._tell({"serve": [life.workload, life.instance, life.boot_id, ip]})
            assert self._process is not None
            assert self._process.stdout is not None
            if not await self._process.stdout.readline():
                raise RuntimeError("what answers in the place of pods has ended")

    def called(self, lives: Iterable[Life]) -> None:
        """Who calls bet-services has called these."""
        self._tell({"callees": [[each.instance, each.boot_id] for each in lives]})

    async def kill(self) -> None:
        """All of them end at once: the kernel closes their sockets."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def _tell(self, what: Json) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")


@dataclass
class _Process:
    """One life in a pod."""

    life: Life
    ip: str
    container: str = field(default_factory=kubelet.new_container_id)


class Pods:
    """Of the whole platform: each pod that kwok runs gets a server.

    client: with the rights of an administrator. exits: so many bet-services can exit.
    """

    def __init__(self, client: Client, database: asyncpg.Connection, exits: int) -> None:
        self._client = client
        self._database = database
        self._one_at_a_time = asyncio.Lock()  # of the connection
        self._running: dict[str, _Process] = {}  # by the pod's name
        self._lives: dict[str, int] = {}  # of each pod, how many there were
        self._lasting, self._ending = _Answers(), _Answers()
        self.to_exit: set[str] = set()  # pods whose containers end at once, by name
        self._exits = exits
        self.failed: Callable[[], bool] = lambda: False
        self._work: asyncio.TaskGroup | None = None
        self._watch = ListWatch(
            client, PODS, NAMESPACE, pods.selector(PLATFORM), listed=self._take_all, changed=self._take
        )

    @property
    def bet_services(self) -> dict[str, Life]:
        """The lives of those that run, by pod."""
        return {name: each.life for name, each in self._running.items() if each.life.workload == BET_SERVICE}

    @property
    def count(self) -> int:
        """Of all pods that answer."""
        return len(self._running)

    async def run(self) -> None:
        """Until it is cancelled."""
        await asyncio.gather(self._lasting.start(), self._ending.start())
        async with asyncio.TaskGroup() as group:
            self._work = group
            group.create_task(self._watch.run())
            group.create_task(self._beat())
            group.create_task(self._own())

    async def close(self) -> None:
        """Ends what answers."""
        await asyncio.gather(self._lasting.kill(), self._ending.kill())

    async def exit(self) -> tuple[float, float, list[Life]]:
        """The containers of so many bet-services end at once, and start again. When they ended, when the kubelets had
        reported it (time.monotonic()), and which lives it were.
        """
        ended = [self._running.pop(name) for name in sorted(self.to_exit)]
        at_s = time.monotonic()
        await self._ending.kill()
        await asyncio.sleep(REPORTED_AFTER_S)
        self.to_exit.clear()
        await asyncio.gather(*(self._restart(each) for each in ended))
        return at_s, time.monotonic(), [each.life for each in ended]

    async def owned(self) -> dict[str, int]:
        """How many shards each life owns."""
        async with self._one_at_a_time:
            return {row[0]: row[1] for row in await self._database.fetch(_OWNED)}

    async def marked_dead(self) -> set[str]:
        """The lives that the directory says have ended."""
        async with self._one_at_a_time:
            return {row[0] for row in await self._database.fetch(_EXITED)}

    async def _restart(self, before: _Process) -> None:
        terminated = kubelet.terminated(before.life.boot_id, container_id=before.container, at=kubelet.timestamp())
        await self._start(before.life.workload, before.life.instance, before.ip, terminated)

    async def _start(self, workload: str, name: str, ip: str, last: Json | None = None) -> None:
        number = self._lives[name] = self._lives.get(name, 0) + 1
        process = _Process(Life(workload, name, f"{name[-5:]}-{number}"), ip)
        await (self._ending if name in self.to_exit else self._lasting).serve(process.life, ip)
        self._running[name] = process
        if workload == BET_SERVICE:
            async with self._one_at_a_time:
                await directory.register(self._database, process.life, f"{ip}:{GRPC_PORT}", [1])
            self._lasting.called(self.bet_services.values())
        state = kubelet.running(process.container)
        container = kubelet.container(workload, state, last, restarts=number - 1)
        await self._report(name, kubelet.status(container, ip=ip))

    async def _report(self, name: str, status: Json) -> None:
        """As a kubelet does: until the API server has taken it."""
        while True:
            try:
                await self._client.patch_status(PODS, NAMESPACE, name, status)
            except AwayError:
                await asyncio.sleep(TAKE_EVERY_S)
            else:
                return

    def _take_all(self, found: Collection[Json]) -> None:
        for each in found:
            self._look(each)

    def _take(self, event: Event) -> None:
        if event.type == "DELETED":
            self._running.pop(event.object["metadata"]["name"], None)
        else:
            self._look(event.object)

    def _look(self, found: Json) -> None:
        pod = pods.read(found)
        if pod is None or pod.name in self._lives or pod.phase is not Phase.RUNNING:
            return
        number = next(_numbers)
        self._lives[pod.name] = 0
        if pod.workload == BET_SERVICE and len(self.to_exit) < self._exits:
            self.to_exit.add(pod.name)
        self._do(self._start(pod.workload, pod.name, f"127.{_SECOND}.{(_THIRD + number // 256) % 256}.{number % 256}"))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._work is not None
        self._work.create_task(work)

    async def _beat(self) -> None:
        while True:
            lives = [str(each.life) for each in self._running.values()]
            async with self._one_at_a_time:
                await self._database.execute(_BEAT, lives)
            await asyncio.sleep(BEAT_EVERY_S)

    async def _own(self) -> None:
        while True:
            lives = [str(each.life) for each in self._running.values()]
            async with self._one_at_a_time:
                await self._database.execute(_TAKE, lives)
            await asyncio.sleep(TAKE_EVERY_S)


@asynccontextmanager
async def pods_of(client: Client, database: asyncpg.Connection, exits: int) -> AsyncIterator[Pods]:
    """Pods that run for the length of a block. What they fail with is raised at its end."""
    found = Pods(client, database, exits)
    task = asyncio.create_task(found.run())
    found.failed = task.done
    try:
        yield found
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await found.close()
