"""Looking names up without waiting for a name server that is lost: the event loop of every process.

Of the name servers of a cluster one may be on a node that was just lost. The balancer before them sends all questions
of one socket to the same one (kubernetes/kubeadm#2862), and the C library repeats its question from the same socket for
seconds, then fails. So a look-up that is slow is begun again beside the first one, in another thread and so from
another socket, and the first answer counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import uvloop

# When each attempt begins, while there is no answer. A name server answers within milliseconds. Of two that share the
# questions one may be lost: after the third attempt one look-up in eight has no answer, after the sixth one in 64.
BEGUN_AFTER_S = (0.0, 0.25, 0.6, 1.0, 1.5, 2.1)

# As socket.getaddrinfo answers.
AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
# Host, port, family, type, protocol, flags: the arguments of socket.getaddrinfo.
Question = tuple[Any, Any, int, int, int, int]


class Loop(uvloop.Loop):
    """uvloop's, whose look-ups and connections by name do not wait for a lost name server.

    Who asks the same while a look-up is under way waits for its answer: threads that wait for a lost server are few.
    """

    def __init__(self) -> None:
        super().__init__()
        self._under_way: dict[Question, asyncio.Task[list[AddressInfo]]] = {}

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        """See `socket.getaddrinfo`. Raises OSError or UnicodeError."""
        if not _is_name(host):
            return await super().getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags)
        question = (host, port, family, type, proto, flags)
        task = self._under_way.get(question)
        if task is None:
            task = self._under_way[question] = self.create_task(_first_answer(question))
            task.add_done_callback(lambda done: self._over(question, done))
        return await asyncio.shield(task)

    async def create_connection(
        self, protocol_factory: Callable[[], Any], host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        """See `asyncio.loop.create_connection`: each address of the name is tried in turn. Raises OSError."""
        if not _is_name(host):
            return await super().create_connection(protocol_factory, host, port, **options)
        looked_up = {name: options.pop(name, 0) for name in ("family", "proto", "flags")}
        if options.get("ssl") and options.get("server_hostname") is None:
            options["server_hostname"] = host
        problems = {}
        for *kind, _canonical, address in await self.getaddrinfo(host, port, type=socket.SOCK_STREAM, **looked_up):
            try:
                connected = await self._connected(kind, address)
            except OSError as error:
                problems[address[0]] = error
            else:
                return await super().create_connection(protocol_factory, sock=connected, **options)
        if len(problems) == 1:
            raise problems.popitem()[1]
        raise OSError(f"{host}:{port}: " + "; ".join(f"{each}: {error}" for each, error in problems.items()))

    async def _connected(self, kind: list[int], address: Any) -> socket.socket:
        """kind: family, type and protocol."""
        made = socket.socket(*kind)
        try:
            made.setblocking(False)
            await self.sock_connect(made, address)
        except BaseException:
            made.close()
            raise
        return made

    def _over(self, question: Question, task: asyncio.Task[list[AddressInfo]]) -> None:
        del self._under_way[question]
        if not task.cancelled():
            task.exception()  # who asked may have given up


def _is_name(host: Any) -> bool:
    """Whether it has to be looked up. No host: any address, or a socket that is given instead."""
    if not host:
        return False
    try:
        ip_address(host if isinstance(host, str) else host.decode())
    except ValueError:
        return True
    return False


async def _first_answer(question: Question) -> list[AddressInfo]:
    """Of one attempt or several. Raises what an attempt raised, the last one's error where no server answered."""
    attempts = [asyncio.ensure_future(_begun_after(delay_s, question)) for delay_s in BEGUN_AFTER_S]
    problem = None
    try:
        for each in asyncio.as_completed(attempts):
            try:
                return await each
            except socket.gaierror as error:
                if error.errno != socket.EAI_AGAIN:
                    raise
                problem = error
    finally:
        for attempt in attempts:
            attempt.cancel()
    assert problem is not None
    raise problem


async def _begun_after(delay_s: float, question: Question) -> list[AddressInfo]:
    await asyncio.sleep(delay_s)
    return await _attempt(question)


def _attempt(question: Question) -> asyncio.Future[list[AddressInfo]]:
    """In a thread of its own, which nothing waits for when the process ends."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[AddressInfo]] = loop.create_future()

    def told(set_it: Callable[[Any], None], value: object) -> None:
        if not answer.done():
            set_it(value)

    def ask() -> None:
        how: tuple[Callable[[Any], None], object]
        try:
            how = answer.set_result, socket.getaddrinfo(*question)
        except (OSError, UnicodeError) as error:
            how = answer.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(told, *how)

    threading.Thread(target=ask, name="look-up", daemon=True).start()
    return answer
