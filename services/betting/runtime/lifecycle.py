"""The life of a service process, without signals and exit codes: start, compose, serve, drain, close.

listening, NOT_SERVING ─► composed ─► SERVING ─► NOT_SERVING, on_refuse hooks ─► drain delay ─► on_drain hooks
─► calls in flight end ─► stopped
─► background tasks cancelled ─► on_close hooks ─► connections closed

A service of which one process acts says SERVING only while it is the active one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from structlog.typing import FilteringBoundLogger

from betting.runtime.composition import Composition, Hook
from betting.runtime.diagnostics import Identity
from betting.runtime.errors import ConfigurationError
from betting.runtime.server import Server
from betting.runtime.service_context import ServiceContext

Compose = Callable[[ServiceContext[Any]], Awaitable[Composition]]

# Even when the hooks took all the drain time, calls in flight get this long.
FINISH_TIMEOUT_MIN_S = 1.0
CLOSE_HOOK_TIMEOUT_S = 5.0
REFUSE_HOOK_TIMEOUT_S = 1.0
# A process whose background task died does not wait for anything long.
FAILED_STOP_TIMEOUT_S = 0.5
CANCEL_AGAIN_S = 0.1


class BackgroundEndedError(Exception):
    """A background task ended, which none may: the process must stop. The cause, if it raised, is chained."""


async def live(
    context: ServiceContext[Any],
    compose: Compose,
    stop: asyncio.Event,
    *,
    on_serving: Callable[[str], None] | None = None,
) -> None:
    """Runs a service until `stop` is set, then drains; `on_serving` gets the address.

    Raises PortBusyError, ConfigurationError, BackgroundEndedError, and what compose raises.
    """
    identity = Identity(context.life, context.clock.now_us())
    server = Server(
        identity,
        context.settings,
        context.target_statistics,
        context.call_statistics,
        context.explained_bytes,
        lambda: context.alerts,
    )
    address = await server.start()
    try:
        composition = await _unless_stopped(compose(context), stop)
        if composition is not None:
            await _serve(context, server, composition, stop, lambda: on_serving(address) if on_serving else None)
    finally:
        await server.stop(FAILED_STOP_TIMEOUT_S)


async def _serve(
    context: ServiceContext[Any],
    server: Server,
    composition: Composition,
    stop: asyncio.Event,
    on_serving: Callable[[], None],
) -> None:
    tasks = [asyncio.ensure_future(_run(work)) for work in composition.background]
    activity, able = composition.activity, composition.able
    try:
        await server.serve(
            composition.servicers,
            active=activity is None or activity.active,
            able=able is None or able.active,
        )
        if activity is not None:
            tasks.append(asyncio.ensure_future(activity.follow(server.set_active)))
        if able is not None:
            tasks.append(asyncio.ensure_future(able.follow(server.set_able)))
        context.log.info("serving", address=server.address)
        on_serving()
        await _until_stopped(tasks, stop)
        await _drain(context, server, composition)
    finally:
        await server.refuse()
        await server.stop(FAILED_STOP_TIMEOUT_S)
        await cancel_all(tasks)
        await _run_hooks(context.log, "on_close", composition.on_close, CLOSE_HOOK_TIMEOUT_S)


async def _drain(context: ServiceContext[Any], server: Server, composition: Composition) -> None:
    timeout_s = context.settings.drain_timeout.total_seconds()
    delay_s = context.settings.drain_delay.total_seconds()
    context.log.info("draining", delay_s=delay_s, timeout_s=timeout_s)
    await server.refuse()
    await _run_hooks(context.log, "on_refuse", composition.on_refuse, REFUSE_HOOK_TIMEOUT_S)
    await asyncio.sleep(delay_s)
    started_s = time.monotonic()
    await _run_hooks(context.log, "on_drain", composition.on_drain, timeout_s)
    rest_s = max(FINISH_TIMEOUT_MIN_S, timeout_s - (time.monotonic() - started_s))
    finished = await server.stop(rest_s)
    context.log.info("drained", all_calls_finished=finished, duration_s=round(time.monotonic() - started_s, 3))


async def _unless_stopped(work: Awaitable[Composition], stop: asyncio.Event) -> Composition | None:
    """The result, or None when the process was told to stop first (say, while waiting for Postgres)."""
    task = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    both: list[asyncio.Future[Any]] = [task, stopping]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        await cancel_all(both)


async def _until_stopped(tasks: Sequence[asyncio.Future[None]], stop: asyncio.Event) -> None:
    stopping: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
    everything: list[asyncio.Future[Any]] = [*tasks, stopping]
    try:
        await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel_all((stopping,))
    for task in tasks:
        if task.done():
            if isinstance(error := task.exception(), ConfigurationError):  # found out only once it ran
                raise error
            raise BackgroundEndedError("a background task ended") from task.exception()


async def _run(work: Hook) -> None:
    await work()


async def cancel_all(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancels until all have ended: asyncio.wait_for, which redis-py writes with, loses a cancellation that comes as it
    finishes (bpo-42130, before Python 3.12), and the task goes on."""
    tasks = list(tasks)
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)


async def _run_hooks(log: FilteringBoundLogger, kind: str, hooks: Iterable[Hook], timeout_s: float) -> None:
    """Runs hooks in order, all within `timeout_s`; one that fails does not keep the next from running."""
    end_s = time.monotonic() + timeout_s
    for hook in hooks:
        try:
            async with asyncio.timeout(max(0.0, end_s - time.monotonic())):
                await hook()
        except Exception as error:  # a stopping process goes on stopping
            log.error("hook failed", kind=kind, exc_info=error)
