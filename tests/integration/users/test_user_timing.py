"""An attacker must not learn from the time or the work of a login whether a user exists."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import asyncpg
import in_process
import pytest

from betting.runtime.errors import ServiceError
from betting.users import main as users_main
from betting.users.passwords import HashingPolicy, Passwords, Purpose

PASSWORD = "correct horse battery"
POLICY = HashingPolicy(time_cost=1, memory_kib=64, parallelism=1, workers=1, waiting_max=4)


class CountingPasswords(Passwords):
    """Notes the parameters of every hash that is computed to check a password."""

    def __init__(self, policy: HashingPolicy) -> None:
        super().__init__(policy)
        self.checked: list[str] = []

    def _verified(self, stored_hash: str, password: str) -> bool:
        self.checked.append(stored_hash.rsplit("$", 2)[0])
        return super()._verified(stored_hash, password)


async def test_an_unknown_user_costs_the_same_hash_as_a_wrong_password() -> None:
    """One argon2id computation with the same parameters, and never a match."""
    passwords = CountingPasswords(POLICY)
    stored = await passwords.hash(PASSWORD, Purpose.REGISTER)
    assert await passwords.matches(PASSWORD, stored, Purpose.LOGIN)
    assert not await passwords.matches("wrong password", stored, Purpose.LOGIN)
    assert not await passwords.matches(PASSWORD, None, Purpose.LOGIN)
    assert len(passwords.checked) == 3
    assert len(set(passwords.checked)) == 1
    await passwords.close()


async def test_both_logins_send_the_same_statements(
    database: Any, user_settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong password and unknown user: the same SQL, in the same order, as often, and as many hashes."""
    statements: list[str] = []

    async def listen(connection: asyncpg.Connection) -> None:
        connection.add_query_logger(lambda record: statements.append(record.query))

    monkeypatch.setattr(users_main, "Passwords", CountingPasswords)
    async with (
        asyncpg.create_pool(database.dsn, min_size=1, max_size=1, init=listen) as pool,
        in_process.service_context(user_settings()) as context,
    ):
        parts = users_main.build(context, pool, await context.redis())
        assert isinstance(parts.passwords, CountingPasswords)
        await parts.keyring.refresh()
        await parts.accounts.register("ann@example.com", PASSWORD, "Ann", "")
        work = []
        # The first round only warms up: asyncpg looks up types when it first meets them.
        for email in ("ann@example.com", "ann@example.com", "nobody@example.com"):
            statements.clear()
            parts.passwords.checked.clear()
            with pytest.raises(ServiceError, match="CREDENTIALS_WRONG"):
                await parts.accounts.login(email, "wrong password", "192.0.2.1")
            work.append((list(statements), list(parts.passwords.checked)))
        await parts.passwords.close()
    assert work[1] == work[2]
    assert len(work[1][1]) == 1


class HeldPasswords(Passwords):
    """Hashes only when it is let."""

    def __init__(self, policy: HashingPolicy) -> None:
        super().__init__(policy)
        self.let, self.begun = threading.Event(), 0
        self._hasher = self._argon2.hash

    async def hold(self, purpose: Purpose) -> str:
        """A hash that takes as long as the test wants."""

        def work() -> str:
            self.begun += 1
            self.let.wait(60)
            return self._hasher(PASSWORD)

        return await self._run(purpose, work)


async def test_registering_never_starves_logging_in_nor_the_other_way_round() -> None:
    """With every place and the queue of one purpose taken, the others hash at once; the next of it is refused."""
    for busy in Purpose:
        passwords = HeldPasswords(POLICY)
        held = [asyncio.ensure_future(passwords.hold(busy)) for _ in range(POLICY.places(busy) + POLICY.waiting_max)]
        try:
            await asyncio.sleep(0)
            with pytest.raises(ServiceError, match="OVERLOADED"):
                await passwords.hash(PASSWORD, busy)
            for other in set(Purpose) - {busy}:
                assert await passwords.hash(PASSWORD, other)
        finally:
            passwords.let.set()
            await asyncio.gather(*held)
            await passwords.close()


async def test_callers_that_give_up_free_no_thread_before_it_has_ended() -> None:
    """However many come and go, no more hashes run than there are places, and those who waited cost none."""
    passwords = HeldPasswords(POLICY)
    for _ in range(20):
        caller = asyncio.ensure_future(passwords.hold(Purpose.REGISTER))
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
    passwords.let.set()
    assert await passwords.hash(PASSWORD, Purpose.REGISTER)
    assert passwords.begun <= 1
    await passwords.close()


async def test_more_logins_than_can_be_hashed_are_refused_and_not_counted(
    database: Any, user_settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full queue says try again, costs no attempt, and the event loop goes on meanwhile."""
    monkeypatch.setattr(users_main, "Passwords", HeldPasswords)
    settings = user_settings(hash_workers=1, hash_waiting_max=1, login_failures_per_place=1)
    async with in_process.service_context(settings) as context:
        pool = await context.postgres()
        parts = users_main.build(context, pool, await context.redis())
        await parts.keyring.refresh()
        await parts.accounts.register("ann@example.com", PASSWORD, "Ann", "")
        assert isinstance(parts.passwords, HeldPasswords)
        held = [asyncio.ensure_future(parts.passwords.hold(Purpose.LOGIN)) for _ in range(2)]
        await asyncio.sleep(0)
        for _ in range(3):
            with pytest.raises(ServiceError, match="OVERLOADED"):
                await parts.accounts.login("ann@example.com", PASSWORD, "192.0.2.1")
        assert await pool.fetchval("SELECT max(failures) FROM users.login_failures") == 0
        parts.passwords.let.set()
        await asyncio.gather(*held)
        assert (await parts.accounts.login("ann@example.com", PASSWORD, "192.0.2.1")).user.email == "ann@example.com"
        await parts.passwords.close()
