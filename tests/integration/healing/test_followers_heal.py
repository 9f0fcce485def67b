"""What follows the journal and stands still: a consumer whose connections to Postgres bring nothing any more."""

from __future__ import annotations

from typing import Any

from healing_patients import depositing, until

from betting.drills import faults
from betting.drills.embedded_target import EmbeddedTarget
from betting.internal.v1 import supervisor_pb2
from betting_operator.healing.actions import Kill
from betting_operator.healing.diagnoses import Certainty, Kind

CONSUMER = "notification-service"
SHARDS = (0, 9)


async def positions(patient: Any) -> dict[int, int]:
    """How far the consumer has come on the shards with bettors."""
    rows = await patient.database.fetch(
        "SELECT shard, sequence FROM betting.consumer_positions WHERE consumer = 'notifications'"
    )
    return {row[0]: row[1] for row in rows if row[0] in SHARDS}


async def test_a_stuck_consumer_is_restarted_and_goes_on_from_its_position(start_patient: Any) -> None:
    """It answers its probes all the while; the journal moves, it does not; its next life takes in what it missed."""
    async with start_patient("bet-service", CONSUMER, "healer") as patient, depositing(patient, SHARDS):

        async def follows() -> bool:
            found = await positions(patient)
            return all(found.get(shard, 0) > 1 for shard in SHARDS)

        await until(follows, "the consumer at work")
        life = patient.life(CONSUMER)
        await faults.stick_consumer().inject(EmbeddedTarget(patient.platform))

        async def replaced() -> bool:
            return bool(patient.life(CONSUMER) != life)

        await until(replaced, "a new life")
        stood = await positions(patient)

        async def goes_on() -> bool:
            now = await positions(patient)
            return all(now[shard] > stood[shard] for shard in SHARDS)

        await until(goes_on, "the consumer at work again")
        assert patient.done(Kill) == [Kill(CONSUMER, CONSUMER, life)]
        found = patient.diagnoses(Kind.FOLLOWER_STUCK)
        assert {(d.target, d.certainty, d.boot_id) for d in found} == {(CONSUMER, Certainty.CONFIRMED, life)}


async def test_what_keeps_no_connection_cannot_be_stuck(start_patient: Any, call_supervisor: Any) -> None:
    """It is said, and nothing is done; nor to a target that there is not."""
    async with start_patient("bet-service") as patient, call_supervisor(patient) as stub:
        for target in ("valkey-1", "nobody"):
            request = supervisor_pb2.InjectFaultRequest(fault="stick", instance=target, duration_ms=1_000)
            assert await call_supervisor.code(stub.InjectFault, request) == "INVALID_ARGUMENT"
