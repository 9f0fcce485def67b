"""Names that stand for several instances: what a client finds out when the instances behind a name change."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as grpc_health

from betting.runtime import channels

MESSAGE_BYTES = 1 << 20
SERVING = health_pb2.HealthCheckResponse.SERVING
STANDBY = health_pb2.HealthCheckResponse.NOT_SERVING
A_RECORD = 1


class Names:
    """A DNS server on loopback: every name has the addresses of `addresses`, IPv4 only. It counts A questions.

    sockets_lost: from how many sockets no question is answered, as behind a balancer with one that is dead.
    """

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.sockets_lost = 0
        self.asked = threading.Semaphore(0)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops answering."""
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        lost: set[object] = set()
        while True:
            query, client = self._socket.recvfrom(4096)
            if not query:
                return
            if len(lost) < self.sockets_lost:
                lost.add(client)
            if client in lost:
                continue
            end = query.index(0, 12) + 5  # the header has 12 bytes; after the name come its kind and class
            (kind,) = struct.unpack("!H", query[end - 4 : end - 2])
            found = self.addresses if kind == A_RECORD else []
            # RFC 1035: the id, "an answer, recursion available", the counts, the question, each answer by a pointer.
            answer = query[:2] + struct.pack("!HHHHH", 0x8180, 1, len(found), 0, 0) + query[12:end]
            for address in found:
                answer += struct.pack("!HHHIH", 0xC00C, A_RECORD, 1, 0, 4) + socket.inet_aton(address)
            self._socket.sendto(answer, client)
            if kind == A_RECORD:
                self.asked.release()


@pytest.fixture
def names() -> Iterator[Names]:
    """Everything is at 127.0.0.2."""
    served = Names(["127.0.0.2"])
    yield served
    served.close()


@contextlib.asynccontextmanager
async def _instance(host: str, port: int, status: health_pb2.HealthCheckResponse.ServingStatus) -> AsyncIterator[int]:
    """A server with our options that says this of its health; the port it listens on."""
    server = grpc.aio.server(options=channels.server_options(MESSAGE_BYTES))
    health = grpc_health.HealthServicer()
    await health.set("", status)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    bound = server.add_insecure_port(f"{host}:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(None)


async def test_a_client_of_a_standby_alone_hears_of_the_active_instance(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name knew the standby only when the client asked: it asks again although no connection failed."""
    monkeypatch.setattr(channels, "CONNECTION_AGE_MAX_MS", 500)
    async with _instance("127.0.0.2", 0, STANDBY) as port, _instance("127.0.0.3", port, SERVING):
        target = f"dns://{names.address}/odds-service:{port}"
        async with grpc.aio.insecure_channel(
            target, options=channels.client_options(MESSAGE_BYTES, serving_only=True)
        ) as channel:
            answer = asyncio.ensure_future(
                health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=30, wait_for_ready=True
                )
            )
            await asyncio.to_thread(names.asked.acquire, timeout=10)
            names.addresses.append("127.0.0.3")
            assert (await answer).status == SERVING


async def test_a_look_up_that_is_lost_is_made_anew_from_another_socket(names: Names) -> None:
    """One of two name servers is on a lost node: a new client does not wait for it until it gives up."""
    names.sockets_lost = 1
    async with (
        _instance("127.0.0.2", 0, SERVING) as port,
        grpc.aio.insecure_channel(
            f"dns://{names.address}/odds-service:{port}", options=channels.client_options(MESSAGE_BYTES)
        ) as channel,
    ):
        answer = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=4, wait_for_ready=True
        )
    assert answer.status == SERVING


async def test_a_stream_outlives_the_age_of_its_connection(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch of an old connection still hears what changes, while new calls go over a new connection."""
    monkeypatch.setattr(channels, "CONNECTION_AGE_MAX_MS", 200)
    server = grpc.aio.server(options=channels.server_options(MESSAGE_BYTES))
    health = grpc_health.HealthServicer()
    await health.set("", STANDBY)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.2:0")
    await server.start()
    async with grpc.aio.insecure_channel(
        f"dns://{names.address}/odds-service:{port}", options=channels.client_options(MESSAGE_BYTES)
    ) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
        first = await watch.read()
        names.asked.acquire(timeout=10)
        async with asyncio.timeout(20):
            while not names.asked.acquire(blocking=False):  # asked again: the first connection has ended
                await stub.Check(health_pb2.HealthCheckRequest(), timeout=10, wait_for_ready=True)
        await health.set("", SERVING)
        second = await watch.read()
    await server.stop(None)
    assert (first.status, second.status) == (STANDBY, SERVING)
