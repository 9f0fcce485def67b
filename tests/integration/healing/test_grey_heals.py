"""An instance that answers, only badly: what its callers say of it, and what becomes of it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from healing_waits import depositing_at_the_wallet, until

from betting.embedded.topology import SHARD_COUNT
from betting.supervision.errors import PlatformError
from betting_operator.healing.actions import Drain, Kill, MarkDead
from betting_operator.healing.diagnoses import Certainty, Kind

pytestmark = pytest.mark.slow

SLOW = "bet-service-2"
STOPS_S, GOES_ON_S = 0.5, 0.1


@asynccontextmanager
async def slowed(running: Any, name: str) -> AsyncIterator[None]:
    """This life of a process stands still most of the time, never long enough to be silent."""
    life = running.life(name)

    async def slow() -> None:
        with suppress(PlatformError):  # it is gone
            while running.life(name) == life:
                running.platform.supervisor.signal(name, signal.SIGSTOP)
                await asyncio.sleep(STOPS_S)
                if running.life(name) == life:
                    running.platform.supervisor.signal(name, signal.SIGCONT)
                await asyncio.sleep(GOES_ON_S)

    slowing = asyncio.create_task(slow())
    try:
        yield
    finally:
        slowing.cancel()
        with suppress(asyncio.CancelledError):
            await slowing
        with suppress(PlatformError):
            running.platform.supervisor.signal(name, signal.SIGCONT)


async def test_an_owner_that_is_slower_than_its_peers_hands_its_shards_on_and_is_replaced(start_platform: Any) -> None:
    """It answers every probe; only who calls all three knows. Nothing is stolen: it hands its shards over in order."""
    services = ("bet-service", "user-service", "wallet-service", "healer")
    async with (
        start_platform(*services, bet_services=3) as running,
        depositing_at_the_wallet(running, range(SHARD_COUNT)),
    ):

        async def shared_out() -> bool:
            return len(await running.owners() - {""}) == 3

        await until(shared_out, "shared out among three")
        slow = running.owner(SLOW)
        async with slowed(running, SLOW):

            async def replaced() -> bool:
                return bool(running.owner(SLOW) != slow)

            await until(replaced, "another life")
        grey = [each for each in running.diagnoses(Kind.GREY_FAILURE) if each.certainty is Certainty.CONFIRMED]
        assert {each.target for each in grey} == {SLOW}
        assert "wallet-service: a tenth of" in grey[0].evidence[0]
        assert [str(each.owner) for each in running.done(Drain)] == [slow]
        assert [each.life.instance for each in running.done(Kill)] == [SLOW]
        taken = [action for record in running.records() for action in record.plan.actions]
        done = [type(action) for action in taken if isinstance(action, (Drain, Kill, MarkDead))]
        assert done[:2] == [Drain, Kill]  # only then it is gone, and said to be
