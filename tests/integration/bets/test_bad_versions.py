"""A version that cannot read what another one wrote stops no shards, and is not ready, so that its roll stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import unreading_bets
from bet_processes import BetProcess, running
from grpc_health.v1 import health_pb2, health_pb2_grpc
from owner_calls import SHARDS, Bettor, Owners, user_in

from betting.bets.second_opinion import FROZEN_MAX
from betting.journal import ownership as directory

pytestmark = pytest.mark.slow

# On a starved machine heartbeats come late: nobody is taken for dead who is not.
PATIENT = {"orphaned_after": "20"}


@pytest.fixture
def bad_process(bet_process: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., BetProcess]:
    """As `bet_process`, of the version that cannot apply deposits."""

    def make(name: str, **settings: str) -> BetProcess:
        with monkeypatch.context() as patched:
            patched.setenv("PYTHONPATH", str(Path(unreading_bets.__file__).parent), prepend=":")
            found: BetProcess = bet_process(name, **PATIENT, **settings)
        found._module = unreading_bets.__name__
        return found

    return make


async def states(owners: Owners) -> dict[tuple[str, str], int]:
    """How many shards are in each state, by the address of their owner ("": none)."""
    query = "SELECT state, coalesce(address, ''), count(*) FROM betting.shards GROUP BY 1, 2"
    rows = await owners.connection.fetch(query)
    return {(state, address): count for state, address, count in rows}


async def each_state(owners: Owners) -> list[str]:
    rows = await owners.connection.fetch("SELECT state FROM betting.shards ORDER BY state")
    return [row["state"] for row in rows]


async def until_states(owners: Owners, wanted: dict[tuple[str, str], int]) -> None:
    async with asyncio.timeout(30):
        while await states(owners) != wanted:  # noqa: ASYNC110 - other processes decide
            await asyncio.sleep(0.02)


async def says(process: BetProcess) -> int:
    async with grpc.aio.insecure_channel(process.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    return int(reply.status)


async def until_not_ready(process: BetProcess) -> None:
    async with asyncio.timeout(30):
        while await says(process) != health_pb2.HealthCheckResponse.NOT_SERVING:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def deposits(owners: Owners) -> list[Bettor]:
    """One on every shard."""
    bettors = [Bettor(user_in(shard)) for shard in range(SHARDS)]
    for shard, bettor in enumerate(bettors):
        await owners.one(shard, bettor.deposit(1_000))
    return bettors


async def balances(owners: Owners, bettors: list[Bettor]) -> list[int]:
    found = [(await owners.one(shard, bettor.balance())).balance for shard, bettor in enumerate(bettors)]
    return [balance.cash_minor for balance in found]


async def spoil(owners: Owners, shard: int) -> None:
    """An entry at the end of its journal that no version can apply."""
    await owners.connection.execute(
        "INSERT INTO betting.journal SELECT $1, coalesce(max(sequence), 0) + 1, 10, 1, 1, gen_random_uuid(), "
        "gen_random_uuid(), NULL, NULL, -5, 5, 0, 0, 0, '\\x00' FROM betting.journal WHERE shard = $1",
        shard,
    )


async def repair(owners: Owners, shards: int) -> None:
    """What a person does: takes what `spoil` wrote to the first so many out of their journals, and unfreezes them."""
    async with owners.connection.acquire() as person:
        async with person.transaction():
            await person.execute("SET LOCAL session_replication_role = replica")
            await person.execute("DELETE FROM betting.journal WHERE shard < $1 AND body = '\\x00'", shards)
        for shard in range(shards):
            assert await directory.unfreeze(person, shard)


async def test_an_instance_that_took_no_more_shards_takes_them_once_they_are_unfrozen(
    bet_process: Any, owners: Owners
) -> None:
    """Alone, and the first three shards were bad: after the repair it serves all of them, with no restart."""
    alone = bet_process("alone", **PATIENT)
    for shard in range(FROZEN_MAX):
        await spoil(owners, shard)
    alone.start()
    try:
        await until_states(owners, {("frozen", alone.address): FROZEN_MAX, ("free", ""): SHARDS - FROZEN_MAX})
        await until_not_ready(alone)
        await repair(owners, FROZEN_MAX)
        await until_states(owners, {("owned", alone.address): SHARDS})
        await alone.ready()
        assert await balances(owners, await deposits(owners)) == [1_000] * SHARDS
    finally:
        alone.kill()


async def test_a_version_that_cannot_read_the_shards_is_never_ready(
    bet_process: Any, bad_process: Any, owners: Owners
) -> None:
    """It reads shards of the other version before it would say so, and takes none of them."""
    old, new = bet_process("old", generation="1", **PATIENT), bad_process("new", generation="2")
    async with running(old):
        await owners.all_served()
        bettors = await deposits(owners)
        new.start()
        try:
            async with asyncio.timeout(30):
                while "shard of another version not readable" not in new.log_text():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert await says(new) == health_pb2.HealthCheckResponse.NOT_SERVING
            assert await balances(owners, bettors) == [1_000] * SHARDS
            await old.stop()
            # Now nobody is left to ask: it tries, and stops after a few.
            await until_states(owners, {("frozen", new.address): FROZEN_MAX, ("free", ""): SHARDS - FROZEN_MAX})
            assert await says(new) == health_pb2.HealthCheckResponse.NOT_SERVING
        finally:
            new.kill()


async def test_a_version_that_fails_at_its_first_shard_gets_no_other(
    bet_process: Any, bad_process: Any, owners: Owners
) -> None:
    """It was ready, as nothing was there yet that it cannot read: what it was given goes to the version that can."""
    old = [bet_process(f"old-{number}", generation="1", **PATIENT) for number in (1, 2)]
    new = bad_process("new", generation="2")
    async with running(*old):
        await owners.all_served()
        async with running(new):
            bettors = await deposits(owners)
            await old[0].stop()
            await until_states(owners, {("owned", old[1].address): SHARDS})
            await until_not_ready(new)
            assert await balances(owners, bettors) == [1_000] * SHARDS
            assert new.log_text().count("another version is asked to") == 1


async def test_a_shard_that_neither_version_can_read_is_frozen_alone(bet_process: Any, owners: Owners) -> None:
    """The new version asks the old one; then it is the shard that is at fault, and both own the others."""
    old = [bet_process(f"old-{number}", generation="1", **PATIENT) for number in (1, 2)]
    new = bet_process("new", generation="2", **PATIENT)
    async with running(*old):
        await owners.all_served()
        async with running(new):
            rows = await owners.connection.fetch(
                "SELECT shard_id FROM betting.shards WHERE address = $1", old[0].address
            )
            shard = rows[0]["shard_id"]
            await spoil(owners, shard)
            await old[0].stop()
            async with asyncio.timeout(30):
                while await each_state(owners) != ["frozen", *["owned"] * (SHARDS - 1)]:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            await old[1].stop()
            await until_states(owners, {("frozen", old[1].address): 1, ("owned", new.address): SHARDS - 1})
            await new.ready()
