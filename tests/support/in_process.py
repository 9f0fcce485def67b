"""For tests: a service's composition in this process, behind a real gRPC server on a port of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from betting.journal.connection import connect
from betting.journal.install import initialise
from betting.runtime import ids, lifecycle
from betting.runtime.client import Target
from betting.runtime.clock import Clock
from betting.runtime.principal import Principal, Role, sign
from betting.runtime.service_context import ServiceContext, opened
from betting.runtime.settings import ServiceSettings

SECRET = "5e" * 32
FAR_FUTURE_US = 4_102_444_800_000_000  # the year 2100


def settings(settings_type: type[Any] = ServiceSettings, **overrides: Any) -> Any:
    """Settings for a test: any free port, a known secret, a short drain; `overrides` by field name."""
    defaults: dict[str, Any] = {
        "instance": "test-1",
        "grpc_address": "127.0.0.1:0",
        "internal_secret": SECRET,
        "drain_timeout": 2.0,
    }
    return settings_type(**(defaults | overrides))


def user_token(
    user_id: bytes, *, role: Role = Role.BETTOR, expires_at_us: int = FAR_FUTURE_US, secret: str = SECRET
) -> bytes:
    """A signed principal for a user (16 bytes), as the gateway would send it."""
    return sign(Principal(user_id, role, bytes(16), expires_at_us), bytes.fromhex(secret))


@asynccontextmanager
async def running(
    compose: lifecycle.Compose,
    service_settings: ServiceSettings | None = None,
    *,
    service: str = "test-service",
    clock: Clock | None = None,
) -> AsyncIterator[str]:
    """Runs a composition for the length of a block and yields its address once it serves.

    Leaving the block drains it as SIGTERM would. What the service failed with (a background task that ended, compose)
    is raised: on entering if it never served, on leaving otherwise.
    """
    stop = asyncio.Event()
    serving: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with opened(service, service_settings or settings(), boot_id=ids.new_boot_id(), clock=clock) as context:
        life = asyncio.ensure_future(lifecycle.live(context, compose, stop, on_serving=serving.set_result))
        beginnings: list[asyncio.Future[Any]] = [life, serving]
        try:
            await asyncio.wait(beginnings, return_when=asyncio.FIRST_COMPLETED)
            if life.done():
                await life
            async with _ended_by(life, stop):
                yield serving.result()
        finally:
            stop.set()
            await life


@asynccontextmanager
async def _ended_by(life: asyncio.Future[None], stop: asyncio.Event) -> AsyncIterator[None]:
    """Cancels the block when the service ends before it was told to; the caller then raises what it ended with."""
    body = asyncio.current_task()
    assert body is not None

    def interrupt(_life: asyncio.Future[None]) -> None:
        if not stop.is_set():
            body.cancel()

    life.add_done_callback(interrupt)
    try:
        yield
    except asyncio.CancelledError:
        if not life.done() or body.uncancel() > 0:
            raise
    finally:
        life.remove_done_callback(interrupt)


def install(dsn: str, shard_count: int) -> None:
    """Creates a database's shards, as `betting migrate` does; bet-services wait for them."""

    async def installed() -> None:
        database = await connect(dsn, "test-install")
        try:
            await initialise(database, shard_count)
        finally:
            await database.close()

    # A loop of its own: fixtures with and without one call this.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, installed()).result()


def free_address() -> str:
    """An address of this machine that nobody listens on (at this moment)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@asynccontextmanager
async def calling(address: str, name: str = "peer", **options: Any) -> AsyncIterator[Target]:
    """A Target for the length of a block."""
    target = Target(name, address, **options)
    try:
        yield target
    finally:
        await target.close()


@asynccontextmanager
async def service_context(service_settings: ServiceSettings | None = None) -> AsyncIterator[ServiceContext[Any]]:
    """A ServiceContext without a server, for tests of what needs one."""
    async with opened("test-service", service_settings or settings(), boot_id=ids.new_boot_id()) as context:
        yield context
