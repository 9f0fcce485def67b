"""Free ports of 127.0.0.1, and who holds a busy one."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import psutil

from betting.supervision.errors import PlatformError

HOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """So many different ports that nobody listens on right now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


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
