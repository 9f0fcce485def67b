"""The laptop underneath the simulated healer: a supervisor that sees every exit at once and probes for itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from simulated_world import INSTANCES, NODE_OF, OTHERS, PROBE_MS, Running, World

from betting.life import Life
from betting_operator.healing.signals import Answer, Exit, Phase, Probe, Process


class Port(Protocol):
    """What a healer needs of the platform that it runs on, and its own probes of what the platform says that runs."""

    def processes(self) -> tuple[Process, ...] | None:
        """Everything that should run, None: not known."""

    has_news: bool  # an exit became known: the healer looks at once

    def take_exits(self) -> tuple[Exit, ...]:
        """Those that became known since the last call."""

    def probes(self) -> tuple[Probe, ...]:
        """Of everything that runs, as far as the healer knows."""

    def holder(self, name: str) -> Life | None:
        """The life of this name that runs, as far as the healer knows."""

    def kill(self, life: Life, check: Callable[[Running], None]) -> int:
        """Ends it, if nothing else has. check: called with what really is ended. Returns how long that took, in ms."""


class Supervisor:
    """nodes_seen: whether it tells what runs on which node."""

    has_news = False  # its healer looks twice a second anyway

    def __init__(self, world: World, *, nodes_seen: bool) -> None:
        self._world = world
        self._nodes_seen = nodes_seen
        self._told = 0

    def processes(self) -> tuple[Process, ...]:
        """As they are now."""
        return tuple(self._process(name) for name in (*INSTANCES, *OTHERS))

    def take_exits(self) -> tuple[Exit, ...]:
        """Each once, also those that no healer was there for."""
        exits, self._told = self._world.exits[self._told :], len(self._world.exits)
        return tuple(exits)

    def probes(self) -> tuple[Probe, ...]:
        """Of the lives that are there."""
        lives = (life for life in self._world.lives.values() if life is not None)
        return tuple(probe(self._world, life, self._silent(life, "healer")) for life in lives)

    def holder(self, name: str) -> Life | None:
        """Its present life."""
        life = self._world.lives[name]
        return None if life is None else life.life

    def kill(self, life: Life, check: Callable[[Running], None]) -> int:
        """By boot id."""
        running = self._world.lives[life.instance]
        if running is not None and running.life == life:
            check(running)
            self._world.kills.append(running.owner)
            self._world.end(running, "killed by SIGKILL")
        return 0

    def _process(self, name: str) -> Process:
        workload = "bet-service" if name in INSTANCES else name
        life, node = self._world.lives[name], NODE_OF[name] if self._nodes_seen else ""
        if life is None:
            return Process(workload, name, "", Phase.DOWN, 0, node=node)
        return Process(workload, name, str(life.boot), Phase.RUNNING, 0, self._silent(life, "platform"), node)

    def _silent(self, life: Running, who: str) -> int:
        answered_ms = life.answered_ms[who]
        if who == "platform":  # the supervisor knows its own pause; it slept when all did, the healer included
            answered_ms = max(answered_ms, self._world.platform_woke_ms)
        silent_ms = self._world.now_ms - answered_ms
        return silent_ms if silent_ms > PROBE_MS else 0


def probe(world: World, life: Running, silent_ms: int) -> Probe:
    """Of a life that is there."""
    answer = Answer.SILENT if silent_ms else Answer.SERVING
    return Probe(life.life, answer, silent_ms, lag_ms=1_500 if world.now_ms < life.slow_until_ms else 0)
