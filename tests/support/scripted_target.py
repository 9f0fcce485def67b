"""A platform under test that a test makes up: what drills do with it, without a process underneath."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from betting.drills.target import Capability, Instance, Target, Tick
from betting.life import Life
from betting.supervision.errors import PlatformError


@dataclass
class ScriptedTarget(Target):
    """can: what it is able to do. acts: what was done to it, in order, as (what, life or workload)."""

    can: frozenset[Capability] = frozenset(Capability)
    record: list[Tick] = field(default_factory=list)
    acts: list[tuple[str, str]] = field(default_factory=list)
    _instances: dict[str, Instance] = field(default_factory=dict)
    _boots: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def run(self, workload: str, name: str) -> Life:
        """A new instance, or a new life of one that is known; ready at once."""
        life = Life(workload, name, f"boot-{next(self._boots)}")
        self._instances[name] = Instance(workload, name, life, ready=True)
        return life

    def down(self, name: str) -> None:
        """Its life has ended, and the next has not begun."""
        self._instances[name] = replace(self._instances[name], life=None, ready=False)

    @property
    def gateway_url(self) -> str:
        return "http://127.0.0.1:1"

    @property
    def postgres_dsn(self) -> str:
        return "postgresql://nobody@127.0.0.1:1/x"

    @property
    def redis_url(self) -> str:
        return "redis://127.0.0.1:1/0"

    @property
    def shard_count(self) -> int:
        return 16

    def address(self, workload: str) -> str:
        return "127.0.0.1:1"

    def credentials(self, caller: str) -> Sequence[tuple[str, bytes]]:
        return ()

    def where_logs(self, workload: str) -> str:
        return "no log"

    def instances(self) -> Sequence[Instance]:
        return list(self._instances.values())

    def ticks(self) -> Iterable[Tick]:
        return self.record

    async def end(self, life: Life) -> None:
        self._act("end", life)
        self.run(life.workload, life.instance)

    async def stop(self, workloads: Collection[str]) -> None:
        for name in [each.name for each in self._instances.values() if each.workload in workloads]:
            del self._instances[name]

    async def start(self, workloads: Collection[str]) -> None:
        for each in workloads:
            self.run(each, each)

    def lacks(self, needed: Capability | None) -> str:
        return "" if needed in self.can else super().lacks(needed)

    async def pause(self, life: Life) -> None:
        if Capability.PAUSE not in self.can:
            await super().pause(life)
        self._act("pause", life)
        self._instances[life.instance] = replace(self._instances[life.instance], ready=False, paused=True)

    async def unpause(self, life: Life) -> None:
        self._act("unpause", life)
        self._instances[life.instance] = replace(self._instances[life.instance], ready=True, paused=False)

    async def step_clock(self, life: Life) -> None:
        self._act("step", life)

    def _act(self, what: str, life: Life) -> None:
        known = self._instances.get(life.instance)
        if known is None or known.life != life:
            raise PlatformError(f"{life} is over.")
        self.acts.append((what, str(life)))
