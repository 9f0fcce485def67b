"""Shards change hands: acquire, steal, release, freeze, quarantine."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from scribe import ADDRESS, OWNER, Scribe, own

from betting.journal import append, directory, ownership, placements, reader
from betting.journal.append import ShardEntries
from betting.journal.connection import DRIVER_ERRORS
from betting.life import Life
from betting.runtime.clock import now_us

RIVAL = "bet-service-2@fedcba9876543210"
THIRD = "bet-service-3@0000000000000003"
USER = bytes(range(16))


async def row(connection: asyncpg.Connection, shard: int = 0) -> directory.ShardRow:
    return (await directory.shards(connection))[shard]


async def test_only_one_of_two_claimants_gets_a_shard(connecting: Any) -> None:
    """Both saw epoch 0; compare-and-set lets one through."""
    first, second = await connecting(OWNER), await connecting(RIVAL)
    answers = await asyncio.gather(
        ownership.acquire(first, 0, OWNER, ADDRESS, 0), ownership.acquire(second, 0, RIVAL, ADDRESS, 0)
    )
    assert sorted(answer is None for answer in answers) == [False, True]
    winner = OWNER if answers[0] is not None else RIVAL
    assert (await row(first))[:5] == (0, winner, ADDRESS, 1, "owned")


async def test_acquire_waits_for_the_append_in_flight_and_sees_it(connecting: Any) -> None:
    """The head comes from a later statement: what the old owner committed while we waited is in it."""
    old, new, watcher = await connecting(OWNER), await connecting(RIVAL), await connecting("watcher")
    await own(old, [0])
    scribe = Scribe(0, now_us())
    scribe.deposit(USER, 100)
    # An append that is held open after it wrote: the transaction is the test's, the statement is the product's.
    held = old.transaction()
    await held.start()
    await append.append(old, OWNER, [ShardEntries(0, 1, scribe.take())])
    taking = asyncio.create_task(ownership.acquire(new, 0, RIVAL, ADDRESS, 1))
    await waits_for_lock(watcher, new)
    assert await reader.head(watcher, 0) == 0
    await held.commit()
    assert await taking == (2, 2)


async def waits_for_lock(watcher: asyncpg.Connection, waiter: asyncpg.Connection) -> None:
    async with asyncio.timeout(20):
        while not await watcher.fetchval(  # noqa: ASYNC110 - another process decides
            "SELECT pg_blocking_pids($1) <> '{}'", waiter.get_server_pid()
        ):
            await asyncio.sleep(0.005)


async def test_a_steal_ends_the_old_owners_connection_that_holds_the_lock(connecting: Any) -> None:
    """An owner that hangs inside an append loses its session and what it wrote there; the thief has the shard soon."""
    old, new = await connecting(OWNER), await connecting(RIVAL)
    await own(old, [0])
    scribe = Scribe(0, now_us())
    scribe.deposit(USER, 100)
    await old.execute("SET idle_in_transaction_session_timeout = 0")
    await old.execute("BEGIN")
    await append.append(old, OWNER, [ShardEntries(0, 1, scribe.take())])
    async with asyncio.timeout(4):
        assert await ownership.steal(new, 0, RIVAL, ADDRESS, 1) == (2, 0)
    with pytest.raises(DRIVER_ERRORS):
        await old.execute("COMMIT")


async def test_a_steal_ends_the_connection_of_an_owner_with_the_longest_name(connecting: Any) -> None:
    """Postgres keeps 63 bytes of a name: the last ones, so that lives of two instances with long names differ."""
    owner, other_life = (f"{'b' * 63}@{boot_id}" for boot_id in ("00f1e2d3c4b5a697", "10f1e2d3c4b5a697"))
    old, new, bystander = await connecting(owner), await connecting(RIVAL), await connecting(other_life)
    assert await ownership.acquire(old, 0, owner, ADDRESS, 0) == (1, 0)
    await old.execute("SET idle_in_transaction_session_timeout = 0")
    await old.execute("BEGIN")
    await old.execute("SELECT 1 FROM betting.shards WHERE shard_id = 0 FOR SHARE")
    async with asyncio.timeout(4):
        assert await ownership.steal(new, 0, RIVAL, ADDRESS, 1) == (2, 0)
    with pytest.raises(DRIVER_ERRORS):
        await old.execute("COMMIT")
    assert await bystander.fetchval("SELECT 1") == 1


async def test_a_steal_never_ends_connections_of_others(connecting: Any) -> None:
    """A lock held by somebody who is not the old owner is waited for, within a bound, and the session lives."""
    old, new, other = await connecting(OWNER), await connecting(RIVAL), await connecting("somebody")
    await own(old, [0])
    async with other.transaction():
        await other.execute("SELECT 1 FROM betting.shards WHERE shard_id = 0 FOR SHARE")
        async with asyncio.timeout(8):
            with pytest.raises(ownership.StealBlocked, match="shard 0"):
                await ownership.steal(new, 0, RIVAL, ADDRESS, 1)
        assert await other.fetchval("SELECT 1") == 1
    assert (await row(new)).owner == OWNER
    assert await old.fetchval("SELECT current_setting('lock_timeout')") == "0"
    assert await new.fetchval("SELECT current_setting('lock_timeout')") == "0"


async def test_taking_again_counts_an_own_earlier_try(connecting: Any) -> None:
    """The answer to the first try may be lost; the second still gets the shard, at a higher epoch."""
    connection, rival = await connecting(OWNER), await connecting(RIVAL)
    await own(connection, [0])
    assert await ownership.take_again(connection, 0, OWNER, ADDRESS, 1) == (2, 0)
    assert await ownership.take_again(connection, 0, OWNER, ADDRESS, 1) == (3, 0)
    await ownership.steal(rival, 0, RIVAL, ADDRESS, 3)
    assert await ownership.take_again(connection, 0, OWNER, ADDRESS, 1) is None


async def test_release_frees_the_shard_for_whom_it_names(connecting: Any) -> None:
    """The released shard is free and wanted by the receiver; a stale release changes nothing."""
    connection = await connecting(OWNER)
    await own(connection, [0])
    assert not await ownership.release(connection, 0, OWNER, 7, RIVAL)
    assert not await ownership.release(connection, 0, RIVAL, 1)
    assert await ownership.release(connection, 0, OWNER, 1, RIVAL)
    assert await row(connection) == (0, None, None, 1, "free", RIVAL, "")
    assert await ownership.acquire(connection, 0, RIVAL, ADDRESS, 1) == (2, 0)


async def test_a_group_is_released_as_far_as_it_is_ours(connecting: Any) -> None:
    """In one statement; what others have, or we at another epoch, stays as it is."""
    connection, rival = await connecting(OWNER), await connecting(RIVAL)
    await own(connection, [0, 1, 2])
    assert await ownership.acquire(rival, 3, RIVAL, ADDRESS, 0)
    given = [ownership.Release(shard, epoch, RIVAL) for shard, epoch in ((3, 1), (1, 7), (2, 1), (0, 1))]
    assert await ownership.release_group(connection, OWNER, given) == {0, 2}
    assert [each.owner for each in await directory.shards(connection)] == [None, OWNER, None, RIVAL]
    assert [each.desired_owner for each in await directory.shards(connection)] == [RIVAL, None, RIVAL, None]
    assert await ownership.release_group(connection, OWNER, []) == set()


async def test_a_group_is_acquired_with_the_heads_of_its_journals(connecting: Any) -> None:
    """Free shards and those of the dead alike; what changed since it was seen is left out."""
    old, new = await connecting(OWNER), await connecting(RIVAL)
    await own(old, [0, 1, 2])
    scribe = Scribe(1, now_us())
    scribe.deposit(USER, 100)
    await append.append(old, OWNER, [ShardEntries(1, 1, scribe.take())])
    await ownership.release(old, 0, OWNER, 1)
    await ownership.take_again(old, 2, OWNER, ADDRESS, 1)
    taken = await ownership.acquire_group(new, {3: 0, 2: 1, 1: 1, 0: 1}, RIVAL, ADDRESS)
    assert taken == {0: (2, 0), 1: (2, 2), 3: (1, 0)}
    assert [each.owner for each in await directory.shards(new)] == [RIVAL, RIVAL, OWNER, RIVAL]
    assert (await append.append(old, OWNER, [ShardEntries(1, 1, ())])).matched == frozenset()


async def test_a_group_never_waits_for_an_append_in_flight(connecting: Any) -> None:
    """Its shards are left to be looked at alone; the others change hands meanwhile."""
    old, new = await connecting(OWNER), await connecting(RIVAL)
    await own(old, [0, 1, 2])
    scribe = Scribe(1, now_us())
    scribe.deposit(USER, 100)
    held = old.transaction()
    await held.start()
    await append.append(old, OWNER, [ShardEntries(1, 1, scribe.take())])
    given = [ownership.Release(shard, 1, RIVAL) for shard in (0, 1)]
    assert await ownership.release_group(new, OWNER, given) == {0}
    assert set(await ownership.acquire_group(new, {0: 1, 1: 1, 2: 1}, RIVAL, ADDRESS)) == {0, 2}
    await held.commit()
    assert await ownership.acquire_group(new, {1: 1}, RIVAL, ADDRESS) == {1: (2, 2)}


async def test_a_shard_whose_replay_did_not_finish_is_taken_alone(connecting: Any) -> None:
    """There it is counted who ended while replaying it; and a release says that this owner did not."""
    connection, rival = await connecting(OWNER), await connecting(RIVAL)
    await own(connection, [0, 1])
    for shard in (0, 1):
        await ownership.replay_started(connection, shard, OWNER, 1)
    await ownership.release_group(connection, OWNER, [ownership.Release(0, 1, None)])
    assert set(await ownership.acquire_group(rival, {0: 1, 1: 1}, RIVAL, ADDRESS)) == {0}


async def test_of_many_claimants_of_a_group_each_shard_has_one(connecting: Any) -> None:
    """Whatever they take at the same time, in whatever order they name it."""
    names = [f"bet-service-{number}@000000000000000{number}" for number in range(1, 6)]
    connections = [await connecting(name) for name in names]
    seen = dict.fromkeys(range(4), 0)
    taken = await asyncio.gather(
        *(ownership.acquire_group(c, seen, n, ADDRESS) for c, n in zip(connections, names, strict=True))
    )
    owned = [shard for each in taken for shard in each]
    assert sorted(owned) == sorted(set(owned))
    rows = await directory.shards(connections[0])
    assert all(rows[shard].owner == name for name, each in zip(names, taken, strict=True) for shard in each)


async def test_a_frozen_shard_waits_for_a_person(connecting: Any) -> None:
    """Nobody acquires or steals it until it is unfrozen, and its reason can be read."""
    connection = await connecting(OWNER)
    await own(connection, [0])
    assert not await ownership.freeze(connection, 0, RIVAL, 1, "not mine")
    assert await ownership.freeze(connection, 0, OWNER, 1, "the ledger does not balance")
    assert (await row(connection))[4:] == ("frozen", None, "the ledger does not balance")
    assert await ownership.acquire(connection, 0, RIVAL, ADDRESS, 1) is None
    assert await ownership.steal(connection, 0, RIVAL, ADDRESS, 1) is None
    assert await ownership.take_again(connection, 0, OWNER, ADDRESS, 1) is None
    assert await ownership.unfreeze(connection, 0)
    assert not await ownership.unfreeze(connection, 0)
    assert await ownership.acquire(connection, 0, RIVAL, ADDRESS, 2) == (3, 0)


async def test_a_replay_that_ends_two_owners_is_quarantined(connecting: Any) -> None:
    """The third never gets the shard; a person can let it go."""
    connection = await connecting(OWNER)
    await own(connection, [0])
    await ownership.replay_started(connection, 0, OWNER, 1)
    assert await ownership.steal(connection, 0, RIVAL, ADDRESS, 1) == (2, 0)
    await ownership.replay_started(connection, 0, RIVAL, 2)
    assert await ownership.steal(connection, 0, THIRD, ADDRESS, 2) is None
    quarantined = await row(connection)
    assert (quarantined.state, quarantined.owner, quarantined.epoch) == ("quarantined", None, 3)
    assert OWNER in quarantined.reason
    assert RIVAL in quarantined.reason
    assert await ownership.acquire(connection, 0, THIRD, ADDRESS, 3) is None
    assert await ownership.unfreeze(connection, 0)
    assert await ownership.acquire(connection, 0, THIRD, ADDRESS, 4) == (5, 0)


async def test_a_replay_that_ends_well_is_blamed_for_nothing(connecting: Any) -> None:
    """One death, then a replay that ended well, then another death: no quarantine."""
    connection = await connecting(OWNER)
    await own(connection, [0])
    await ownership.replay_started(connection, 0, OWNER, 1)
    assert await ownership.steal(connection, 0, RIVAL, ADDRESS, 1) is not None
    await ownership.replay_started(connection, 0, RIVAL, 2)
    await ownership.replay_finished(connection, 0, RIVAL, 2)
    assert await ownership.steal(connection, 0, THIRD, ADDRESS, 2) is not None
    await ownership.replay_started(connection, 0, THIRD, 3)
    assert await ownership.steal(connection, 0, OWNER, ADDRESS, 3) == (4, 0)


async def test_who_gives_a_shard_up_unloaded_clears_nobody_elses_death(connecting: Any) -> None:
    """One ends, the next gives the shard up before it has replayed it, the third ends: there is no fourth."""
    connection = await connecting(OWNER)
    await own(connection, [0])
    await ownership.replay_started(connection, 0, OWNER, 1)
    assert await ownership.steal(connection, 0, RIVAL, ADDRESS, 1) is not None
    await ownership.replay_started(connection, 0, RIVAL, 2)
    assert await ownership.release_group(connection, RIVAL, [ownership.Release(0, 2, THIRD)]) == {0}
    assert await ownership.acquire(connection, 0, THIRD, ADDRESS, 2) is not None
    await ownership.replay_started(connection, 0, THIRD, 3)
    assert await ownership.steal(connection, 0, RIVAL, ADDRESS, 3) is None
    quarantined = await row(connection)
    assert quarantined.state == "quarantined"
    assert RIVAL not in quarantined.reason


async def test_the_same_owner_trying_twice_is_one_death(connecting: Any) -> None:
    """An owner that takes its shard again after a lost answer, and replays again, counts once."""
    connection = await connecting(OWNER)
    await own(connection, [0])
    await ownership.replay_started(connection, 0, OWNER, 1)
    assert await ownership.take_again(connection, 0, OWNER, ADDRESS, 1) is not None
    await ownership.replay_started(connection, 0, OWNER, 2)
    assert await ownership.steal(connection, 0, RIVAL, ADDRESS, 2) is not None


async def test_who_has_lost_a_shard_is_not_recorded_as_replaying_it(connecting: Any) -> None:
    """Stopped with a group that it has not loaded, it goes on after the next owner has loaded all of it."""
    stopped, rival, third = await connecting(OWNER), await connecting(RIVAL), await connecting(THIRD)
    seen = dict.fromkeys(range(4), 0)
    group = await ownership.acquire_group(stopped, seen, OWNER, ADDRESS)
    assert await ownership.replay_started(stopped, 0, OWNER, 1)
    assert await ownership.steal(rival, 0, RIVAL, ADDRESS, 1) == (2, 0)
    assert set(await ownership.acquire_group(rival, {1: 1, 2: 1, 3: 1}, RIVAL, ADDRESS)) == {1, 2, 3}
    for shard in group:
        assert await ownership.replay_started(rival, shard, RIVAL, 2)
        await ownership.replay_finished(rival, shard, RIVAL, 2)

    for shard in group:
        assert not await ownership.replay_started(stopped, shard, OWNER, 1)
    assert await stopped.fetch("SELECT * FROM betting.replays") == []
    # Two more owners: one death is no quarantine.
    assert set(await ownership.acquire_group(third, dict.fromkeys(group, 2), THIRD, ADDRESS)) == set(group)
    assert await ownership.replay_started(third, 2, THIRD, 3)
    assert await ownership.steal(rival, 2, RIVAL, ADDRESS, 3) == (4, 0)


async def test_only_a_shard_that_is_owned_at_this_epoch_is_recorded_as_replayed(connecting: Any) -> None:
    """Not at an older epoch, not once it is frozen or released. What was loaded before it is recorded as done."""
    connection = await connecting(OWNER)
    await own(connection, [0, 1])
    assert await ownership.replay_started(connection, 0, OWNER, 1)
    assert await ownership.replay_started(connection, 0, OWNER, 1), "once more, after a lost answer"
    assert not await ownership.replay_started(connection, 1, RIVAL, 1)
    assert await ownership.take_again(connection, 1, OWNER, ADDRESS, 1) == (2, 0)
    assert not await ownership.replay_started(connection, 1, OWNER, 1)
    assert await ownership.freeze(connection, 1, OWNER, 2, "frozen by a person")
    assert not await ownership.replay_started(connection, 1, OWNER, 2, before=(0, 1))
    assert await connection.fetch("SELECT * FROM betting.replays") == []
    assert await ownership.release(connection, 0, OWNER, 1)
    assert not await ownership.replay_started(connection, 0, OWNER, 1)
    assert await connection.fetch("SELECT * FROM betting.replays") == []


async def test_a_replay_is_recorded_before_a_change_of_owner_or_not_at_all(connecting: Any) -> None:
    """Whoever takes the shard in that very moment is waited for, and then it is not ours."""
    old, new, watcher = await connecting(OWNER), await connecting(RIVAL), await connecting("watcher")
    await own(old, [0])
    held = new.transaction()
    await held.start()
    assert await ownership.steal(new, 0, RIVAL, ADDRESS, 1) == (2, 0)
    starting = asyncio.create_task(ownership.replay_started(old, 0, OWNER, 1))
    await waits_for_lock(watcher, old)
    await held.commit()
    assert not await starting
    assert await watcher.fetch("SELECT * FROM betting.replays") == []


async def test_a_change_of_owner_is_announced(connecting: Any) -> None:
    """Listeners hear the shard's number; an append tells nobody anything."""
    connection, listener = await connecting(OWNER), await connecting("listener")
    heard: asyncio.Queue[str] = asyncio.Queue()
    await listener.add_listener(directory.CHANNEL, lambda *args: heard.put_nowait(args[3]))
    await own(connection, [2])
    async with asyncio.timeout(20):
        assert await heard.get() == "2"
    scribe = Scribe(2, now_us())
    scribe.deposit(USER, 100)
    await scribe.commit(connection)
    await ownership.release(connection, 2, OWNER, 1)
    async with asyncio.timeout(20):
        assert await heard.get() == "2"
    assert heard.empty()


async def _living(connection: asyncpg.Connection) -> list[directory.InstanceRow]:
    return [each for each in await directory.instances(connection) if not each.exited]


async def test_instances_register_beat_drain_and_end(connection: asyncpg.Connection) -> None:
    """What the directory says of an instance through its life; a new life of the same name ends the old one."""
    await ownership.register(connection, Life.parse("bet-service", OWNER), ADDRESS, [1])
    assert await ownership.beat(connection, OWNER)
    assert not await ownership.beat(connection, "bet-service-9@unknown")
    (me,) = await _living(connection)
    assert (me.life, me.address, me.formats, me.draining, me.exited) == (OWNER, ADDRESS, (1,), False, False)
    assert me.beat_age_s < 5
    await ownership.announce_draining(connection, OWNER)
    assert (await ownership.observe(connection)).instances[0].draining
    await ownership.register(connection, Life("bet-service", "bet-service-1", "new"), ADDRESS, [1])
    assert [i.life for i in await _living(connection)] == ["bet-service-1@new"]
    assert not await ownership.beat(connection, OWNER)
    assert await ownership.mark_exited(connection, "bet-service-1@new")
    assert await _living(connection) == []


async def test_the_directory_tells_how_old_beats_are(connection: asyncpg.Connection) -> None:
    """An instance's beat and the healer's grow older by the database's clock, until they beat again."""
    await ownership.register(connection, Life.parse("bet-service", OWNER), ADDRESS, [1])
    assert (await ownership.observe(connection)).healer_beat_age_s is None
    term = await placements.begin_term(connection)
    await connection.execute("UPDATE betting.instances SET beat_at = clock_timestamp() - interval '11 s'")
    await connection.execute("UPDATE betting.healer_beat SET beat_at = clock_timestamp() - interval '12 s'")
    seen = await ownership.observe(connection)
    assert seen.instances[0].beat_age_s >= 11
    assert seen.healer_beat_age_s is not None
    assert seen.healer_beat_age_s >= 12
    await ownership.beat(connection, OWNER)
    await placements.beat(connection, term)
    seen = await ownership.observe(connection)
    assert seen.instances[0].beat_age_s < 11
    assert seen.healer_beat_age_s is not None
    assert seen.healer_beat_age_s < 12


async def test_placements_of_an_older_term_are_refused(connection: asyncpg.Connection) -> None:
    """A healer that was paused and replaced changes nothing when it wakes up."""
    old = await placements.begin_term(connection)
    assert await placements.place(connection, old, {0: OWNER, 1: OWNER}) == 2
    assert await placements.place(connection, old, {0: OWNER, 1: RIVAL}) == 1
    new = await placements.begin_term(connection)
    assert new > old
    with pytest.raises(placements.StaleTerm):
        await placements.place(connection, old, {0: RIVAL})
    with pytest.raises(placements.StaleTerm):
        await placements.beat(connection, old)
    assert [shard.desired_owner for shard in await directory.shards(connection)] == [OWNER, RIVAL, None, None]
    assert await placements.place(connection, new, {0: None}) == 1
