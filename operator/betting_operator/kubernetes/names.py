"""Whether the cluster's DNS answers, by a name that every cluster has.

Who knows an address keeps it, so bets go on without DNS: only what starts anew, or has lost a connection, waits. That
it is away is seen by nobody else until then.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable

NAME = "kubernetes.default.svc"
# One look-up may be lost, with all its attempts (`betting.runtime.names`).
AWAY_AFTER_S = 10.0

Look = Callable[[], Awaitable[object]]


async def look_up() -> object:
    """Raises OSError."""
    return await asyncio.get_running_loop().getaddrinfo(NAME, 443, type=socket.SOCK_STREAM)


class Names:
    """One look-up at a time: it lasts for many seconds where nobody answers, in a thread that cannot be ended."""

    def __init__(self, look: Look = look_up, now_s: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._now_s = now_s
        self._under_way: asyncio.Future[object] | None = None
        self._resolved_s = now_s()
        self._why = ""

    def problem(self) -> str:
        """Why the name has not been resolved for ten seconds, "" otherwise. Asked every few seconds, it says what the
        look-up before found, and begins the next one: nobody waits for it."""
        if self._under_way is not None and self._under_way.done():
            error = self._under_way.exception()
            self._under_way = None
            self._why = "" if error is None else str(error)
            if error is None:
                self._resolved_s = self._now_s()
        if self._under_way is None:
            self._under_way = asyncio.ensure_future(self._look())
        if self._now_s() - self._resolved_s < AWAY_AFTER_S:
            return ""
        return f"{NAME} is not resolved: {self._why or 'no answer'}"
