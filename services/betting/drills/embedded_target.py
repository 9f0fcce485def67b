"""The embedded platform as a target of drills: everything that can be broken on one machine."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace

from betting.drills import chaos
from betting.drills.target import DATABASES, FEED, POSTGRES, Capability, Instance, ReadTicks, RunTarget, Target, Tick
from betting.embedded import lossy, sticking
from betting.embedded.platform import Options, Platform, running
from betting.embedded.topology import SHARD_COUNT
from betting.life import Life
from betting.runtime import principal
from betting.runtime.clock import now_us
from betting.supervision.errors import PlatformError
from betting.supervision.process import OtherLife
from betting.supervision.state import ProcessPhase, ProcessState
from betting.supervision.supervisor import Progress


@dataclass(frozen=True)
class EmbeddedTarget(Target):
    """A platform that runs in this process. Processes are hit through the supervisor's own child handles only.

    read_ticks: reads the healer's record. is_lossy: whether the healer's path to everybody can lose packets.
    """

    platform: Platform
    read_ticks: ReadTicks = tuple
    is_lossy: bool = False

    @property
    def gateway_url(self) -> str:
        return f"http://{self.platform.topology.http_address()}"

    @property
    def postgres_dsn(self) -> str:
        return self.platform.topology.postgres.dsn()

    @property
    def redis_url(self) -> str:
        return self.platform.topology.redis_url()

    @property
    def shard_count(self) -> int:
        return SHARD_COUNT

    def address(self, workload: str) -> str:
        topology = self.platform.topology
        names = [name for each in topology.services if each.name == workload for name in each.instance_names()]
        if not names:
            raise PlatformError(f"There is no service {workload} in this platform.")
        return topology.address(names[0])

    def credentials(self, caller: str) -> Sequence[tuple[str, bytes]]:
        secret = bytes.fromhex(self.platform.topology.folder.internal_secret())
        return ((principal.METADATA_KEY, principal.service_principal(caller, secret, now_us())),)

    def where_logs(self, workload: str) -> str:
        return f"logs/{workload}.log in the data folder"

    def instances(self) -> Sequence[Instance]:
        processes = self.platform.supervisor.processes
        return [self._instance(each) for each in processes if each.phase is not ProcessPhase.STOPPED]

    def ticks(self) -> Iterable[Tick]:
        return self.read_ticks()

    async def end(self, life: Life) -> None:
        try:
            self.platform.supervisor.kill_life(life.instance, life.boot_id)
        except OtherLife as error:
            raise PlatformError(f"{error}.") from error

    async def stop(self, workloads: Collection[str]) -> None:
        await self.platform.supervisor.stop(each.name for each in self.instances() if each.workload in workloads)

    async def start(self, workloads: Collection[str]) -> None:
        runs = {each.name for each in self.instances()}
        specs = [*self.platform.topology.databases(), *self.platform.topology.service_processes()]
        stopped = (each for each in specs if (each.workload or each.name) in workloads and each.name not in runs)
        await self.platform.supervisor.start(stopped, lambda _name, _took_s: None)

    def lacks(self, needed: Capability | None) -> str:
        if needed is Capability.LOSE_PACKETS and not self.is_lossy:
            return "needs root and iptables (nat, statistic)"
        return ""

    async def pause(self, life: Life) -> None:
        self._signal(life, signal.SIGSTOP)

    async def unpause(self, life: Life) -> None:
        self._signal(life, signal.SIGCONT)

    async def crash_database(self) -> None:
        self.platform.supervisor.signal(POSTGRES, signal.SIGQUIT)

    async def stick(self, life: Life, for_s: float) -> None:
        self._require(life)
        sticking.begin(self.platform.supervisor, life.instance, for_s)

    async def silence(self, life: Life) -> None:
        if life.workload != FEED:
            raise PlatformError(f"Only a feed can be silenced: {FEED}, not {life.instance}.")
        self._signal(life, signal.SIGUSR1)

    async def step_clock(self, life: Life) -> None:
        if life.workload in DATABASES:
            raise PlatformError(f"Only a service's clock can be stepped: {life.instance} is none.")
        self._signal(life, signal.SIGUSR2)

    @asynccontextmanager
    async def losing_packets(self) -> AsyncIterator[None]:
        if not self.is_lossy:
            raise PlatformError(self._cannot(Capability.LOSE_PACKETS))
        with lossy.losing():
            yield

    def _signal(self, life: Life, number: signal.Signals) -> None:
        self._require(life)
        self.platform.supervisor.signal(life.instance, number)

    def _require(self, life: Life) -> None:
        if self.platform.supervisor.boot_id(life.instance) != life.boot_id:
            raise PlatformError(f"{life.instance} is not in the life {life.boot_id} any more.")

    def _instance(self, process: ProcessState) -> Instance:
        workload = self.platform.supervisor.workload_of(process.name)
        life = Life(workload, process.name, process.boot_id) if process.pid is not None else None
        return Instance(
            workload, process.name, life, process.phase is ProcessPhase.READY, process.phase is ProcessPhase.PAUSED
        )


def runner(options: Options, read_ticks: ReadTicks, progress: Progress, note: Callable[[str], None]) -> RunTarget:
    """How to run it. `progress` hears what became ready, `note` what else is worth saying."""

    @asynccontextmanager
    async def run(needs: Collection[Capability]) -> AsyncIterator[Target]:
        is_lossy = Capability.LOSE_PACKETS in needs and lossy.is_possible()
        with lossy.path() if is_lossy else nullcontext(options.healer_host) as healer_host:
            async with running(replace(options, healer_host=healer_host), progress, note) as platform:
                yield EmbeddedTarget(platform, read_ticks, is_lossy)

    return run


async def inject(platform: Platform, fault: str, name: str, duration_s: float) -> None:
    """Breaks one process of it on request, see `chaos.inject`."""
    await chaos.inject(EmbeddedTarget(platform), fault, name, duration_s)
