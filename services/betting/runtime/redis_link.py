"""One connection to one life of a Redis node. Commands on it reach that life or nobody.

This fences every change to a node: the identity of the node is read on the connection that the command is then sent on.
"""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from betting.dsn import is_cut_off
from betting.runtime.redis import CONNECT_TIMEOUT_S, SOCKET_TIMEOUT_S, NodeConnection

# The node is told its boot id when it starts; Valkey keeps it in the one setting that has no meaning of its own.
BOOT_ID_SETTING = "availability-zone"
_BOOT_ID_FIELD = "availability_zone"

# min-replicas-max-lag of every node: a replica that has acknowledged within it counts for min-replicas-to-write.
MAX_LAG_S = 2
_MIN_REPLICAS = "min-replicas-to-write"
_MAX_LAG = "min-replicas-max-lag"

ERRORS = (RedisError, OSError, TimeoutError)


class OtherLife(Exception):
    """The node has restarted since: it runs in another life than the named one. Nothing was done."""


class RedisLink:
    """Connects when first used and after every failure.

    Every method raises one of ERRORS when the node is not reachable.
    """

    def __init__(self, url: str, *, timeout_s: float = SOCKET_TIMEOUT_S) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._connection: NodeConnection | None = None

    async def info(self) -> dict[str, str]:
        """The fields of INFO, by name."""
        return _parsed(await self._ask("INFO"))

    async def min_replicas(self) -> int:
        """How many replicas it waits for as primary, each with a lag of MAX_LAG_S at most; 0: for none, or with another
        lag, or it does not say.
        """
        try:
            told = await self._ask("CONFIG", "GET", _MIN_REPLICAS, _MAX_LAG)
        except ResponseError:
            return 0
        pairs = dict(told) if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=True))
        count, lag_s = (int(pairs.get(name.encode(), 0)) for name in (_MIN_REPLICAS, _MAX_LAG))
        return count if 1 <= lag_s <= MAX_LAG_S else 0

    async def promote(self, boot_id: str) -> None:
        """Makes this life a primary. Raises OtherLife."""
        await self._require(boot_id)
        await self._command("REPLICAOF", "NO", "ONE")

    async def follow(self, boot_id: str, host: str, port: int) -> None:
        """Makes this life a replica; its clients are disconnected, so that they look for the primary again.

        Raises OtherLife.
        """
        was = await self._require(boot_id)
        await self._command("REPLICAOF", host, str(port))
        if was.get("role") == "master":
            await self._command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def close(self) -> None:
        """Closes the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def _require(self, boot_id: str) -> dict[str, str]:
        info = await self.info()
        if boot_id_of(info) != boot_id:
            raise OtherLife(f"the node is in the life {boot_id_of(info)}, not {boot_id}")
        return info

    async def _ask(self, *words: str) -> Any:
        if self._connection is None:
            self._connection = NodeConnection(
                **_options(self._url),
                socket_timeout=self._timeout_s,
                socket_connect_timeout=min(self._timeout_s, CONNECT_TIMEOUT_S),
                retry=Retry(NoBackoff(), 0),
            )
        if not self._connection.is_connected:
            try:
                await self._connection.connect()  # type: ignore[no-untyped-call]
            except BaseException:
                await self.close()
                raise
        return await self._command(*words)

    async def _command(self, *words: str) -> Any:
        """Sends a command over the existing connection only."""
        connection = self._connection
        if connection is None or not connection.is_connected:
            raise ConnectionError("the connection has ended")
        try:
            await connection.send_command(*words)
            return await connection.read_response()
        except ResponseError:
            raise  # an answer like any other
        except BaseException:
            await self.close()  # the next question goes over a new one
            raise


def _options(url: str) -> dict[str, Any]:
    """Raises ConnectionError for a URL that cannot be read, without its words: they may be a part of the password."""
    with contextlib.suppress(ValueError):
        if not is_cut_off(url):
            return dict(parse_url(url))
    raise ConnectionError("the URL of the node cannot be read: percent-encode / # ? @ : and % in the password")


def boot_id_of(info: dict[str, str]) -> str:
    """The boot id of the life that answered; "" if the node was not given one."""
    return info.get(_BOOT_ID_FIELD, "")


def node_url(url: str, address: str) -> str:
    """The URL of one node, with the credentials of `url`, which may name several nodes."""
    credentials, at, _hosts = urlsplit(url).netloc.rpartition("@")
    return f"redis://{credentials}{at}{address}/0"


def _parsed(text: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines() if not line.startswith("#"))
    return {name: value for name, colon, value in pairs if colon}
