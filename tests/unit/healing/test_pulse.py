"""A healer knows how late it is, wherever it was stopped."""

from __future__ import annotations

import asyncio
import time

from betting_operator.healer.pulse import Pulse


async def test_a_pause_is_noticed_once_and_wherever_it_fell() -> None:
    """Before its own beat ran again, and after; then it is forgotten."""
    pulse = Pulse()
    beating = asyncio.ensure_future(pulse.run())
    await asyncio.sleep(0)
    assert pulse.take_ms() < 100
    time.sleep(0.4)  # noqa: ASYNC251 - the whole process stands still: that is the point
    assert pulse.take_ms() >= 250
    await asyncio.sleep(0.15)
    assert pulse.take_ms() < 250
    beating.cancel()
