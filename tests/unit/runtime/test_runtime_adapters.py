"""The tables from asyncpg's and redis-py's errors to ours: one row per kind, and no text of theirs comes through."""

from __future__ import annotations

import asyncpg
import pytest
from redis import exceptions as redis_exceptions

from betting.dsn import address_of
from betting.runtime import backoff, errors, postgres
from betting.runtime import redis as redis_adapter
from betting.runtime.errors import ServiceError

_SECRET_TEXT = "SELECT password FROM users"


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (asyncpg.ConnectionDoesNotExistError(_SECRET_TEXT), "UNAVAILABLE", "POSTGRES_UNAVAILABLE"),
        (asyncpg.AdminShutdownError(_SECRET_TEXT), "UNAVAILABLE", "POSTGRES_UNAVAILABLE"),
        (asyncpg.CrashShutdownError(_SECRET_TEXT), "UNAVAILABLE", "POSTGRES_UNAVAILABLE"),
        (asyncpg.CannotConnectNowError(_SECRET_TEXT), "UNAVAILABLE", "POSTGRES_UNAVAILABLE"),
        (asyncpg.TooManyConnectionsError(_SECRET_TEXT), "UNAVAILABLE", "POSTGRES_OUT_OF_RESOURCES"),
        (asyncpg.DiskFullError(_SECRET_TEXT), "UNAVAILABLE", "POSTGRES_OUT_OF_RESOURCES"),
        (asyncpg.ReadOnlySQLTransactionError(_SECRET_TEXT), "UNAVAILABLE", "POSTGRES_READ_ONLY"),
        (asyncpg.QueryCanceledError(_SECRET_TEXT), "DEADLINE_EXCEEDED", "POSTGRES_TIMEOUT"),
        (TimeoutError(_SECRET_TEXT), "DEADLINE_EXCEEDED", "POSTGRES_TIMEOUT"),
        (asyncpg.SerializationError(_SECRET_TEXT), "ABORTED", "CONFLICT"),
        (asyncpg.DeadlockDetectedError(_SECRET_TEXT), "ABORTED", "CONFLICT"),
        (asyncpg.LockNotAvailableError(_SECRET_TEXT), "ABORTED", "CONFLICT"),
        (asyncpg.UniqueViolationError(_SECRET_TEXT), "ALREADY_EXISTS", "DUPLICATE"),
        (asyncpg.ForeignKeyViolationError(_SECRET_TEXT), "INTERNAL", "POSTGRES_ERROR"),
        (asyncpg.PostgresSyntaxError(_SECRET_TEXT), "INTERNAL", "POSTGRES_ERROR"),
        (asyncpg.DataError(_SECRET_TEXT), "INTERNAL", "POSTGRES_ERROR"),
        (asyncpg.InterfaceError("connection is closed"), "UNAVAILABLE", "POSTGRES_UNAVAILABLE"),
        (asyncpg.InterfaceError("pool is closing"), "UNAVAILABLE", "POSTGRES_UNAVAILABLE"),
        (asyncpg.InterfaceError("another operation is in progress"), "INTERNAL", "POSTGRES_ERROR"),
        (ConnectionRefusedError(_SECRET_TEXT), "UNAVAILABLE", "POSTGRES_UNAVAILABLE"),
        (ConnectionResetError(_SECRET_TEXT), "UNAVAILABLE", "POSTGRES_UNAVAILABLE"),
    ],
)
async def test_postgres_errors(error: Exception, code: str, reason: str) -> None:
    """Each kind has its code and reason; Postgres' text stays behind, also as a cause."""
    with pytest.raises(ServiceError) as caught:
        async with postgres.translated():
            raise error
    assert (caught.value.code.name, caught.value.reason) == (code, reason)
    assert "password" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


async def test_our_own_errors_pass_unchanged() -> None:
    """A refusal decided inside the block is not a database error."""
    refusal = errors.not_found("BET_NOT_FOUND", "no such bet")
    for translated in (postgres.translated, redis_adapter.translated):
        with pytest.raises(ServiceError) as caught:
            async with translated():
                raise refusal
        assert caught.value is refusal


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (redis_exceptions.ConnectionError("x"), "UNAVAILABLE", "REDIS_UNAVAILABLE"),
        (redis_exceptions.TimeoutError("x"), "UNAVAILABLE", "REDIS_UNAVAILABLE"),
        (redis_exceptions.BusyLoadingError("x"), "UNAVAILABLE", "REDIS_UNAVAILABLE"),
        (ConnectionRefusedError("x"), "UNAVAILABLE", "REDIS_UNAVAILABLE"),
        (redis_exceptions.ReadOnlyError("x"), "UNAVAILABLE", "REDIS_NOT_WRITABLE"),
        (redis_exceptions.ResponseError("NOREPLICAS not enough"), "UNAVAILABLE", "REDIS_NOT_WRITABLE"),
        (redis_exceptions.ResponseError("OOM command not allowed"), "UNAVAILABLE", "REDIS_NOT_WRITABLE"),
        (redis_exceptions.ResponseError("WRONGTYPE x"), "INTERNAL", "REDIS_ERROR"),
    ],
)
async def test_redis_errors(error: Exception, code: str, reason: str) -> None:
    """Gone, slow, loading, full and demoted are UNAVAILABLE; the rest is our mistake."""
    with pytest.raises(ServiceError) as caught:
        async with redis_adapter.translated():
            raise error
    assert (caught.value.code.name, caught.value.reason) == (code, reason)


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("postgresql://user:hunter2@db.example:6543/x", "db.example:6543"),
        ("postgresql://user:hunter2@db.example/x", "db.example:5432"),
        ("postgresql://user:hunter2@db:notaport/x", "an address that cannot be read"),
        ("postgresql:///x?host=/run/sock", "local socket:5432"),
    ],
)
def test_an_address_for_people_has_no_password(dsn: str, expected: str) -> None:
    """Only host and port of a DSN are ever printed."""
    assert address_of(dsn) == expected


def test_pauses_double_up_to_half_a_second() -> None:
    """A database that is back is noticed within the maximum pause."""
    pauses = backoff.pauses_s()
    assert [next(pauses) for _ in range(6)] == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]
