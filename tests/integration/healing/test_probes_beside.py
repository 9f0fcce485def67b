"""Who answers beside its work and gets nowhere is silent, to the healer and to the supervisor."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from beside import standing, watched
from healing_waits import until

from betting.embedded.readiness import GrpcAlive
from betting_operator.healer.prober import Prober
from betting_operator.healing.signals import Answer, Phase
from betting_operator.platforms.port import Instance


@pytest.mark.parametrize("busy", [False, True], ids=["waits", "burns processor time"])
async def test_a_main_loop_that_stands_is_silent_and_one_that_gets_on_is_not(busy: bool) -> None:
    """Told from when it stood, with whether it works at something; over with the first answer of the loop itself."""
    with watched() as service:
        said = service.diagnostics().instance
        one = Instance(
            said.workload,
            said.instance,
            said.boot_id,
            Phase.RUNNING,
            address="127.0.0.1:1",
            health_address=service.address,
        )
        prober = Prober(lambda: (one,))
        alive = GrpcAlive(service.address)
        asking = asyncio.ensure_future(prober.run())

        def probe() -> Any:
            return next((each for each in prober.probes() if each.life.instance == said.instance), None)

        async def asked() -> bool:
            return probe() is not None and bool(prober.sizes()) and not probe().silent_ms

        async def silent() -> bool:
            return bool(probe().silent_ms >= 1_500)

        async def well() -> bool:
            return bool(probe().silent_ms == 0 and await alive())

        try:
            await until(asked, "an answer")
            assert await alive()
            with standing(service, busy=busy):
                await until(silent, "a main loop that stands")
                assert probe().answer is Answer.NOT_SERVING
                assert probe().busy is busy
                assert not await alive()
            await until(well, "a main loop that gets on")
        finally:
            asking.cancel()
            await asyncio.wait([asking])
