"""Password hashing (argon2id, RFC 9106) in a few threads of its own, so that the event loop never waits for a hash."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import argon2
from argon2 import exceptions

from betting.runtime.errors import unavailable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HashingPolicy:
    """argon2id's cost, and how many hashes run and wait at once; memory use is workers × memory_kib."""

    time_cost: int
    memory_kib: int
    parallelism: int
    workers: int
    waiting_max: int


class Passwords:
    """Hashes and checks passwords. A caller that is cancelled while waiting for a thread costs no hash."""

    def __init__(self, policy: HashingPolicy) -> None:
        self._argon2 = argon2.PasswordHasher(
            time_cost=policy.time_cost,
            memory_cost=policy.memory_kib,
            parallelism=policy.parallelism,
            type=argon2.Type.ID,
        )
        self._executor = ThreadPoolExecutor(policy.workers, thread_name_prefix="argon2")
        self._admitted_max = policy.workers + policy.waiting_max
        self._admitted = 0
        # What the password of a user who does not exist is checked against: costs the same, matches nothing.
        self._decoy = self._argon2.hash(secrets.token_urlsafe(32))

    async def hash(self, password: str) -> str:
        """A salted hash in PHC string format. Raises UNAVAILABLE HASHING_OVERLOADED."""
        return await self._run(lambda: self._argon2.hash(password))

    async def matches(self, password: str, stored_hash: str | None) -> bool:
        """Whether this is the password; None stands for a user who does not exist and takes as long to refuse."""
        against = self._decoy if stored_hash is None else stored_hash
        matched = await self._run(lambda: self._verified(against, password))
        return matched and stored_hash is not None

    def outdated(self, stored_hash: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._argon2.check_needs_rehash(stored_hash)

    async def close(self) -> None:
        """Drops what waits and lets running hashes end."""
        await asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)

    def _verified(self, stored_hash: str, password: str) -> bool:
        try:
            return self._argon2.verify(stored_hash, password)
        except exceptions.VerifyMismatchError:
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._admitted >= self._admitted_max:
            message = f"{self._admitted} people sign in right now, {self._admitted_max} is the limit: try again in 5 s"
            raise unavailable("HASHING_OVERLOADED", message)
        self._admitted += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._admitted -= 1
