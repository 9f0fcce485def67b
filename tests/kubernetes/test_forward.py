"""What connects the host to a cluster without a container engine, in place of a load balancer."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from kube_api import built
from platform_contract import until

CONNECTIONS = 20


@contextmanager
def _forwarding(target: socket.socket) -> Iterator[tuple[psutil.Process, tuple[str, int]]]:
    """Its process, and the address at which it takes connections for a server."""
    program = built(["forward"])["forward"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address, number = listener.getsockname(), listener.fileno()
        to = f"{number}=127.0.0.1:{target.getsockname()[1]}"
        with subprocess.Popen([program, to], pass_fds=[number]) as process:
            try:
                yield psutil.Process(process.pid), address
            finally:
                process.kill()


async def test_connections_that_their_clients_gave_up_are_given_back() -> None:
    """Also while the server hangs and closes nothing; one in use stays. Else the forwarder runs out of files."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=2 * CONNECTIONS) as server,
        _forwarding(server) as (process, address),
        socket.create_connection(address) as in_use,
    ):
        served, _ = server.accept()

        def open_now() -> int:
            """Connections of the forwarder: two for each of a client."""
            return sum(each.status != psutil.CONN_LISTEN for each in process.net_connections())

        with served:
            given_up = [socket.create_connection(address) for _ in range(CONNECTIONS)]
            await until(lambda: open_now() == 2 + 2 * CONNECTIONS, "all are forwarded")
            for each in given_up:
                each.close()
            await until(lambda: open_now() == 2, "those that were closed are given back")
            in_use.sendall(b"still there")
            assert served.recv(100) == b"still there"
