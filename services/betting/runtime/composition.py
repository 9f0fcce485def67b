"""What a service's `compose` gives to the runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

Hook = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Servicer:
    """One gRPC service: the generated `add_…_to_server`, the implementation, the full name "betting.v1.BetService".

    `unbounded_methods` (short names) have queues of their own and do not pass the bulkhead; `quiet_methods` log a
    success only at debug.
    """

    add_to_server: Callable[[Any, Any], None]
    implementation: object
    full_name: str
    unbounded_methods: frozenset[str] = frozenset()
    quiet_methods: frozenset[str] = frozenset()


class Activity:
    """Whether this process acts, or stands by for another of its kind. Health says NOT_SERVING while it stands by."""

    def __init__(self, *, active: bool) -> None:
        self._active = active
        self._changed = asyncio.Event()

    @property
    def active(self) -> bool:
        """What was set last."""
        return self._active

    def set(self, active: bool) -> None:
        """Says which it is from now on."""
        self._active = active
        self._changed.set()

    async def follow(self, tell: Callable[[bool], Awaitable[None]]) -> None:
        """Tells now and after every change, for ever; of changes in quick succession the last one."""
        while True:
            self._changed.clear()
            await tell(self._active)
            await self._changed.wait()


@dataclass
class Composition:
    """A service put together.

    `background` tasks run for the life of the process; one that ends or raises stops the process with exit code 1.
    When the process is told to stop, health goes NOT_SERVING and `on_refuse` hooks say the same elsewhere; after the
    drain delay, while calls are still answered, `on_drain` hooks run, in order. `on_close` hooks run after the server
    and the background tasks have stopped, before pools and channels close. `activity`: for a service of which one
    process acts; None: it always does.
    """

    servicers: list[Servicer]
    background: list[Hook] = field(default_factory=list)
    on_refuse: list[Hook] = field(default_factory=list)
    on_drain: list[Hook] = field(default_factory=list)
    on_close: list[Hook] = field(default_factory=list)
    activity: Activity | None = None
