"""The healer and real bet-services: killed, frozen, coming back."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest
from healing_waits import depositing_at_the_wallet, until

from betting.embedded import sticking
from betting.internal.v1 import supervisor_pb2
from betting.journal import healing_switch, placements
from betting.life import Life
from betting_operator import flight_files
from betting_operator.healing import flight
from betting_operator.healing.actions import ForceRelease, Kill, MarkDead
from betting_operator.healing.diagnoses import Kind

pytestmark = pytest.mark.slow

ONE, TWO = "bet-service-1", "bet-service-2"


async def shared_out(running: Any) -> bool:
    """Both present lives own shards, and nobody else does."""
    return bool(await running.owners() == {running.owner(ONE), running.owner(TWO)})


async def test_a_killed_owners_shards_are_served_by_the_survivor_and_shared_out_again(start_platform: Any) -> None:
    """At once, under the healer's word; its next life gets its share, hand-over by hand-over."""
    async with start_platform("bet-service", "healer") as running:
        await until(lambda: shared_out(running), "shared out")
        dead = running.owner(ONE)
        running.platform.supervisor.signal(ONE, signal.SIGKILL)

        async def left() -> bool:
            return dead not in await running.owners()

        await until(left, "nothing left with the dead")
        await until(lambda: shared_out(running), "shared out again")
        assert [str(action.owner) for action in running.done(MarkDead)] in ([dead], [])  # the supervisor may be first
        assert not running.done(Kill)


async def test_a_frozen_owner_loses_its_shards_and_is_killed(start_platform: Any) -> None:
    """By three silent vantage points; its next life owns shards; the flight record gives the same plans again."""
    async with start_platform("bet-service", "healer") as running:
        await until(lambda: shared_out(running), "shared out")
        life, frozen = running.life(TWO), running.owner(TWO)
        running.platform.supervisor.signal(TWO, signal.SIGSTOP)

        async def left() -> bool:
            return frozen not in await running.owners()

        await until(left, "nothing left with the frozen")
        await until(lambda: shared_out(running), "shared out again")
        assert running.life(TWO) != life
        assert running.done(Kill) == [Kill(Life("bet-service", TWO, life))]
        [file] = flight_files.files(running.folder / "flight")
        lines = [line for line in file.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]
        assert set(flight.replay(lines)) == {None}


async def test_a_dry_run_does_nothing_and_instances_look_after_themselves(start_platform: Any) -> None:
    """No healer's beat, no placement, no kill: the orphan rule serves the shards of the dead."""
    async with start_platform("bet-service", "healer") as running:
        await until(lambda: shared_out(running), "shared out")
        await healing_switch.set_dry_run(running.database, True)

        async def is_dry() -> bool:
            return any(record.policy.dry_run for record in running.records()[-1:])

        await until(is_dry, "a dry run")
        dead = running.owner(ONE)
        running.platform.supervisor.signal(ONE, signal.SIGKILL)

        async def left() -> bool:
            return dead not in await running.owners()

        await until(left, "nothing left with the dead")
        await until(lambda: shared_out(running), "shared out by themselves")
        dry = [record for record in running.records() if record.policy.dry_run]
        assert not [action for record in dry for action in record.plan.actions if isinstance(action, Kill | MarkDead)]


async def test_a_shard_that_its_owner_does_not_hand_over_is_seized(start_platform: Any) -> None:
    """The owner lives, but what it asks of Postgres brings nothing: the receiver has the shard after five seconds."""
    async with start_platform("bet-service", "healer") as running:
        await until(lambda: shared_out(running), "shared out")
        giver, receiver = running.owner(ONE), running.owner(TWO)
        shard = await running.database.fetchval("SELECT min(shard_id) FROM betting.shards WHERE owner = $1", giver)
        stuck = asyncio.create_task(sticking.stick(running.platform.supervisor, ONE, 40))
        await asyncio.sleep(sticking.FIND_S)  # all its connections are found by then
        await running.database.execute(
            "UPDATE betting.shards SET desired_owner = $2 WHERE shard_id = $1", shard, receiver
        )

        async def handed_over() -> bool:
            query = "SELECT owner = $2 FROM betting.shards WHERE shard_id = $1"
            return bool(await running.database.fetchval(query, shard, receiver))

        await until(handed_over, "the shard with whom it is meant for")
        released = {(each.shard, str(each.owner)) for each in running.done(ForceRelease)}
        assert (shard, giver) in released
        assert {owner for _shard, owner in released} == {giver}  # others may have been on their way from it, too
        assert running.owner(ONE) == giver
        stuck.cancel()
        await asyncio.gather(stuck, return_exceptions=True)


async def test_an_owner_that_is_cut_off_from_postgres_loses_its_shards(start_platform: Any) -> None:
    """It answers every probe; its callers and its beat are silent, the other's beats arrive."""
    async with start_platform("bet-service", "wallet-service", "user-service", "healer") as running:
        await until(lambda: shared_out(running), "shared out")
        cut_off, life = running.owner(ONE), running.life(ONE)
        rows = await running.database.fetch("SELECT shard_id FROM betting.shards WHERE owner = $1 LIMIT 3", cut_off)
        async with depositing_at_the_wallet(running, [row[0] for row in rows]):
            stuck = asyncio.create_task(sticking.stick(running.platform.supervisor, ONE, 40))

            async def left() -> bool:
                return cut_off not in await running.owners()

            await until(left, "nothing left with it")
            await stuck  # ends with the life that it stuck
        [hung] = [d for d in running.diagnoses(Kind.PROCESS_HUNG) if d.confirmed][:1]
        assert hung.life == Life("bet-service", ONE, life)
        assert any("callers" in text for text in hung.evidence)


async def test_an_drained_owner_hands_its_shards_on_and_lives(start_platform: Any) -> None:
    """At the healer's word, under its term; an older healer's word changes nothing. How large each is, is known."""
    async with start_platform("bet-service", "healer") as running:
        await until(lambda: shared_out(running), "shared out")
        term = await running.database.fetchval("SELECT term FROM betting.healer_beat")
        with pytest.raises(placements.StaleTerm):
            await placements.drain(running.database, term - 1, running.owner(ONE))
        await until(lambda: shared_out(running), "still shared out")
        life = running.life(ONE)
        assert await placements.drain(running.database, term, running.owner(ONE))

        async def handed_on() -> bool:
            return bool(await running.owners() == {running.owner(TWO)})

        await until(handed_on, "everything handed on")
        assert running.life(ONE) == life
        assert not [*running.done(Kill), *running.done(MarkDead)]

        async def sized() -> bool:
            sizes = {size.life.instance: size for record in running.records()[-1:] for size in record.seen.sizes}
            plausible = [10 < s.resident_bytes >> 20 < 512 and s.explained_bytes >> 20 > 100 for s in sizes.values()]
            return sizes.keys() == {ONE, TWO} and all(plausible)

        await until(sized, "both sizes known")


async def test_an_older_healers_word_is_refused(start_platform: Any) -> None:
    """It was paused, another has begun: neither placing nor marking dead changes anything."""
    async with start_platform("bet-service") as running:
        old = await placements.begin_term(running.database)
        await placements.begin_term(running.database)
        with pytest.raises(placements.StaleTerm):
            await placements.mark_dead(running.database, old, running.owner(ONE))
        with pytest.raises(placements.StaleTerm):
            await placements.force_release(running.database, old, 0, running.owner(ONE), 1)
        with pytest.raises(placements.StaleTerm):
            await placements.place(running.database, old, {0: "nobody"})
        assert not await running.database.fetchval("SELECT count(*) FROM betting.instances WHERE exited")


async def test_only_the_life_that_was_named_is_killed(start_platform: Any, call_supervisor: Any) -> None:
    """A healer that wakes up late names a life that is over: nothing is done."""
    async with start_platform("wallet-service") as running, call_supervisor(running) as stub:
        life = running.life("wallet-service")
        for instance, boot_id, code in (
            ("wallet-service", "0" * 16, "FAILED_PRECONDITION"),
            ("nobody", life, "INVALID_ARGUMENT"),
        ):
            request = supervisor_pb2.KillProcessRequest(instance=instance, boot_id=boot_id)
            assert await call_supervisor.code(stub.KillProcess, request) == code
        assert running.life("wallet-service") == life
        request = supervisor_pb2.InjectFaultRequest(fault="explode", instance="wallet-service")
        assert await call_supervisor.code(stub.InjectFault, request) == "INVALID_ARGUMENT"
        unsigned = supervisor_pb2.KillProcessRequest(instance="wallet-service", boot_id=life)
        assert await call_supervisor.code(stub.KillProcess, unsigned, metadata=()) == "UNAUTHENTICATED"
