"""Loops that live as long as their process: they go on after failures, wait longer each time, and say it once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from betting.runtime import logs, loops
from betting.runtime.errors import unavailable

LOG = logs.get("test")


class Done(Exception):
    """The work has been done as often as the test wants."""


def script(*outcomes: Exception | None) -> Callable[[], Any]:
    """Work that ends like this, one time after another, and then raises Done."""
    left = list(outcomes)

    async def work() -> None:
        if not left:
            raise Done
        outcome = left.pop(0)
        if outcome is not None:
            raise outcome

    return work


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long loops would have waited: no time passes."""
    waited: list[float] = []
    pause = asyncio.sleep

    async def sleep(delay_s: float) -> None:
        waited.append(delay_s)
        await pause(0)

    monkeypatch.setattr(loops.asyncio, "sleep", sleep)
    return waited


AWAY = unavailable("AWAY", "it is away")


async def test_pauses_grow_while_it_fails_and_begin_anew_after_it_worked(pauses: list[float]) -> None:
    """Doubled up to the maximum, less up to half at random; the usual pause after success."""
    work = script(AWAY, AWAY, AWAY, AWAY, None, AWAY)
    with pytest.raises(Done):
        await loops.forever(work, every_s=30, retry_s=1, retry_max_s=4, first_after_s=7, log=LOG, event="not done")
    assert pauses[0] == 7
    assert pauses[5] == 30
    for pause, most in zip((*pauses[1:5], pauses[6]), (1, 2, 4, 4, 1), strict=True):
        assert most / 2 <= pause <= most


async def test_without_a_retry_pause_the_pace_stays(pauses: list[float]) -> None:
    """As for beats: one that failed is followed by the next at its time."""
    with pytest.raises(Done):
        await loops.forever(script(AWAY, None, AWAY), every_s=3, log=LOG, event="not done")
    assert pauses == [0, 3, 3, 3]


async def test_an_unexpected_failure_ends_the_loop(pauses: list[float]) -> None:
    """A mistake of ours is not tried again for ever: the process ends and says why."""
    with pytest.raises(ZeroDivisionError):
        await loops.forever(script(ZeroDivisionError()), every_s=1, log=LOG, event="not done")
    assert pauses == [0]


@pytest.mark.parametrize("in_work", [True, False])
async def test_cancelling_ends_it_at_once(in_work: bool) -> None:
    """Both in the work and in the pause, also when cancellation is among what might look like a failure."""
    reached = asyncio.Event()

    async def work() -> None:
        reached.set()
        if in_work:
            await asyncio.Event().wait()

    task = asyncio.create_task(loops.forever(work, every_s=3_600, failures=(Exception,), log=LOG, event="not done"))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_failure_that_goes_on_is_said_once_with_a_count() -> None:
    """At first, again each minute, when its kind changes, and when it is over; success alone says nothing."""
    now_s = 0.0
    told = loops.FailureLog(LOG, "not read", now_s=lambda: now_s)
    with capture_logs() as lines:
        told.worked()
        for _ in range(100):
            told.failed(AWAY)
        told.failed(OSError("broken"))
        told.failed(AWAY)
        now_s = loops.REPEAT_EVERY_S
        told.failed(AWAY, shard=3)
        told.worked()
        told.worked()
        told.failed(AWAY)
    assert [(line["event"], line["failures"], line.get("reason")) for line in lines] == [
        ("not read", 1, "AWAY"),
        ("not read", 101, "OSError"),
        ("not read", 103, "AWAY"),
        ("not read: over", 103, None),
        ("not read", 1, "AWAY"),
    ]
    assert lines[2]["shard"] == 3


async def test_a_wait_for_an_event_ends_with_it_or_with_its_time() -> None:
    """It tells which; an event that is set already takes no time."""
    event = asyncio.Event()
    assert not await loops.woken_within(event, 0)
    waiting = asyncio.create_task(loops.woken_within(event, None))
    await asyncio.sleep(0)
    assert not waiting.done()
    event.set()
    assert await waiting
    assert await loops.woken_within(event, 3_600)
