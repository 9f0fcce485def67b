"""The signing keys in Postgres, which all user-service processes share; rotation is decided under an advisory lock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Final

import asyncpg

from betting.runtime import logs
from betting.runtime.errors import unavailable
from betting.runtime.loops import forever
from betting.runtime.postgres import translated
from betting.users import signing
from betting.users.signing import KeyPolicy, PublishedKey, StoredKey, UnsealedKey

RELOAD_S: Final = 30.0
KEYS_MAX: Final = 1_000

# One fixed number per thing that is locked in the platform's database: "users" and what it is for.
_ROTATION_LOCK: Final = int.from_bytes(b"usr:keys")
_COLUMNS: Final = ", ".join(field.name for field in fields(StoredKey))
_READ = f"SELECT {_COLUMNS} FROM users.signing_keys ORDER BY signs_from_us DESC, key_id DESC LIMIT {KEYS_MAX}"  # noqa: S608
_INSERT = f"INSERT INTO users.signing_keys ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6)"  # noqa: S608
_DELETE_ENDED = "DELETE FROM users.signing_keys WHERE not_after_us <= $1"

_log = logs.get(__name__)


class Keyring:
    """The keys as this process last read them; reads again from time to time and makes a new key when one is due."""

    def __init__(
        self, pool: asyncpg.Pool, internal_secret: bytes, policy: KeyPolicy, now_us: Callable[[], int]
    ) -> None:
        self._pool = pool
        self._sealing = signing.sealing_key(internal_secret)
        self._policy = policy
        self._now_us = now_us
        self._keys: list[StoredKey] = []
        self._open: dict[str, UnsealedKey] = {}

    def signer(self) -> UnsealedKey:
        """The key that signs now. Raises UNAVAILABLE NO_SIGNING_KEY, when the database was away for far too long."""
        key = signing.signer(self._usable(), self._now_us(), self._policy)
        if key is None:
            raise unavailable("NO_SIGNING_KEY", "no key to sign access tokens with: try again in a minute")
        return self._open[key.key_id]

    def published(self) -> list[PublishedKey]:
        """The public keys that tokens may be checked with, newest first."""
        return signing.published(self._keys, self._now_us(), self._policy)

    async def refresh(self) -> None:
        """Reads the keys; makes a new one if it is due. Of several processes exactly one makes it."""
        async with translated():
            self._take(await self._read(self._pool))
            if self._due() is not None:
                await self._rotate()

    async def run(self) -> None:
        """Keeps the keys fresh for the life of the process; without Postgres the known keys serve on."""
        event = "signing keys not read"
        await forever(self.refresh, every_s=RELOAD_S, first_after_s=RELOAD_S, log=_log, event=event)

    async def _rotate(self) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _ROTATION_LOCK)
            # In a statement after the lock: only now is what the lock's last holder committed certain to be seen.
            self._take(await self._read(connection))
            signs_from_us = self._due()
            if signs_from_us is None:
                return
            now_us = self._now_us()
            key = signing.generate(self._sealing, now_us=now_us, signs_from_us=signs_from_us, policy=self._policy)
            await connection.execute(_INSERT, *(getattr(key, field.name) for field in fields(StoredKey)))
            await connection.execute(_DELETE_ENDED, now_us)
        # Only a committed key may sign.
        self._take([key, *self._keys])
        _log.info("signing key created", key_id=key.key_id, signs_from_us=signs_from_us)

    async def _read(self, source: asyncpg.Pool | asyncpg.Connection) -> list[StoredKey]:
        return [StoredKey(*row) for row in await source.fetch(_READ)]

    def _take(self, keys: list[StoredKey]) -> None:
        opened = {key.key_id: self._open.get(key.key_id) or signing.unsealed(key, self._sealing) for key in keys}
        for key_id in [key_id for key_id, key in opened.items() if key is None]:
            _log.warning("signing key not decryptable", key_id=key_id)
        self._keys = keys
        self._open = {key_id: key for key_id, key in opened.items() if key is not None}

    def _usable(self) -> list[StoredKey]:
        return [key for key in self._keys if key.key_id in self._open]

    def _due(self) -> int | None:
        return signing.next_key_signs_from_us(self._usable(), self._now_us(), self._policy)
