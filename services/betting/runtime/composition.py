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
    """Whether this process is active or a standby (health then reports NOT_SERVING), or whether it could be active."""

    def __init__(self, *, active: bool) -> None:
        self._active = active
        self._changed = asyncio.Event()

    @property
    def active(self) -> bool:
        """Whether this process is active."""
        return self._active

    def set(self, active: bool) -> None:
        """Makes this process active or a standby."""
        self._active = active
        self._changed.set()

    async def follow(self, notify: Callable[[bool], Awaitable[None]]) -> None:
        """Calls `notify` with the current value and after every change, without end.

        Of changes in quick succession, it gets only the last one.
        """
        while True:
            self._changed.clear()
            await notify(self._active)
            await self._changed.wait()


@dataclass
class Composition:
    """A service put together.

    `background` tasks run for the life of the process; one that ends or raises stops the process with exit code 1.
    When the process is told to stop, health goes NOT_SERVING and `on_refuse` hooks say the same elsewhere; after the
    drain delay, while calls are still answered, `on_drain` hooks run, in order. `on_close` hooks run after the server
    and the background tasks have stopped, before pools and channels close. `activity`: for a service of which one
    process acts; None: it always does. `able`: of such a service, active once this process could act: it has read what
    it needs for that; None: from the start.
    """

    servicers: list[Servicer]
    background: list[Hook] = field(default_factory=list)
    on_refuse: list[Hook] = field(default_factory=list)
    on_drain: list[Hook] = field(default_factory=list)
    on_close: list[Hook] = field(default_factory=list)
    activity: Activity | None = None
    able: Activity | None = None
