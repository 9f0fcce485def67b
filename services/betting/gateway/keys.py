"""The public keys tokens are checked with: user-service's, cached, read again when a token names a new one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from betting.internal.v1 import keys_pb2
from betting.runtime import clock, logs
from betting.runtime.errors import ServiceError, unauthenticated, unavailable

# Made-up key ids must not become a stream of calls to user-service.
MIN_REFRESH_INTERVAL_S: Final = 2.0
# Until user-service has answered once nobody can be let in: callers wait, and it is asked sooner, then more slowly.
FIRST_REFRESH_INTERVAL_S: Final = 0.25
REFRESH_INTERVAL_S: Final = 60.0
MAX_KEYS: Final = 64
_KEY_BYTES: Final = 32

_log = logs.get(__name__)

Fetch = Callable[[], Awaitable[Iterable[keys_pb2.SigningKey]]]


class SigningKeys:
    """Keys by id. fetch: asks user-service for all of them, raises ServiceError."""

    def __init__(self, fetch: Fetch, *, min_refresh_interval_s: float = MIN_REFRESH_INTERVAL_S) -> None:
        self._fetch = fetch
        self._min_refresh_interval_s = min_refresh_interval_s
        self._keys: dict[str, tuple[Ed25519PublicKey, int]] = {}
        self._read_at_s = float("-inf")
        self._reading = asyncio.Lock()
        self._answered = False
        self._interval_s = min(FIRST_REFRESH_INTERVAL_S, min_refresh_interval_s)

    def __len__(self) -> int:
        return len(self._keys)

    async def get(self, key_id: str) -> Ed25519PublicKey:
        """The key with this id.

        Raises UNAUTHENTICATED KEY_UNKNOWN, or UNAVAILABLE KEYS_UNAVAILABLE while user-service has never answered.
        """
        key = self._current(key_id)
        if key is None:
            await self._refresh_if_due()
            key = self._current(key_id)
        if key is not None:
            return key
        if not self._answered:
            raise unavailable("KEYS_UNAVAILABLE", "tokens cannot be checked at the moment: try again in a few seconds")
        raise unauthenticated("KEY_UNKNOWN", "the access token was signed with a key that is not in use: log in again")

    async def run(self) -> None:
        """Reads the keys from time to time, so that a rotation delays no request; runs for the life of the process."""
        while True:
            await self._refresh_if_due()
            await asyncio.sleep(REFRESH_INTERVAL_S if self._answered else self._interval_s)

    def _current(self, key_id: str) -> Ed25519PublicKey | None:
        key, not_after_us = self._keys.get(key_id, (None, 0))
        return key if not_after_us > clock.now_us() else None

    async def _refresh_if_due(self) -> None:
        before_s = self._read_at_s
        async with self._reading:
            if self._read_at_s != before_s:
                return  # another caller has asked meanwhile
            too_soon_s = before_s + self._interval_s - time.monotonic()
            if too_soon_s > 0 and self._answered:
                return
            await asyncio.sleep(max(0.0, too_soon_s))
            self._read_at_s = time.monotonic()
            try:
                keys = list(await self._fetch())
            except ServiceError as error:
                _log.warning("signing keys not read, keeping the last ones", reason=error.reason)
                self._interval_s = min(2 * self._interval_s, self._min_refresh_interval_s)
                return
            self._interval_s = self._min_refresh_interval_s
            self._keys = dict(_usable(keys))
            self._answered = True


def _usable(keys: list[keys_pb2.SigningKey]) -> Iterable[tuple[str, tuple[Ed25519PublicKey, int]]]:
    for key in keys[:MAX_KEYS]:
        if len(key.public_key) == _KEY_BYTES:
            yield key.key_id, (Ed25519PublicKey.from_public_bytes(key.public_key), key.not_after_us)
        else:
            _log.error("a signing key is not an Ed25519 key", key_id=key.key_id)
