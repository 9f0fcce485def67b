"""A healer knows how late it is, wherever it was stopped."""

from __future__ import annotations

import asyncio
import time

import pytest

from betting_operator.healer.pulse import Pulse


async def test_a_pause_is_noticed_once_and_wherever_it_fell() -> None:
    """Before its own beat ran again, and after; then it is forgotten."""
    pulse = Pulse()
    beating = asyncio.ensure_future(pulse.run())
    await asyncio.sleep(0)
    assert pulse.take_ms()[1] < 100
    time.sleep(0.4)  # noqa: ASYNC251 - the whole process stands still: that is the point
    before_ms = int(time.monotonic() * 1_000)
    at_ms, late_ms = pulse.take_ms()
    assert late_ms >= 250
    assert at_ms >= before_ms, "what is looked at after the pause is of a time after it"
    await asyncio.sleep(0.15)
    assert pulse.take_ms()[1] < 250
    beating.cancel()


async def test_a_machine_that_slept_was_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """time.monotonic() stands still meanwhile; another clock tells."""
    pulse = Pulse()
    assert pulse.take_ms()[1] < 100
    awake = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda which: awake(which) + 3_600.0)
    assert pulse.take_ms()[1] >= 3_599_000
    assert pulse.take_ms()[1] < 100
