"""Password hashing (argon2id, RFC 9106) in a few threads of its own, so that the event loop never waits for a hash.

Each purpose has places of its own: however many register, whoever logs in waits only for others who log in.
"""

from __future__ import annotations

import asyncio
import enum
import secrets
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

import argon2
from argon2 import exceptions

from betting.runtime import context
from betting.runtime.bulkhead import Bulkhead

# Half of what a login may take: whoever would wait longer is told at once to come back later.
WAIT_MAX_S: Final = 2.0

T = TypeVar("T")


class Purpose(enum.Enum):
    """What a hash is computed for; the value is its name in messages."""

    REGISTER = "registering"
    LOGIN = "logging in"
    OPERATOR = "operators' logging in"


@dataclass(frozen=True, slots=True)
class HashingPolicy:
    """argon2id's cost, and how many hashes run at once and wait.

    workers: threads for logging in; half as many (at least one) for registering, and one for operators. Memory use is
    memory_kib times all of these. waiting_max: for each purpose.
    """

    time_cost: int
    memory_kib: int
    parallelism: int
    workers: int
    waiting_max: int

    def places(self, purpose: Purpose) -> int:
        """How many hashes run at once for it."""
        return {Purpose.LOGIN: self.workers, Purpose.REGISTER: max(1, self.workers // 2), Purpose.OPERATOR: 1}[purpose]


class Passwords:
    """Hashes and checks passwords. A caller that is cancelled while waiting for a thread costs no hash.

    Every method but `outdated` and `close` raises RESOURCE_EXHAUSTED OVERLOADED when too many wait for the same
    purpose, and DEADLINE_EXCEEDED when the caller's time is over before its turn.
    """

    def __init__(self, policy: HashingPolicy) -> None:
        self._argon2 = argon2.PasswordHasher(
            time_cost=policy.time_cost,
            memory_cost=policy.memory_kib,
            parallelism=policy.parallelism,
            type=argon2.Type.ID,
        )
        self._places = {
            purpose: Bulkhead(
                purpose.value,
                in_flight_max=policy.places(purpose),
                queued_max=policy.waiting_max,
                wait_max_s=WAIT_MAX_S,
            )
            for purpose in Purpose
        }
        # A thread for every place: what has a place never waits for a thread.
        threads = sum(policy.places(purpose) for purpose in Purpose)
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        # What the password of a user who does not exist is checked against: costs the same, matches nothing.
        self._decoy = self._argon2.hash(secrets.token_urlsafe(32))

    async def hash(self, password: str, purpose: Purpose) -> str:
        """The argon2id hash of a password with a new salt, in PHC string format."""
        return await self._run(purpose, lambda: self._argon2.hash(password))

    async def matches(self, password: str, stored_hash: str | None, purpose: Purpose) -> bool:
        """Whether this is the password; None stands for a user who does not exist and takes as long to refuse."""
        against = self._decoy if stored_hash is None else stored_hash
        matched = await self._run(purpose, lambda: self._verified(against, password))
        return matched and stored_hash is not None

    def outdated(self, stored_hash: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._argon2.check_needs_rehash(stored_hash)

    async def close(self) -> None:
        """Waits for the hashes being computed; those still queued are cancelled."""
        await asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)

    def _verified(self, stored_hash: str, password: str) -> bool:
        try:
            return self._argon2.verify(stored_hash, password)
        except exceptions.VerifyMismatchError:
            return False

    async def _run(self, purpose: Purpose, work: Callable[[], T]) -> T:
        """A place is kept until its thread has ended, also when the caller has given up: threads cannot be stopped."""
        places, loop = self._places[purpose], asyncio.get_running_loop()
        await places.enter(context.remaining_s())

        def ended(_: Future[T]) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody needs the place
                loop.call_soon_threadsafe(places.leave)

        running = self._executor.submit(work)
        running.add_done_callback(ended)
        return await asyncio.wrap_future(running)
