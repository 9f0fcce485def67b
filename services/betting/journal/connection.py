"""Connections as the journal's functions expect them: uuid columns take and give 16 bytes."""

from __future__ import annotations

import socket

import asyncpg

from betting.dsn import UNREADABLE, why_not_connected

# What a statement can raise when Postgres or the way to it fails. InternalClientError: asyncpg, when the server ends a
# session in the very moment a statement begins (seen).
DRIVER_ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

# A transaction left open by a client that hangs ends by itself.
IDLE_IN_TRANSACTION_TIMEOUT = "5s"

APPLICATION_NAME_BYTES_MAX = 63
# A connection whose other side is gone without a word (a lost node, a cut cable) ends within ten seconds on both sides:
# ours notices, and the server's session gives up its locks. The server ignores them on a local socket.
_IDLE_S, _INTERVAL_S, _PROBES = 5, 1, 4
_UNANSWERED_MS = 10_000
_SERVER_KEEPALIVES = {
    "tcp_keepalives_idle": str(_IDLE_S),
    "tcp_keepalives_interval": str(_INTERVAL_S),
    "tcp_keepalives_count": str(_PROBES),
    "tcp_user_timeout": str(_UNANSWERED_MS),
}
# Linux has all of them, macOS calls the first one otherwise and has no last one.
_CLIENT_KEEPALIVES = (
    ("TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE", _IDLE_S),
    ("TCP_KEEPINTVL", _INTERVAL_S),
    ("TCP_KEEPCNT", _PROBES),
    ("TCP_USER_TIMEOUT", _UNANSWERED_MS),
)


def server_settings(process_name: str) -> dict[str, str]:
    """What every session is opened with: the name that a steal finds it by, and keepalives of the server's side."""
    return {"application_name": application_name(process_name), **_SERVER_KEEPALIVES}


def application_name(process_name: str) -> str:
    """What Postgres calls a process: the last 63 bytes of instance name and boot id, of which it keeps no more.

    The last, because the boot id, which tells lives apart, is at the end. See `ownership.acquire`, which looks for it.
    """
    return process_name[-APPLICATION_NAME_BYTES_MAX:]


def keep_alive(connection: asyncpg.Connection) -> None:
    """Keepalives of our side, for a connection over TCP; the driver has no option for them."""
    transport = connection._transport  # the driver hides it
    found = transport.get_extra_info("socket") if transport is not None else None
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _CLIENT_KEEPALIVES:
        if hasattr(socket, name):
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def prepare(connection: asyncpg.Connection) -> None:
    """For `asyncpg.create_pool(init=...)`: UUIDs are `bytes` of length 16."""
    await connection.set_type_codec("uuid", schema="pg_catalog", format="binary", encoder=bytes, decoder=bytes)


class UnreadableAddress(asyncpg.InterfaceError):  # type: ignore[misc]  # asyncpg has no types
    """The driver cannot read the DSN; the message says what to look for, and quotes nothing."""


def _without_password(dsn: str, error: BaseException) -> BaseException:
    """The error of connecting, or one that those who handle it take the same way and that quotes nothing."""
    if (why := why_not_connected(dsn, error)) != UNREADABLE:
        return error
    if isinstance(error, asyncpg.PostgresError):
        same: BaseException = type(error)(why)
        return same
    if isinstance(error, OSError):
        return error if error.errno is None else OSError(error.errno, why)
    return UnreadableAddress(why)


async def connect(dsn: str, process_name: str, *, timeout_s: float = 5.0) -> asyncpg.Connection:
    """A prepared connection. The name is how a steal finds the connections of a dead owner: pass the instance.

    Raises DRIVER_ERRORS, whose texts have no part of a password; UnreadableAddress for a DSN that asyncpg cannot read.
    """
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=timeout_s,
            # asyncpg forgets prepared statements after five minutes by default; ours are few and hot.
            max_cached_statement_lifetime=0,
            server_settings={
                **server_settings(process_name),
                "jit": "off",
                "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_TIMEOUT,
            },
        )
    except (*DRIVER_ERRORS, ValueError) as error:
        raise _without_password(dsn, error) from None
    keep_alive(connection)
    await prepare(connection)
    return connection
