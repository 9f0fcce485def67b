"""Redis: a client that notices a dead or demoted primary within about a second, and the table from its errors to ours.

Nothing in Redis is the only copy of anything: callers that can do without it catch UNAVAILABLE and go on.
"""

from __future__ import annotations

import asyncio
import builtins
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)
from redis.maint_notifications import MaintNotificationsConfig

from betting.dsn import is_cut_off
from betting.runtime import errors
from betting.runtime.errors import ConfigurationError, ServiceError

SOCKET_TIMEOUT_S = 1.0
CONNECT_TIMEOUT_S = 1.0
# How long a connection waits to learn which nodes there are now, where some are known. A name server answers within
# milliseconds; of one on a lost node nothing comes for seconds, and repeated questions of the same socket go there too
# (kubernetes/kubeadm#2862), while the nodes that are known may be as good as ever.
LOOK_UP_S = 0.2
# redis-py's own health check (a PING with retries inside each connect) multiplies the attempts at a frozen server from
# three to nine; the timeout and retry of the command itself find a dead connection as fast.
HEALTH_CHECK_EVERY_S = 0
CONNECTIONS_MAX = 64
RETRIES = 2
BACKOFF_BASE_S = 0.02
BACKOFF_CAP_S = 0.2
_NOT_WRITABLE = ("MASTERDOWN", "NOREPLICAS", "OOM", "LOADING")


class Nodes:
    """Where Redis may be: the primary and its replicas, which of them is which changes. Shared by a client's pool.

    name: host and port that stand for all of them: each address of the host is a node. None: only `addresses` are.
    """

    def __init__(self, addresses: list[tuple[str, int]], name: tuple[str, int] | None = None) -> None:
        self._addresses = addresses
        self._name = name
        self._looking_up: asyncio.Task[None] | None = None

    async def look_up(self) -> None:
        """Learns which nodes there are now; what is known stays while the name cannot be resolved.

        A look-up that takes longer goes on, and no other begins meanwhile: each would occupy a thread.
        """
        if self._name is None:
            return
        if self._looking_up is None or self._looking_up.done():
            self._looking_up = asyncio.create_task(self._look_up(*self._name))
        await asyncio.wait((self._looking_up,), timeout=LOOK_UP_S if self._addresses else CONNECT_TIMEOUT_S)

    async def _look_up(self, host: str, port: int) -> None:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        now = list(dict.fromkeys((str(address[0]), port) for *_family, address in found))
        known = [each for each in self._addresses if each in now]
        self._addresses = [*known, *(each for each in now if each not in known)]

    def in_order(self) -> list[tuple[str, int]]:
        """Who was primary when it was last asked comes first."""
        return list(self._addresses)

    def found(self, address: tuple[str, int]) -> None:
        """This one is primary now."""
        self._addresses = [address, *(each for each in self._addresses if each != address)]

    def passed_over(self, address: tuple[str, int]) -> None:
        """This one is not, or does not answer: whoever asks next begins with another, however soon it gives up."""
        self._addresses = [*(each for each in self._addresses if each != address), address]


class NotEnoughReplicas(ResponseError):
    """The node takes itself for the primary, and takes no writes: its replicas may follow another one by now."""


class NodeConnection(Connection):
    """A connection to one node that can be cancelled at any moment.

    redis-py waits for its writes in asyncio.wait_for, which before Python 3.12 takes a cancellation for done when the
    write ends in the same moment (python/cpython#86296): a task told to stop goes on, and who waits for its end hangs.
    """

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Raises NotEnoughReplicas and what redis-py raises."""
        try:
            return await super().read_response(*args, **options)
        except ResponseError as error:
            if str(error).startswith("NOREPLICAS"):
                raise NotEnoughReplicas(*error.args) from None
            raise

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        """Raises ConnectionError or TimeoutError."""
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()  # type: ignore[no-untyped-call]
        limit_s, self.socket_timeout = self.socket_timeout, None  # without one, redis-py does not wait in wait_for
        try:
            async with asyncio.timeout(limit_s):
                await super().send_packed_command(command, check_health=False)
        except builtins.TimeoutError:
            raise TimeoutError("Timeout writing to socket") from None
        finally:
            self.socket_timeout = limit_s


class PrimaryConnection(NodeConnection):
    """A connection to whichever node says that it is primary: each is asked in turn, every time it connects."""

    def __init__(self, *, nodes: Nodes, **options: Any) -> None:
        super().__init__(**options)
        self._nodes = nodes

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Raises NotEnoughReplicas, after which the other nodes are asked first."""
        try:
            return await super().read_response(*args, **options)
        except NotEnoughReplicas:
            self._nodes.passed_over((self.host, self.port))
            raise

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """Raises ConnectionError or TimeoutError when nobody is primary now."""
        if self.is_connected:
            return
        problem: RedisError = ConnectionError("no Redis node is known: the name of the nodes cannot be resolved")
        await self._nodes.look_up()
        for address in self._nodes.in_order():
            self.host, self.port = address
            try:
                await super().connect_check_health(check_health, retry_socket_connect=False)
                await self.send_command("ROLE")
                role = await self.read_response()
            except (ConnectionError, TimeoutError) as error:
                self._nodes.passed_over(address)
                problem = error
            except asyncio.CancelledError:
                self._nodes.passed_over(address)
                raise
            else:
                if role[0] in (b"master", "master"):
                    self._nodes.found(address)
                    return
                self._nodes.passed_over(address)
                problem = ConnectionError("no Redis node is primary")
            await self.disconnect()
        raise problem


def open_client(url: str, client_name: str) -> redis.asyncio.Redis:
    """A client with a pool of connections; it connects when first used. Answers are bytes.

    The URL may name several nodes (redis://:password@host:port,host:port/0), or a host each address of which is a
    node (redis+dns://:password@host:port/0): each connection then goes to the one that is primary. A command is
    tried three times in all, each over a new connection: again after a lost connection, a timeout, a primary that
    is loading, after READONLY (the primary became a replica) and NOREPLICAS (another may be primary). So commands
    must bear repetition. Raises ConfigurationError for a URL that is none.
    """
    try:
        plain, nodes = _split(url)
        several = {"connection_class": PrimaryConnection, "nodes": nodes}
        one = {"connection_class": NodeConnection}
        return redis.asyncio.Redis.from_url(
            plain,
            **(several if nodes else one),
            client_name=client_name,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_keepalive=True,
            health_check_interval=HEALTH_CHECK_EVERY_S,
            max_connections=CONNECTIONS_MAX,
            retry=Retry(ExponentialWithJitterBackoff(base=BACKOFF_BASE_S, cap=BACKOFF_CAP_S), RETRIES),
            retry_on_error=[ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError, NotEnoughReplicas],
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
    except ValueError:
        raise ConfigurationError(
            "BETTING_REDIS_URL is not a Redis URL: give redis://host:port/0, redis://host:port,host:port/0, or"
            " redis+dns://host:port/0, and percent-encode / # ? @ : and % in the password"
        ) from None


def _split(url: str) -> tuple[str, Nodes | None]:
    """The URL as redis-py takes it, with one host, and the nodes if there may be several. Raises ValueError."""
    parts = urlsplit(url)
    if is_cut_off(url):
        raise ValueError("the password is cut off")
    credentials, at, hosts = parts.netloc.rpartition("@")
    by_name = parts.scheme == "redis+dns"
    if "," not in hosts and not by_name:
        return url, None
    if parts.scheme != "redis" and not by_name:
        raise ValueError("several nodes need redis://")
    addresses = [(each.rpartition(":")[0], int(each.rpartition(":")[2])) for each in hosts.split(",")]
    if not all(host for host, _port in addresses) or (by_name and len(addresses) > 1):
        raise ValueError("a node is host:port")
    plain = parts._replace(scheme="redis", netloc=f"{credentials}{at}{hosts.partition(',')[0]}").geturl()
    return plain, Nodes([], addresses[0]) if by_name else Nodes(addresses)


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turns what the client raises into ServiceErrors; our own errors pass through."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise translate(error) from None


def translate(error: BaseException) -> ServiceError:
    """UNAVAILABLE for a Redis that is gone, slow, loading, full or a replica; INTERNAL for the rest."""
    if isinstance(error, (ConnectionError, TimeoutError, BusyLoadingError, OSError)):
        return errors.unavailable("REDIS_UNAVAILABLE", "Redis cannot be reached: try again later")
    if isinstance(error, (ReadOnlyError, NotEnoughReplicas)) or str(error).startswith(_NOT_WRITABLE):
        return errors.unavailable("REDIS_NOT_WRITABLE", "Redis takes no writes now: try again later")
    return errors.internal(
        "REDIS_ERROR", "Redis refused the call: try again; if it fails again, report the correlation id"
    )
