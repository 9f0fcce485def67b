"""The event loop of our processes, where a name server is lost: what is asked again, and what is not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from betting.runtime import names

NAME = "database.test"
TIMEOUT_S = 20


class NameServers:
    """In the place of the C library's look-ups of one name; all others it makes.

    unanswered: how many look-ups wait until the test is over. addresses: of the name. problem: what is raised instead.
    """

    def __init__(self) -> None:
        self.unanswered = 0
        self.addresses = ["127.0.0.2"]
        self.problem: int | None = None
        self.asked = 0
        self.over = threading.Event()
        self._system = socket.getaddrinfo

    def look_up(self, host: Any, *arguments: Any, **more: Any) -> Any:
        """As socket.getaddrinfo."""
        if host != NAME:
            return self._system(host, *arguments, **more)
        self.asked += 1
        if self.asked <= self.unanswered:
            self.over.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        if self.problem is not None:
            raise socket.gaierror(self.problem, "no")
        return [found for each in self.addresses for found in self._system(each, *arguments, **more)]


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServers]:
    """Answer at once."""
    found = NameServers()
    monkeypatch.setattr(socket, "getaddrinfo", found.look_up)
    yield found
    found.over.set()


def _run(test: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    async def in_time() -> Any:
        async with asyncio.timeout(TIMEOUT_S):
            return await test()

    with asyncio.Runner(loop_factory=names.Loop) as runner:
        return runner.run(in_time())


async def _look_up() -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(NAME, 5432, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


@pytest.mark.parametrize("unanswered", [0, 1, 2])
def test_a_look_up_without_an_answer_is_begun_again_beside_it(servers: NameServers, unanswered: int) -> None:
    """The C library would wait for the lost server for seconds, here it waits for as long as the test."""
    servers.unanswered = unanswered
    assert _run(_look_up) == ["127.0.0.2"]
    assert servers.asked == unanswered + 1


def test_a_name_that_does_not_exist_is_an_answer(servers: NameServers) -> None:
    """It is not asked for again."""
    servers.problem = socket.EAI_NONAME
    with pytest.raises(socket.gaierror) as raised:
        _run(_look_up)
    assert (raised.value.errno, servers.asked) == (socket.EAI_NONAME, 1)


def test_where_no_server_answers_it_fails_as_the_library_says(servers: NameServers) -> None:
    """After all attempts."""
    servers.problem = socket.EAI_AGAIN
    with pytest.raises(socket.gaierror) as raised:
        _run(_look_up)
    assert (raised.value.errno, servers.asked) == (socket.EAI_AGAIN, len(names.BEGUN_AFTER_S))


def test_who_asks_the_same_meanwhile_waits_for_the_same_answer(servers: NameServers) -> None:
    """Each attempt keeps a thread while nobody answers. Who gives up does not end it for the others."""
    servers.unanswered = 1

    async def three_and_one_gives_up() -> list[list[str]]:
        asking = [asyncio.ensure_future(_look_up()) for _ in range(3)]
        await asyncio.sleep(0)
        asking[0].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking[0]
        return await asyncio.gather(*asking[1:])

    assert _run(three_and_one_gives_up) == [["127.0.0.2"], ["127.0.0.2"]]
    assert servers.asked == 2


def test_a_connection_by_name_is_made_to_whichever_address_answers(servers: NameServers) -> None:
    """Nobody listens at the first one. So connect the drivers of Postgres and Redis."""
    servers.unanswered = 1
    servers.addresses = ["127.0.0.3", "127.0.0.2"]

    async def connected() -> str:
        async with await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.2", 0) as server:
            port = server.sockets[0].getsockname()[1]
            _reader, writer = await asyncio.open_connection(NAME, port)
            writer.close()
            return str(writer.get_extra_info("peername")[0])

    assert _run(connected) == "127.0.0.2"


def test_a_connection_that_is_refused_everywhere_says_so_of_each_address(servers: NameServers) -> None:
    """One address: the error of that one, for those who handle it."""

    async def refused() -> None:
        await asyncio.open_connection(NAME, 1)

    with pytest.raises(ConnectionRefusedError):
        _run(refused)
    servers.addresses = ["127.0.0.2", "127.0.0.3"]
    with pytest.raises(OSError, match=r"127\.0\.0\.2.*127\.0\.0\.3"):
        _run(refused)


def test_a_certificate_is_checked_against_the_name(servers: NameServers) -> None:
    """TLS asks for the name, not for the address that it was looked up as; and a refusal of it is not tried again."""
    servers.addresses = ["127.0.0.2", "127.0.0.3"]
    asked_for: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # it has no certificate: every client is refused
    context.sni_callback = lambda _socket, name, _context: asked_for.append(name)

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(listener, server_side=True) as served:
            served.accept()

    async def refused(port: int) -> None:
        await asyncio.open_connection(NAME, port, ssl=ssl.create_default_context())

    with socket.create_server(("127.0.0.2", 0)) as listener:
        port = listener.getsockname()[1]
        server = threading.Thread(target=serve, args=[listener], daemon=True)
        server.start()
        with pytest.raises(ssl.SSLError):
            _run(lambda: refused(port))
        server.join(TIMEOUT_S)
    assert asked_for == [NAME]
