"""The healer and real bet-services: killed, frozen, coming back."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest
from healing_patients import depositing_at_the_wallet, until

from betting.embedded import sticking
from betting.internal.v1 import supervisor_pb2
from betting.journal import healing_switch, placements
from betting_operator.healer import recorder
from betting_operator.healing import flight
from betting_operator.healing.actions import Condemn, Kill, Seize
from betting_operator.healing.diagnoses import Kind

ONE, TWO = "bet-service-1", "bet-service-2"


async def shared_out(patient: Any) -> bool:
    """Both present lives own shards, and nobody else does."""
    return bool(await patient.owners() == {patient.owner(ONE), patient.owner(TWO)})


async def test_a_killed_owners_shards_are_served_by_the_survivor_and_shared_out_again(start_patient: Any) -> None:
    """At once, under the healer's word; its next life gets its share, hand-over by hand-over."""
    async with start_patient("bet-service", "healer") as patient:
        await until(lambda: shared_out(patient), "shared out")
        dead = patient.owner(ONE)
        patient.platform.supervisor.signal(ONE, signal.SIGKILL)

        async def left() -> bool:
            return dead not in await patient.owners()

        await until(left, "nothing left with the dead")
        await until(lambda: shared_out(patient), "shared out again")
        assert [action.owner for action in patient.done(Condemn)] in ([dead], [])  # the supervisor may have been faster
        assert not patient.done(Kill)


async def test_a_frozen_owner_loses_its_shards_and_is_killed(start_patient: Any) -> None:
    """By three silent vantage points; its next life owns shards; the flight record gives the same plans again."""
    async with start_patient("bet-service", "healer") as patient:
        await until(lambda: shared_out(patient), "shared out")
        life, frozen = patient.life(TWO), patient.owner(TWO)
        patient.platform.supervisor.signal(TWO, signal.SIGSTOP)

        async def left() -> bool:
            return frozen not in await patient.owners()

        await until(left, "nothing left with the frozen")
        await until(lambda: shared_out(patient), "shared out again")
        assert patient.life(TWO) != life
        assert patient.done(Kill) == [Kill("bet-service", TWO, life)]
        [file] = recorder.files(patient.folder / "flight")
        lines = [line for line in file.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]
        assert set(flight.replay(lines)) == {None}


async def test_a_dry_run_does_nothing_and_instances_look_after_themselves(start_patient: Any) -> None:
    """No healer's beat, no placement, no kill: the orphan rule serves the shards of the dead."""
    async with start_patient("bet-service", "healer") as patient:
        await until(lambda: shared_out(patient), "shared out")
        await healing_switch.set_dry_run(patient.database, True)

        async def is_dry() -> bool:
            return any(record.policy.dry_run for record in patient.records()[-1:])

        await until(is_dry, "a dry run")
        dead = patient.owner(ONE)
        patient.platform.supervisor.signal(ONE, signal.SIGKILL)

        async def left() -> bool:
            return dead not in await patient.owners()

        await until(left, "nothing left with the dead")
        await until(lambda: shared_out(patient), "shared out by themselves")
        dry = [record for record in patient.records() if record.policy.dry_run]
        assert not [action for record in dry for action in record.plan.actions if isinstance(action, Kill | Condemn)]


async def test_a_shard_that_its_owner_does_not_hand_over_is_seized(start_patient: Any) -> None:
    """The owner lives, but what it asks of Postgres brings nothing: the receiver has the shard after five seconds."""
    async with start_patient("bet-service", "healer") as patient:
        await until(lambda: shared_out(patient), "shared out")
        giver, receiver = patient.owner(ONE), patient.owner(TWO)
        shard = await patient.database.fetchval("SELECT min(shard_id) FROM betting.shards WHERE owner = $1", giver)
        stuck = asyncio.create_task(sticking.stick(patient.platform.supervisor, ONE, 40))
        await asyncio.sleep(sticking.FIND_S)  # all its connections are found by then
        await patient.database.execute(
            "UPDATE betting.shards SET desired_owner = $2 WHERE shard_id = $1", shard, receiver
        )

        async def handed_over() -> bool:
            query = "SELECT owner = $2 FROM betting.shards WHERE shard_id = $1"
            return bool(await patient.database.fetchval(query, shard, receiver))

        await until(handed_over, "the shard with whom it is meant for")
        seized = {(each.shard, each.owner) for each in patient.done(Seize)}
        assert (shard, giver) in seized
        assert {owner for _shard, owner in seized} == {giver}  # others may have been on their way from it, too
        assert patient.owner(ONE) == giver
        stuck.cancel()
        await asyncio.gather(stuck, return_exceptions=True)


async def test_an_owner_that_is_cut_off_from_postgres_loses_its_shards(start_patient: Any) -> None:
    """It answers every probe; its callers and its beat are silent, the other's beats arrive."""
    async with start_patient("bet-service", "wallet-service", "user-service", "healer") as patient:
        await until(lambda: shared_out(patient), "shared out")
        cut_off, life = patient.owner(ONE), patient.life(ONE)
        rows = await patient.database.fetch("SELECT shard_id FROM betting.shards WHERE owner = $1 LIMIT 3", cut_off)
        async with depositing_at_the_wallet(patient, [row[0] for row in rows]):
            stuck = asyncio.create_task(sticking.stick(patient.platform.supervisor, ONE, 40))

            async def left() -> bool:
                return cut_off not in await patient.owners()

            await until(left, "nothing left with it")
            await stuck  # ends with the life that it stuck
        [hung] = [d for d in patient.diagnoses(Kind.PROCESS_HUNG) if d.confirmed][:1]
        assert (hung.target, hung.boot_id) == (ONE, life)
        assert any("callers" in text for text in hung.evidence)


async def test_an_ejected_owner_hands_its_shards_on_and_lives(start_patient: Any) -> None:
    """At the healer's word, under its term; an older healer's word changes nothing. How large each is, is known."""
    async with start_patient("bet-service", "healer") as patient:
        await until(lambda: shared_out(patient), "shared out")
        term = await patient.database.fetchval("SELECT term FROM betting.healer_beat")
        with pytest.raises(placements.StaleTerm):
            await placements.eject(patient.database, term - 1, patient.owner(ONE))
        await until(lambda: shared_out(patient), "still shared out")
        life = patient.life(ONE)
        assert await placements.eject(patient.database, term, patient.owner(ONE))

        async def handed_on() -> bool:
            return bool(await patient.owners() == {patient.owner(TWO)})

        await until(handed_on, "everything handed on")
        assert patient.life(ONE) == life
        assert not [*patient.done(Kill), *patient.done(Condemn)]

        async def sized() -> bool:
            sizes = {size.instance: size for record in patient.records()[-1:] for size in record.seen.sizes}
            plausible = [10 < s.resident_bytes >> 20 < 512 and s.explained_bytes >> 20 > 100 for s in sizes.values()]
            return sizes.keys() == {ONE, TWO} and all(plausible)

        await until(sized, "both sizes known")


async def test_an_older_healers_word_is_refused(start_patient: Any) -> None:
    """It was paused, another has begun: neither placing nor condemning changes anything."""
    async with start_patient("bet-service") as patient:
        old = await placements.begin_term(patient.database)
        await placements.begin_term(patient.database)
        with pytest.raises(placements.StaleTerm):
            await placements.condemn(patient.database, old, patient.owner(ONE))
        with pytest.raises(placements.StaleTerm):
            await placements.seize(patient.database, old, 0, patient.owner(ONE), 1)
        with pytest.raises(placements.StaleTerm):
            await placements.place(patient.database, old, {0: "nobody"})
        assert not await patient.database.fetchval("SELECT count(*) FROM betting.instances WHERE exited")


async def test_only_the_life_that_was_named_is_killed(start_patient: Any, call_supervisor: Any) -> None:
    """A healer that wakes up late names a life that is over: nothing is done."""
    async with start_patient("wallet-service") as patient, call_supervisor(patient) as stub:
        life = patient.life("wallet-service")
        for instance, boot_id, code in (
            ("wallet-service", "0" * 16, "FAILED_PRECONDITION"),
            ("nobody", life, "INVALID_ARGUMENT"),
        ):
            request = supervisor_pb2.KillProcessRequest(instance=instance, boot_id=boot_id)
            assert await call_supervisor.code(stub.KillProcess, request) == code
        assert patient.life("wallet-service") == life
        request = supervisor_pb2.InjectFaultRequest(fault="explode", instance="wallet-service")
        assert await call_supervisor.code(stub.InjectFault, request) == "INVALID_ARGUMENT"
        unsigned = supervisor_pb2.KillProcessRequest(instance="wallet-service", boot_id=life)
        assert await call_supervisor.code(stub.KillProcess, unsigned, metadata=()) == "UNAUTHENTICATED"
