"""How bytes reach one client: as finished frames where it has a WebSocket, through python-engineio's queue if not."""

from __future__ import annotations

import asyncio
from typing import Final

from betting.gateway.live.engine import Connection
from betting.gateway.live.messages import Outgoing

# What a client may leave unread: beyond it, prices are conflated, and one that is owed bets is disconnected.
CONFLATE_BYTES: Final = 16 * 1024
UNREAD_BYTES_MAX: Final = 1 << 20
CONFLATE_PACKETS: Final = 16
UNREAD_PACKETS_MAX: Final = 1_000
# How long messages for one client may wait for each other.
GATHER_S: Final = 0.01


class Flusher:
    """Writes what has gathered for each client in one go: the system call costs ten times what a message does.

    The first message goes at once, at the end of this turn of the loop; those that follow closely wait for each other.
    """

    def __init__(self) -> None:
        self._waiting: list[Writer] = []
        self._is_scheduled = False
        self._last_s = 0.0

    def add(self, writer: Writer) -> None:
        """Schedules a flush of `writer`, at most GATHER_S after the last one."""
        self._waiting.append(writer)
        if not self._is_scheduled:
            self._is_scheduled = True
            loop = asyncio.get_running_loop()
            loop.call_at(self._last_s + GATHER_S, self._flush)  # in the past: in this turn of the loop

    def _flush(self) -> None:
        self._is_scheduled = False
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.flush()
        self._last_s = asyncio.get_running_loop().time()


class Writer:
    """Writes messages to one client, as gathered WebSocket frames or through python-engineio's queue."""

    __slots__ = ("_connection", "_flusher", "_pending", "_pending_bytes")

    def __init__(self, connection: Connection, flusher: Flusher) -> None:
        self._connection = connection
        self._flusher = flusher
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether so much is unread that newer prices should wait for it and replace each other."""
        return self._is_over(CONFLATE_BYTES, CONFLATE_PACKETS)

    @property
    def is_overfull(self) -> bool:
        """Whether so much is unread that nothing more may be kept for it."""
        return self._connection.queued > UNREAD_PACKETS_MAX or self._is_over(UNREAD_BYTES_MAX, UNREAD_PACKETS_MAX)

    def write(self, message: Outgoing) -> None:
        """Sends in a moment; before that what python-socketio itself has to send. Messages keep their order."""
        connection = self._connection
        if self._pending or (connection.takes_frames):
            self._pending.append(message.frame)
            self._pending_bytes += len(message.frame)
            if len(self._pending) == 1:
                self._flusher.add(self)
        elif not connection.closed:
            connection.enqueue(message.text)

    def flush(self) -> None:
        """Writes all pending frames to the transport in one call; dropped when it is closing."""
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        transport = self._connection.transport
        if pending and transport is not None and not transport.is_closing():
            transport.write(pending[0] if len(pending) == 1 else b"".join(pending))

    def abort_if_ended(self) -> None:
        """Lets go of a client that did not even read that this is the end. One that connected again here stays."""
        if not self._connection.closed:
            return
        self._connection.let_go()

    def _is_over(self, most_bytes: int, packets: int) -> bool:
        transport = self._connection.transport
        if transport is None:
            return self._connection.queued > packets
        return self._pending_bytes + transport.get_write_buffer_size() > most_bytes
