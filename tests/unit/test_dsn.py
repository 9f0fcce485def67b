"""Whatever is wrong with an address, nothing that is shown of it has a part of its password."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from betting.audit.report import CannotAudit
from betting.audit.session import open_session, place_of
from betting.cli import main
from betting.dsn import UNREADABLE, address_of, is_clear, why_not_connected
from betting.journal.connection import DRIVER_ERRORS, connect
from betting.runtime import redis as redis_adapter
from betting.runtime.errors import ConfigurationError
from betting.runtime.postgres import open_pool
from betting.runtime.redis_link import ERRORS, RedisLink
from betting_operator.kubernetes.facts import FactsReader, FactsUnknown

PART = 4
# Of characters that messages about 127.0.0.1:1 do not have four of in a row.
PASSWORDS = st.text("QZX789/#?@:%[]&= ", min_size=PART, max_size=16)
ADDRESSES = (
    "postgresql://betting:{}@127.0.0.1:1/betting",
    "postgresql://betting:{}@127.0.0.1:1",
    "postgresql://127.0.0.1:1/betting?user=betting&password={}",
    "postgresql:/betting:{}@127.0.0.1:1/betting",
    "betting:{}@127.0.0.1:1/betting",
)
# Each has failed in a way of its own.
KNOWN = (
    *("S3cr/et", "pa@S3cr3t", "12345/x", "12345#x", "12345?x", "QZ%zzXJ", "QZXJ[789", "QZXJ]", "789Q℀"),
    *("QZXJ&ZZQQ", "QZXJ&ZZQQ=1", "QZXJ ZZQQ", "a/QZXJ@ZZQQ", "QZXJ%87"),
)


def _shows_a_part(text: str, password: str) -> bool:
    return any(password[at : at + PART] in text for at in range(len(password) - PART + 1))


async def _everything_shown(dsn: str) -> list[str]:
    """By what connects with asyncpg and psycopg, each of which reads an address in its own way."""
    shown = [address_of(dsn), place_of(dsn)]
    try:
        await connect(dsn, "test", timeout_s=0.5)
    except DRIVER_ERRORS as error:
        shown.append(str(error))
    reader = FactsReader()
    try:
        await reader.read(dsn)
    except FactsUnknown as error:
        shown.append(str(error))
    try:
        async with open_session(dsn):
            pass
    except CannotAudit as error:
        shown.append(str(error))
    try:
        async with asyncio.timeout(0.2):
            await open_pool(dsn, "test")
    except TimeoutError:
        pass
    except ConfigurationError as error:
        shown.append(str(error))
    assert len(shown) >= 5
    return shown


@pytest.fixture(autouse=True)
def _no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of a password that is taken for a host is not asked of the network's name servers."""
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    monkeypatch.setenv("RES_OPTIONS", "timeout:1 attempts:1")


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("password", KNOWN)
async def test_no_part_of_a_password_is_shown_of_an_address_that_fails(address: str, password: str) -> None:
    for text in await _everything_shown(address.format(password)):
        assert not _shows_a_part(text, password), text


@settings(max_examples=40, deadline=None)
@given(password=PASSWORDS, address=st.sampled_from(ADDRESSES))
def test_no_part_of_any_password_is_shown(password: str, address: str) -> None:
    for text in asyncio.run(_everything_shown(address.format(password))):
        assert not _shows_a_part(text, password), text


@pytest.mark.parametrize("password", KNOWN)
@pytest.mark.parametrize("arguments", [["--check"], ["--wait=0.1"], []])
def test_the_migration_shows_no_part_of_a_password(password: str, arguments: list[str]) -> None:
    """What it writes last is its pod's termination message, and so in the status of the platform."""
    command = ["migrate", *arguments, "--dsn", f"postgresql://betting:{password}@127.0.0.1:1/betting"]
    found: Any = CliRunner().invoke(main.build(command), command, env={"BETTING_POSTGRES_DSN": None})
    assert found.exit_code in (1, 2)
    assert "betting migrate: " in found.output
    assert not _shows_a_part(found.output, password), found.output


@pytest.mark.parametrize("password", KNOWN)
async def test_no_part_of_a_password_of_redis_is_shown(password: str) -> None:
    for url in (f"redis://:{password}@127.0.0.1:1/0", f"redis+dns://:{password}@127.0.0.1:1/0"):
        refusal = ""
        try:
            await redis_adapter.open_client(url, "test").aclose()
        except ConfigurationError as error:
            refusal = str(error)
        assert not _shows_a_part(refusal, password)
        link = RedisLink(url, timeout_s=0.5)
        with pytest.raises(ERRORS) as caught:
            await link.info()
        assert not _shows_a_part(str(caught.value), password)


def test_an_address_that_is_clear_is_shown_with_the_words_of_the_driver() -> None:
    """Of a password that is percent-encoded no parser takes a part for something else."""
    dsn = "postgresql://betting:pa%40ss%2F:@127.0.0.1:1/betting?sslmode=require"
    assert is_clear(dsn)
    assert address_of(dsn) == "127.0.0.1:1"
    refused = ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)")
    assert why_not_connected(dsn, refused) == "[Errno 111] Connect call failed ('127.0.0.1', 1)"
    assert why_not_connected(dsn, psycopg.ProgrammingError("quotes")) == UNREADABLE
    assert why_not_connected(dsn, psycopg.errors.UndefinedTable("no journal")) == "no journal"


async def test_an_address_that_cannot_be_read_says_what_to_look_for() -> None:
    with pytest.raises(DRIVER_ERRORS, match="percent-encode"):
        await connect("postgresql://betting:S3cr/et@127.0.0.1:1/betting", "test")
    with pytest.raises(FactsUnknown, match="percent-encode"):
        await FactsReader().read("postgresql://betting:S3cr/et@127.0.0.1:1/betting")
    with pytest.raises(ConfigurationError, match="BETTING_POSTGRES_DSN cannot be used: the address cannot be read"):
        await open_pool("postgresql://betting:S3cr/et@127.0.0.1:1/betting", "test")
