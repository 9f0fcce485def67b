"""A platform that runs what a test tells it to: the contract of the port without a process underneath."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from betting.life import Life
from betting_operator.healing.signals import Exit, Phase
from betting_operator.platforms.port import CannotDo, Capability, Instance, Platform


@dataclass
class ScriptedPlatform(Platform):
    """`can`: what it is able to do beside killing. moved, scaled, rolled_back, reported: what it was asked for."""

    can: frozenset[Capability] = frozenset()
    heard: bool = True
    disk_free: int | None = 1 << 40
    moved: list[Life] = field(default_factory=list)
    scaled: list[tuple[str, int]] = field(default_factory=list)
    rolled_back: list[tuple[str, str]] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)
    _instances: dict[str, Instance] = field(default_factory=dict)
    _ended: dict[str, Life] = field(default_factory=dict)  # the life that ended last, of an instance that is down
    _exits: list[Exit] = field(default_factory=list)
    _boots: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _exited: Callable[[], None] = lambda: None
    now_ms: Callable[[], int] = lambda: 0

    def __post_init__(self) -> None:
        self.capabilities = self.can

    def start(self, workload: str, instance: str, address: str = "", node: str = "") -> Life:
        """A new instance, or a new life of one that is known; running at once."""
        life = Life(workload, instance, f"boot-{next(self._boots)}")
        restarts = self._instances[instance].restarts + 1 if instance in self._instances else 0
        self._instances[instance] = Instance(
            workload, instance, life.boot_id, Phase.RUNNING, address, restarts, node=node
        )
        return life

    def end(self, instance: str, how: str = "killed by SIGKILL") -> Life:
        """Its life ends; it is down until it is started again."""
        known = self._instances[instance]
        life = known.life
        assert life is not None
        self._instances[instance] = replace(known, boot_id="", phase=Phase.DOWN)
        self._ended[instance] = life
        self._exits.append(Exit(life, self.now_ms(), how))
        self._exited()
        return life

    def remove(self, instance: str) -> None:
        """It is not meant to run any more."""
        del self._instances[instance]

    def move(self, instance: str, address: str) -> str:
        """It is reached somewhere else, "": nowhere. Returns where it was."""
        known = self._instances[instance]
        self._instances[instance] = replace(known, address=address)
        return known.address

    def silence(self, instance: str, silent_ms: int) -> None:
        """Its platform's probe has had no answer for so long."""
        self._instances[instance] = replace(self._instances[instance], silent_ms=silent_ms)

    async def run(self, exited: Callable[[], None]) -> None:
        self._exited = exited
        await asyncio.Event().wait()

    def instances(self) -> tuple[Instance, ...] | None:
        return tuple(self._instances.values()) if self.heard else None

    def take_exits(self) -> tuple[Exit, ...]:
        taken, self._exits = tuple(self._exits), []
        return taken

    async def kill(self, life: Life) -> None:
        known = self._present(life)
        if known.life is None:
            raise CannotDo(f"{life} is not running")
        self.end(life.instance)
        self.start(life.workload, life.instance, known.address, known.node)

    async def report(self, lines: Sequence[str]) -> None:
        self.reported.extend(lines)

    def disk_free_bytes(self) -> int | None:
        return self.disk_free

    async def move_away(self, life: Life) -> None:
        self._require(Capability.MOVE_AWAY)
        known = self._present(life)
        if known.life is not None:
            self.end(life.instance)
        self.start(life.workload, life.instance, known.address, f"not {known.node or 'node-1'}")
        self.moved.append(life)

    async def scale(self, workload: str, replicas: int) -> None:
        self._require(Capability.SCALE)
        self.scaled.append((workload, replicas))

    async def roll_back(self, workload: str, template: str) -> None:
        self._require(Capability.ROLL_BACK)
        self.rolled_back.append((workload, template))

    async def close(self) -> None:
        pass

    def _present(self, life: Life) -> Instance:
        """The instance in this life, or down since it. Raises CannotDo when a later life has begun."""
        known = self._instances.get(life.instance)
        if known is None or life != (known.life or self._ended.get(life.instance)):
            raise CannotDo(f"{life} is over")
        return known

    def _require(self, wanted: Capability) -> None:
        if wanted not in self.capabilities:
            raise CannotDo(f"this platform cannot {wanted}")
