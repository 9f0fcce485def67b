"""What a plan asks of the platform reaches it, and what it cannot do is an outcome."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import pytest
from scripted_platform import ScriptedPlatform

from betting.life import Life
from betting_operator.healer.database import HealerDatabase
from betting_operator.healer.executor import Executor
from betting_operator.healer.pulse import Pulse
from betting_operator.healer.redis_watch import RedisWatch
from betting_operator.healing.actions import Kill, MoveAway, RollBack, Scale
from betting_operator.healing.signals import Capability
from betting_operator.platforms.port import present_lives

LATE_AFTER_MS = 1_000


def executor(platform: ScriptedPlatform, pulse: Pulse | None = None) -> Executor:
    """Neither Postgres nor Redis is needed for what only the platform does."""
    return Executor(platform, cast(HealerDatabase, None), cast(RedisWatch, None), pulse or Pulse())


async def test_moving_rolling_back_and_scaling_reach_the_platform() -> None:
    """Each once, with what the plan said."""
    platform = ScriptedPlatform(can=frozenset(Capability))
    life = platform.start("wallet-service", "wallet-service-1", node="node-1")
    actions = (MoveAway(life), RollBack("wallet-service", "demo-wallet-service-6c7d8f9b5d"), Scale("bet-service", 3))
    outcomes = await executor(platform).execute(actions, LATE_AFTER_MS)
    assert [outcome.rpartition(": ")[2] for outcome in outcomes] == ["done"] * 3
    assert platform.moved == [life]
    assert platform.rolled_back == [("wallet-service", "demo-wallet-service-6c7d8f9b5d")]
    assert platform.scaled == [("bet-service", 3)]
    assert present_lives(platform.instances())["wallet-service-1"] != life


async def test_what_the_platform_cannot_do_is_an_outcome() -> None:
    """With the reason; the rest of the plan is done all the same."""
    platform = ScriptedPlatform()
    life = platform.start("wallet-service", "wallet-service-1")
    outcomes = await executor(platform).execute((MoveAway(life), RollBack("wallet-service")), LATE_AFTER_MS)
    assert all("failed: this platform cannot" in outcome for outcome in outcomes)
    assert len(outcomes) == 2


async def test_what_the_platform_does_to_several_instances_it_does_at_once() -> None:
    """Of a node that is lost each kill may take its full time, in which the healer neither looks nor beats."""
    both = asyncio.Barrier(2)

    class Slow(ScriptedPlatform):
        async def kill(self, life: Life) -> None:
            await both.wait()

    platform = Slow()
    lives = [platform.start("wallet-service", f"wallet-service-{n}") for n in (1, 2)]
    async with asyncio.timeout(10.0):
        outcomes = await executor(platform).execute(tuple(Kill(each) for each in lives), LATE_AFTER_MS)
    assert all(outcome.endswith("done") for outcome in outcomes)


async def test_a_healer_that_was_stopped_does_nothing_of_what_it_concluded_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whom it took for hung may be well by now; its next look begins anew."""
    platform, pulse = ScriptedPlatform(), Pulse()
    life = platform.start("wallet-service", "wallet-service-1")
    pulse.take_ms()
    awake = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: awake() + 4.0)
    late = await executor(platform, pulse).execute((Kill(life),), LATE_AFTER_MS)
    assert "failed: the healer itself stood still for 4" in late[0]
    assert present_lives(platform.instances())["wallet-service-1"] == life
    pulse.take_ms()
    assert (await executor(platform, pulse).execute((Kill(life),), LATE_AFTER_MS))[0].endswith("done")
