"""Postgres: a pool that waits for the server to be there, and the one table from its errors to ours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import grpc

from betting.dsn import UNREADABLE, address_of, is_clear
from betting.journal import connection as journal_connection
from betting.journal import schema
from betting.runtime import backoff, errors, logs
from betting.runtime.errors import ConfigurationError, ServiceError

CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 30.0
# While waiting, say so at once and then this often.
WAITING_LINE_EVERY_S = 5.0

_LOG = logs.get("postgres")


async def open_pool(
    dsn: str,
    process_name: str,
    *,
    min_size: int = 1,
    max_size: int = 8,
    command_timeout_s: float | None = COMMAND_TIMEOUT_S,
    server_settings: dict[str, str] | None = None,
    init: Callable[[asyncpg.Connection], Awaitable[None]] | None = None,
) -> asyncpg.Pool:
    """A pool of connections, opened as soon as Postgres answers and has the database.

    It waits for that without end, and says so in the log. `init` prepares each new connection (type codecs).

    Raises ConfigurationError when Postgres is there but refuses the user or the password.
    """

    async def prepared(connection: asyncpg.Connection) -> None:
        journal_connection.keep_alive(connection)
        if init is not None:
            await init(connection)

    waiting = _Waiting(dsn)
    for pause_s in backoff.pauses_s():
        try:
            pool = await asyncpg.create_pool(
                dsn,
                min_size=min_size,
                max_size=max_size,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=command_timeout_s,
                server_settings={**journal_connection.server_settings(process_name), **(server_settings or {})},
                init=prepared,
                reset=_as_it_is,
            )
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
            waiting.after(error)
            await asyncio.sleep(pause_s)
        else:
            waiting.over()
            return pool
    raise AssertionError("the pauses never end")


async def until_current(pool: asyncpg.Pool) -> None:
    """Waits until the schema is what this release needs: services never migrate. It says so in the log meanwhile.

    Raises ConfigurationError when a newer release has migrated the database.
    """
    announced = Announced()
    for pause_s in backoff.pauses_s():
        try:
            async with pool.acquire() as connection:
                found = await schema.look(connection)
        except journal_connection.DRIVER_ERRORS as error:
            announced.waiting("waiting for Postgres: schema not read", error=type(error).__name__)
        else:
            if found.refusal:
                raise ConfigurationError(found.refusal)
            if not found.pending:
                announced.over("schema is current")
                return
            announced.waiting(
                "waiting for migrations: run `betting migrate`", pending=len(found.pending), first=found.pending[0]
            )
        await asyncio.sleep(pause_s)


async def _as_it_is(_connection: asyncpg.Connection) -> None:
    """Instead of asyncpg's reset query, a round trip after every use: sessions are never set up differently here.

    A transaction left open is rolled back all the same.
    """


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turns what asyncpg and the socket raise into ServiceErrors; our own errors pass through.

    Texts of Postgres (SQL, values) go neither to the caller nor into the log: only the SQLSTATE and the constraint.
    Catch the violations you expect (asyncpg.UniqueViolationError ...) inside the block.
    """
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        answer = translate(error)
        _LOG.warning("database error", reason=answer.reason, **_facts(error))
        raise answer from None


def translate(error: BaseException) -> ServiceError:
    """The ServiceError for an error of asyncpg or of the socket.

    Connection lost (08), shut down or starting (57P), out of resources (53), read-only (25006) → UNAVAILABLE; conflicts
    (40001, 40P01, 55P03) → ABORTED; cancelled or timed out → DEADLINE_EXCEEDED; a duplicate (23505) → ALREADY_EXISTS;
    the rest is a fault of ours → INTERNAL.
    """
    if isinstance(error, asyncpg.PostgresError):
        return _by_sqlstate(str(error.sqlstate or ""))
    if isinstance(error, TimeoutError):
        return errors.deadline_exceeded("POSTGRES_TIMEOUT", "the database did not answer in time: try again later")
    if isinstance(error, OSError) or _connection_gone(error):
        return errors.unavailable("POSTGRES_UNAVAILABLE", "the database cannot be reached: try again later")
    return errors.internal(
        "POSTGRES_ERROR", "the database call could not be made: try again; if it fails again, report the correlation id"
    )


def _by_sqlstate(state: str) -> ServiceError:
    if state == "57014":
        return errors.deadline_exceeded("POSTGRES_TIMEOUT", "the database did not finish in time: try again later")
    if state[:2] == "53":
        return errors.unavailable("POSTGRES_OUT_OF_RESOURCES", "the database is out of resources: try again later")
    if state == "25006":
        return errors.unavailable("POSTGRES_READ_ONLY", "the database takes no writes now: try again later")
    if state[:2] == "08" or state[:3] == "57P":
        return errors.unavailable("POSTGRES_UNAVAILABLE", "the database cannot be reached: try again later")
    if state in ("40001", "40P01", "55P03"):
        return errors.aborted("CONFLICT", "another change came first: try again")
    if state == "23505":
        return errors.already_exists("DUPLICATE", "this exists already: read it")
    return errors.internal(
        "POSTGRES_ERROR", f"the database refused the call (SQLSTATE {state}): report the correlation id"
    )


def _connection_gone(error: BaseException) -> bool:
    """asyncpg says InterfaceError both for closed connections and for misuse; only the text tells.

    State 2 is its ERROR_CONSUME: the server's last word (it ended the connection) came just before our statement.
    """
    if isinstance(error, asyncpg.InternalClientError):
        return "another operation (2) is in progress" in str(error)
    return isinstance(error, asyncpg.InterfaceError) and ("closed" in str(error) or "closing" in str(error))


def _facts(error: BaseException) -> dict[str, str]:
    facts = {"error": type(error).__name__}
    for name in ("sqlstate", "constraint_name", "table_name"):
        value = getattr(error, name, None)
        if isinstance(value, str):
            facts[name] = value
    return facts


class Announced:
    """Logs what the process waits for, again every few seconds, and the end of the wait."""

    def __init__(self) -> None:
        self._logged_at_s: float | None = None

    def waiting(self, event: str, **facts: str | int) -> None:
        """At the first call, then at most every few seconds."""
        now_s = time.monotonic()
        if self._logged_at_s is None or now_s - self._logged_at_s >= WAITING_LINE_EVERY_S:
            self._logged_at_s = now_s
            _LOG.warning(event, **facts)

    def over(self, event: str, **facts: str) -> None:
        """Logs the end of the wait; nothing if no wait was logged."""
        if self._logged_at_s is not None:
            self._logged_at_s = None
            _LOG.info(event, **facts)


class _Waiting:
    """Decides whether waiting makes sense, and says now and then that we do."""

    def __init__(self, dsn: str) -> None:
        self._address = address_of(dsn)
        self._hint = "" if is_clear(dsn) else f" ({UNREADABLE})"
        self._announced = Announced()

    def after(self, error: BaseException) -> None:
        """Raises ConfigurationError for errors that waiting does not cure."""
        state = str(getattr(error, "sqlstate", None) or "")
        if state[:2] == "28":
            raise ConfigurationError(
                f"BETTING_POSTGRES_DSN: Postgres at {self._address} refuses the user or the password{self._hint}"
            ) from None
        if state[:2] == "3D":
            self._announced.waiting("waiting for the database to be created", address=self._address)
            return
        if not isinstance(error, OSError) and translate(error).code is not grpc.StatusCode.UNAVAILABLE:
            why = UNREADABLE if isinstance(error, ValueError) else type(error).__name__
            raise ConfigurationError(f"BETTING_POSTGRES_DSN cannot be used: {why}") from None
        self._announced.waiting("waiting for Postgres", address=self._address, error=type(error).__name__)

    def over(self) -> None:
        self._announced.over("connected to Postgres", address=self._address)
