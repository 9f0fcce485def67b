"""Many Socket.IO clients in one process, by hand: they read frames and count, so that they are not what is measured.

Run as a process of its own with one JSON argument (see Task). Prints "ready" once every client has what it subscribed
to, waits for a line, counts for a while, and prints what it counted as JSON. Engine.IO 4, Socket.IO 5, RFC 6455.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import uvloop

# Delays are read from the messages of one client in so many.
SAMPLED_ONE_IN = 20
CONNECT_AT_ONCE = 50
RECEIVE_BYTES = 32 * 1024
READY_TIMEOUT_S = 60.0
_CHANGED = b'"changedAtUs":"'


@dataclass(frozen=True)
class Task:
    """The arguments of one run. subscriptions: the events that each client sends; each must be answered."""

    port: int
    tokens: list[str]
    clients: int
    subscriptions: list[list[Any]]
    seconds: float
    then_port: int = 0  # where to go when the connection is lost, with `resume` as subscription
    resume: list[list[Any]] = field(default_factory=list)

    def text(self) -> str:
        """The task as a command-line argument."""
        return json.dumps(asdict(self))


class Client(asyncio.Protocol):
    """One WebSocket connection."""

    def __init__(self, token: str, subscriptions: list[Any], *, sampled: bool) -> None:
        self._token = token
        self._subscriptions = subscriptions
        self._sampled = sampled
        self._buffer = b""
        self._upgraded = False
        self._transport: asyncio.Transport | None = None
        self._answers = 0
        self.ready = asyncio.Event()
        self.lost = asyncio.Event()
        self.received = 0
        self.delays_ms: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]
        key = base64.b64encode(os.urandom(16)).decode()
        self._write_raw(
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key.encode() + b"\r\n\r\n"
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def data_received(self, data: bytes) -> None:
        """Whole frames, one after the other; the rest waits for more."""
        data = self._buffer + data if self._buffer else data
        if not self._upgraded:
            head, separator, data = data.partition(b"\r\n\r\n")
            if not separator:
                self._buffer = head
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self._upgraded = True
        at, end = 0, len(data)
        while at + 2 <= end:
            size, start = data[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                size, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if start + size > end:
                break
            self._frame(data, start, start + size)
            at = start + size
        self._buffer = data[at:]

    def _frame(self, data: bytes, start: int, end: int) -> None:
        kind = data[start : start + 2]
        if kind == b"42":
            self.received += 1
            if self._sampled:
                self._sample(data, start, end)
        elif kind[:1] == b"0":
            self._write(b"40" + json.dumps({"token": self._token}).encode())
        elif kind == b"40":
            for number, event in enumerate(self._subscriptions):
                self._write(b"42%d" % number + json.dumps(event).encode())
        elif kind == b"43":
            assert b'"ok":true' in data[start:end], data[start:end]
            self._answers += 1
            if self._answers == len(self._subscriptions):
                self.ready.set()
        elif kind[:1] == b"2":
            self._write(b"3")
        else:
            raise AssertionError(data[start:end])

    def _sample(self, data: bytes, start: int, end: int) -> None:
        at = data.find(_CHANGED, start, end)
        if at >= 0:
            at += len(_CHANGED)
            changed_us = int(data[at : data.index(b'"', at)])
            self.delays_ms.append((time.time_ns() // 1_000 - changed_us) / 1_000)

    def _write(self, payload: bytes) -> None:
        """A masked text frame; a mask of zeros changes nothing."""
        head = (
            bytes((0x81, 0x80 | len(payload))) if len(payload) < 126 else b"\x81\xfe" + len(payload).to_bytes(2, "big")
        )
        self._write_raw(head + bytes(4) + payload)

    def _write_raw(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def close(self) -> None:
        """Closes the connection."""
        if self._transport is not None:
            self._transport.close()


async def _socket(port: int) -> socket.socket:
    """A socket with a small receive buffer: unread data would be late, and hidden from the gateway."""
    made = socket.socket()
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    try:
        await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
    except OSError:
        made.close()
        raise
    return made


async def connected(port: int, make: Callable[[], Client]) -> Client:
    """A client that has what it subscribed to; tries again while nobody listens."""
    while True:
        try:
            _, client = await asyncio.get_running_loop().create_connection(make, sock=await _socket(port))
        except OSError:
            await asyncio.sleep(0.05)
            continue
        await asyncio.wait(
            [asyncio.ensure_future(client.ready.wait()), asyncio.ensure_future(client.lost.wait())],
            return_when=asyncio.FIRST_COMPLETED,
        )
        if client.ready.is_set():
            return client


async def run(task: Task) -> dict[str, Any]:
    """Runs the task; see the module."""
    gate = asyncio.Semaphore(CONNECT_AT_ONCE)

    async def one(number: int, port: int, subscriptions: list[Any]) -> Client:
        token = task.tokens[number % len(task.tokens)]
        async with gate:
            return await connected(port, lambda: Client(token, subscriptions, sampled=number % SAMPLED_ONE_IN == 0))

    def of(number: int, each: list[list[Any]]) -> list[Any]:
        return each[number % len(each)]

    async with asyncio.timeout(READY_TIMEOUT_S):
        clients = await asyncio.gather(
            *(one(number, task.port, of(number, task.subscriptions)) for number in range(task.clients))
        )
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    if task.then_port:
        return await _resumed(task, clients, one, of)
    before = [client.received for client in clients]
    for client in clients:
        client.delays_ms.clear()
    began_s = time.monotonic()
    await asyncio.sleep(task.seconds)
    took_s = time.monotonic() - began_s
    received = sum(client.received - was for client, was in zip(clients, before, strict=True))
    delays = sorted(delay for client in clients for delay in client.delays_ms)
    lost = sum(client.lost.is_set() for client in clients)
    # Not all of them: a pipe that another process made may take 64 kB and no more.
    p50, p99 = (_percentile(delays, share) for share in (0.5, 0.99))
    return {"received": received, "took_s": took_s, "p50_ms": p50, "p99_ms": p99, "lost": lost}


def _percentile(delays_ms: list[float], share: float) -> float:
    assert delays_ms, "no delay was sampled"
    return delays_ms[min(len(delays_ms) - 1, int(share * len(delays_ms)))]


async def _resumed(task: Task, clients: list[Client], one: Any, of: Any) -> dict[str, Any]:
    """Waits until the connections are lost, and connects to the other gateway."""
    await asyncio.gather(*(client.lost.wait() for client in clients))
    began_s = time.monotonic()
    again = await asyncio.gather(
        *(one(number, task.then_port, of(number, task.resume)) for number in range(task.clients))
    )
    took_s = time.monotonic() - began_s
    return {"received": len(again), "took_s": took_s}


def main() -> None:
    """The entry point of the process."""
    task = Task(**json.loads(sys.argv[1]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(run(task))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
