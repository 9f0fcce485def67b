"""What follows the journal and stands still: a consumer whose connections to Postgres bring nothing any more."""

from __future__ import annotations

from typing import Any

import pytest
from healing_waits import depositing, until

from betting.drills import faults
from betting.drills.embedded_target import EmbeddedTarget
from betting.internal.v1 import supervisor_pb2
from betting.life import Life
from betting_operator.healing.actions import Kill
from betting_operator.healing.diagnoses import Certainty, Kind

pytestmark = pytest.mark.slow

CONSUMER = "notification-service"
SHARDS = (0, 9)


async def positions(running: Any) -> dict[int, int]:
    """How far the consumer has come on the shards with bettors."""
    rows = await running.database.fetch(
        "SELECT shard, sequence FROM betting.consumer_positions WHERE consumer = 'notifications'"
    )
    return {row[0]: row[1] for row in rows if row[0] in SHARDS}


async def test_a_stuck_consumer_is_restarted_and_goes_on_from_its_position(start_platform: Any) -> None:
    """It answers its probes all the while; the journal moves, it does not; its next life takes in what it missed."""
    async with start_platform("bet-service", CONSUMER, "healer") as running, depositing(running, SHARDS):

        async def follows() -> bool:
            found = await positions(running)
            return all(found.get(shard, 0) > 1 for shard in SHARDS)

        await until(follows, "the consumer at work")
        life = running.life(CONSUMER)
        await faults.stick_consumer().inject(EmbeddedTarget(running.platform))

        async def replaced() -> bool:
            return bool(running.life(CONSUMER) != life)

        await until(replaced, "a new life")
        stood = await positions(running)

        async def goes_on() -> bool:
            now = await positions(running)
            return all(now[shard] > stood[shard] for shard in SHARDS)

        await until(goes_on, "the consumer at work again")
        assert running.done(Kill) == [Kill(Life(CONSUMER, CONSUMER, life))]
        found = running.diagnoses(Kind.CONSUMER_STUCK)
        assert {(d.life, d.certainty) for d in found} == {(Life(CONSUMER, CONSUMER, life), Certainty.CONFIRMED)}


async def test_what_keeps_no_connection_cannot_be_stuck(start_platform: Any, call_supervisor: Any) -> None:
    """It is said, and nothing is done; nor to a target that there is not."""
    async with start_platform("bet-service") as running, call_supervisor(running) as stub:
        for target in ("valkey-1", "nobody"):
            request = supervisor_pb2.InjectFaultRequest(fault="stick", instance=target, duration_ms=1_000)
            assert await call_supervisor.code(stub.InjectFault, request) == "INVALID_ARGUMENT"
