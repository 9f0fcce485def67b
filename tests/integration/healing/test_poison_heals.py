"""Shards that nobody can load: they stop alone, a person is called, and a person's cure is all they need."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from healing_waits import bettor_in, depositing, until
from owner_calls import Owners

from betting.audit import audit
from betting.drills import faults, poison
from betting.drills.embedded_target import EmbeddedTarget
from betting.supervision.errors import PlatformError
from betting_operator.healing.actions import Alert, Place
from betting_operator.healing.diagnoses import Kind

pytestmark = pytest.mark.slow

SHARD, OTHER = 3, 12
OWNERS = ("bet-service-1", "bet-service-2")


async def state_of(running: Any, shard: int) -> str:
    """As the directory says."""
    return str(await running.database.fetchval("SELECT state FROM betting.shards WHERE shard_id = $1", shard))


async def test_a_poisoned_shard_stops_alone_and_is_served_again_once_it_is_cured(start_platform: Any) -> None:
    """The others go on; the audit names the entry; a person is called; the cure leaves nothing behind."""
    async with start_platform("bet-service", "healer") as running:
        dsn = running.platform.topology.postgres.dsn()
        secret = running.platform.topology.folder.internal_secret()
        owners = Owners(dsn)
        await owners.open()
        async with depositing(running, [SHARD]):

            async def has_entries() -> bool:
                query = "SELECT count(*) > 2 FROM betting.journal WHERE shard = $1"
                return bool(await running.database.fetchval(query, SHARD))

            await until(has_entries, "bettors at work")
            await faults.poison_shard(SHARD).inject(EmbeddedTarget(running.platform))

            async def frozen_and_told() -> bool:
                told = [a for a in running.done(Alert) if a.about == Kind.SHARD_STOPPED]
                return await state_of(running, SHARD) == "frozen" and bool(told)

            await until(frozen_and_told, "the shard frozen, a person called")
            assert (await owners.one(OTHER, bettor_in(OTHER, secret).deposit(100))).HasField("balance")
            assert "journal.kinds" in {check.name for check in (await audit(dsn)).failed}
            placed = [shard for a in running.done(Place) for shard, _to in a.wanted]
            await poison.cure(dsn, SHARD)

            async def served() -> bool:
                return await state_of(running, SHARD) == "owned"

            await until(served, "the shard served again")
        assert (await owners.one(SHARD, bettor_in(SHARD, secret).deposit(100))).HasField("balance")

        async def taken_in() -> bool:
            report = await audit(dsn)
            return report.holds and not report.lag_entries

        await until(taken_in, "a clean audit")
        assert placed.count(SHARD) <= 1  # once, when the platform began
        await owners.close()


async def test_there_is_no_such_shard(start_platform: Any) -> None:
    """It is said, and nothing is written."""
    async with start_platform() as running:
        with pytest.raises(PlatformError, match="no shard 99"):
            await poison.poison(running.platform.topology.postgres.dsn(), 99)


async def test_a_replay_that_ends_two_owners_is_given_to_no_third(start_platform: Any) -> None:
    """Both were killed while they loaded the shard; the other is served, a person is called, and it stays so.

    No shard can be loaded here, and one that ended an owner is loaded last: of two, the third death is one too many.
    """
    async with start_platform("bet-service", "healer", shard_count=2) as running:

        async def shared_out() -> bool:
            return bool(await running.owners() == {running.owner(name) for name in OWNERS})

        async def loading() -> set[str]:
            return {row[0] for row in await running.database.fetch("SELECT loading_by FROM betting.replays")}

        await until(shared_out, "shared out")
        blocker = await running.another_connection()
        # No replay gets past this.
        await blocker.execute("BEGIN; LOCK TABLE betting.snapshots IN ACCESS EXCLUSIVE MODE")
        running.platform.supervisor.signal(OWNERS[0], signal.SIGKILL)
        killed = {running.owner(OWNERS[0])}

        async def quarantined() -> list[int]:
            rows = await running.database.fetch("SELECT shard_id FROM betting.shards WHERE state = 'quarantined'")
            return [row[0] for row in rows]

        async def some_quarantined_and_told() -> bool:
            """Until then, whoever loads a shard is killed, once each life."""
            for name in OWNERS:
                if running.owner(name) in await loading() - killed and not await quarantined():
                    killed.add(running.owner(name))
                    running.platform.supervisor.signal(name, signal.SIGKILL)
            told = {a.target for a in running.done(Alert) if a.about == Kind.SHARD_STOPPED}
            return bool(told) and told == {f"shard {shard}" for shard in await quarantined()}

        await until(some_quarantined_and_told, "in quarantine, a person called")
        await blocker.close()

        async def other_served() -> bool:
            query = "SELECT count(*) FROM betting.shards WHERE state <> 'owned' AND state <> 'quarantined'"
            return not await running.database.fetchval(query)

        await until(other_served, "the other served")
        rows = await running.database.fetch("SELECT reason FROM betting.shards WHERE state = 'quarantined'")
        assert len(rows) == 1
        assert len([life for life in killed if life in rows[0][0]]) == 2
