"""An owner frozen anywhere (SIGSTOP), also inside an append, cannot keep its shard, and wakes up to a closed fence."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from scribe import ADDRESS

from betting.journal import ownership, reader

WRITER = "bet-service-7/7777777777777777"
THIEF = "bet-service-8/8888888888888888"
FREEZES = 20
STEAL_BUDGET_S = 2.0


@pytest.fixture
async def writer(installed: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that appends to shard 0 for as long as it lives."""
    script = Path(__file__).parent / "frozen_writer.py"
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), installed, WRITER, stdout=asyncio.subprocess.PIPE
    )
    yield process
    process.kill()
    await process.wait()
    process._transport.close()  # type: ignore[attr-defined]


async def said(writer: asyncio.subprocess.Process, what: str) -> int:
    assert writer.stdout is not None
    async with asyncio.timeout(20):
        word, number = (await writer.stdout.readline()).split()
    assert word == what.encode()
    return int(number)


async def test_frozen_at_random_points(writer: asyncio.subprocess.Process, connecting: Any) -> None:
    """20 freezes: each steal ends within its budget, nothing is added after it, nothing acknowledged is missing."""
    thief = await connecting(THIEF)
    dice = random.Random(20260314)
    slowest_s = 0.0
    for _ in range(FREEZES):
        epoch = await said(writer, "OWN")
        await asyncio.sleep(dice.uniform(0, 0.12))
        writer.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        taken = await ownership.steal(thief, 0, THIEF, ADDRESS, epoch)
        slowest_s = max(slowest_s, time.monotonic() - begun)
        assert taken is not None
        assert taken.epoch == epoch + 1
        writer.send_signal(signal.SIGCONT)
        acknowledged = await said(writer, "LOST")
        assert acknowledged <= taken.head_sequence
        assert await reader.head(thief, 0) == taken.head_sequence
        assert await ownership.release(thief, 0, THIEF, taken.epoch)
    assert slowest_s < STEAL_BUDGET_S
    # One statement, one snapshot: the writer has the shard again and goes on meanwhile.
    entries, head, keys = await thief.fetchrow(
        "SELECT count(*), max(sequence), (SELECT count(*) FROM betting.requests WHERE shard = 0) "
        "FROM betting.journal WHERE shard = 0"
    )
    assert entries == head == keys
