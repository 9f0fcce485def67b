"""Free ports of 127.0.0.1, and who holds a busy one."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil

from betting.supervision.errors import PlatformError

HOST = "127.0.0.1"


@contextmanager
def held_ports(count: int) -> Iterator[list[int]]:
    """So many different ports, which the system gives to nobody else while the block lasts.

    A socket is bound to each and never listens. Servers that set SO_REUSEADDR (ours, Postgres, Valkey) can listen there
    all the same, again and again (socket(7) of Linux). Elsewhere they could not: there nothing is held, and a server
    whose port was taken meanwhile says so.
    """
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))  # without SO_REUSEADDR: a port that another holds is not chosen
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ports = [each.getsockname()[1] for each in sockets]
        if sys.platform != "linux":
            held.close()
        yield ports


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is not busy
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def require_free(port: int, purpose: str) -> None:
    """Raises PlatformError, naming the holder where the system tells, when the port is taken."""
    if is_free(port):
        return
    holder = _holder(port)
    by = f" by {holder}" if holder else ""
    raise PlatformError(f"Port {port} (for {purpose}) is taken{by}: stop what uses it, or start with --free-ports.")


def _holder(port: int) -> str | None:
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return None
    for each in connections:
        if each.status == psutil.CONN_LISTEN and each.laddr[1:] == (port,) and each.pid is not None:
            try:
                return f"process {each.pid} ({psutil.Process(each.pid).name()})"
            except psutil.Error:
                return f"process {each.pid}"
    return None
