"""What the healer needs of whatever runs underneath: one interface, implemented once for each platform.

| implementation | runs on                                            |
| -------------- | -------------------------------------------------- |
| `supervisor`   | one machine: processes under our own supervisor    |
| `kubernetes`   | a cluster: pods of one platform in one namespace   |

An implementation is right when the contract suite passes: `tests/support/platform_contract.py`, which a scripted
platform for tests passes too.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from betting.life import Life
from betting_operator.healing.redis_signals import REDIS_WORKLOAD
from betting_operator.healing.signals import Capability, Exit, Phase, Rebalance

__all__ = [
    "REDIS_WORKLOAD", "AskStored", "CannotDo", "Capability", "Instance", "Inventory", "Platform", "Stored",
    "free_bytes", "present_lives",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance as the platform sees it now.

    boot_id: of its present life, "" while there is none. address: where its gRPC (of a Redis node: Redis) is reached,
    "" while it is not known. health_address: where it answers how it is beside its work, "": where it is reached.
    silent_ms: how long the platform's own probe has had no answer that reports progress, 0 when the last one did.
    node: the machine it runs on, "" where there is only one.
    """

    workload: str
    instance: str
    boot_id: str
    phase: Phase
    address: str = ""
    restarts: int = 0
    silent_ms: int = 0
    node: str = ""
    health_address: str = ""

    @property
    def life(self) -> Life | None:
        """Its present life, None while there is none."""
        return Life(self.workload, self.instance, self.boot_id) if self.boot_id else None


# Everything that should run, as of now; None while the platform cannot be reached: it is not known then.
Inventory = Callable[[], tuple[Instance, ...] | None]


class CannotDo(Exception):
    """The platform would not, could not, or could not be asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored, as far as a version of the platform must be able to read it.

    migrations: all that were applied; compatible: of those that older releases may run with, the newest one that such a
    release must know. read: formats of journal entries that every bet-service that runs reads, () where none runs.
    """

    migrations: frozenset[str]
    compatible: Mapping[str, str]
    read: tuple[int, ...]


# Raises CannotDo while Postgres does not say.
AskStored = Callable[[], Awaitable[Stored]]


class Platform(ABC):
    """What runs, what ended, and hands. Instances come and go and change their addresses: nothing is a fixed list."""

    capabilities: frozenset[Capability] = frozenset()

    @abstractmethod
    async def run(self, exited: Callable[[], None]) -> None:
        """Keeps what it knows up to date for the life of the process; `exited` is called when a new exit is known."""

    @abstractmethod
    def instances(self) -> tuple[Instance, ...] | None:
        """Everything that should run, as of now; None while the platform cannot be reached: it is not known then."""

    @abstractmethod
    def take_exits(self) -> tuple[Exit, ...]:
        """Exits that became known since the last call, each life once. An exit is proof: the platform waited for it."""

    @abstractmethod
    async def kill(self, life: Life) -> None:
        """Ends this life and no other; the platform starts the next. Raises CannotDo, also when the life is over."""

    @abstractmethod
    async def report(self, lines: Sequence[str]) -> None:
        """Shows lines on the screens of the platform; they are lost while it cannot be reached. Raises nothing."""

    @abstractmethod
    def disk_free_bytes(self) -> int | None:
        """Free bytes where the healer keeps its flight record; None: not known."""

    def rebalance(self) -> Rebalance | None:
        """Which planned moves of shards people asked for; None: not known now. Most platforms have no way to ask."""
        return Rebalance()

    @abstractmethod
    async def close(self) -> None:
        """Closes connections."""

    async def move_away(self, life: Life) -> None:
        """Runs the instance on another node.

        life: its present one, which ends by it, or where none runs the one that ended last: what crashes again and
        again is down most of the time. Raises CannotDo, also when a later life has begun.
        """
        raise CannotDo(f"{life} cannot be moved: this platform has one node")

    async def scale(self, workload: str, replicas: int) -> None:
        """Runs so many instances of a workload. Raises CannotDo."""
        raise CannotDo(f"{workload} cannot be scaled to {replicas}: this platform has a fixed size")

    async def roll_back(self, workload: str, template: str) -> None:
        """Runs the version that worked last. template: of the instances that crash, as their names begin.

        Raises CannotDo, also when the workload has another template by now, or a format has moved since.
        """
        raise CannotDo(f"{workload} cannot be rolled back: this platform has one version")


def free_bytes(folder: Path) -> int | None:
    """Free bytes on the disk of a folder; None: not known."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def present_lives(instances: Iterable[Instance] | None) -> dict[str, Life]:
    """The life of every instance that runs, by the instance's name; empty while the platform cannot be heard."""
    return {
        each.instance: each.life for each in instances or () if each.phase is Phase.RUNNING and each.life is not None
    }
