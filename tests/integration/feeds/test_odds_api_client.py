"""HTTP to The Odds API: real sockets, real bad answers, and a key that nobody sees."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import in_process
import pytest
from aiohttp import web
from odds_api_server import KEY, OddsApiServer

from betting.feeds.the_odds_api import client as clients
from betting.feeds.the_odds_api.client import Client, Question
from betting.feeds.the_odds_api.errors import (
    InvalidQueryError,
    QuotaExhaustedError,
    RateLimitedError,
    SourceError,
    UnreachableError,
)
from betting.feeds.the_odds_api.polling import Request, RequestKind
from betting.feeds.the_odds_api.settings import OddsApiSettings
from betting.runtime.clock import SystemClock

PULSE = Request(RequestKind.PULSE)
ODDS = Request(RequestKind.ODDS, "soccer_epl")


@pytest.fixture
async def source() -> AsyncIterator[OddsApiServer]:
    """The local source."""
    async with OddsApiServer(SystemClock().now_us).running() as running:
        yield running


@pytest.fixture
async def client(source: OddsApiServer) -> AsyncIterator[Client]:
    """A client of it."""
    made = Client(_question(source.address), SystemClock())
    yield made
    await made.close()


def _question(url: str) -> Question:
    return Question(url, KEY, "uk", "h2h,totals,spreads", "decimal", timeout_s=0.5)


async def test_answers_tell_the_quota(source: OddsApiServer, client: Client) -> None:
    """Each answer's headers count, those of errors too."""
    source.remaining, source.events["soccer_epl"] = 10, [{"id": "x", "bookmakers": []}]
    assert await client.ask(ODDS) == [{"id": "x", "bookmakers": []}]
    assert (client.quota.remaining, client.quota.used, client.quota.last) == (7, 3, 3)
    source.remaining = 2
    with pytest.raises(QuotaExhaustedError):
        await client.ask(ODDS)
    assert client.quota.remaining == 0
    await client.ask(PULSE)
    assert client.quota.remaining == 2


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("500", "HTTP_500"),
        ("cut", "NO_ANSWER"),
        ("slow", "TIMEOUT"),
        ("garbage", "NO_SENSE"),
        ("truncated", "NO_ANSWER"),
        ("404_unknown_sport", "UNKNOWN_SPORT"),
        ("422_invalid_market_combo", "INVALID_MARKET_COMBO"),
        ("429_exceeded_freq_limit", "EXCEEDED_FREQ_LIMIT"),
        ("401_invalid_key", "INVALID_KEY"),
        ("401_out_of_usage_credits", "OUT_OF_USAGE_CREDITS"),
    ],
)
async def test_every_failure_has_its_code_and_keeps_the_key(
    source: OddsApiServer, client: Client, fault: str, code: str
) -> None:
    """Only SourceError comes out, and neither it nor what it hides in a traceback names the key."""
    source.fail(fault)
    with pytest.raises(SourceError) as caught:
        await client.ask(ODDS)
    assert caught.value.code == code
    assert KEY not in repr(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("header", "wanted_s"), [("7", 7.0), ("99999", 300.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None)]
)
async def test_the_source_says_how_long_to_wait(
    source: OddsApiServer, client: Client, header: str, wanted_s: float | None
) -> None:
    """In seconds, and not for ever."""
    source.retry_after = header
    source.fail("429_exceeded_freq_limit")
    with pytest.raises(RateLimitedError) as caught:
        await client.ask(PULSE)
    assert caught.value.retry_after_s == wanted_s


async def test_nobody_there_is_no_answer(unused_tcp_port: int) -> None:
    """A refused connection."""
    client = Client(_question(f"http://127.0.0.1:{unused_tcp_port}"), SystemClock())
    with pytest.raises(UnreachableError, match="NO_ANSWER"):
        await client.ask(PULSE)
    await client.close()


async def test_redirects_are_not_followed_and_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key goes to nobody else; an endless answer is cut off."""
    elsewhere: list[str] = []

    async def redirect(_request: web.Request) -> web.Response:
        raise web.HTTPFound("/elsewhere")

    async def catch(request: web.Request) -> web.Response:
        elsewhere.append(request.path)
        return web.json_response([])

    async def huge(_request: web.Request) -> web.Response:
        return web.Response(body=b"[" + b" " * 100_000)

    application = web.Application()
    application.router.add_get("/v4/sports", redirect)
    application.router.add_get("/elsewhere", catch)
    application.router.add_get("/v4/sports/soccer_epl/odds", huge)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    client = Client(_question(f"http://127.0.0.1:{runner.addresses[0][1]}"), SystemClock())
    monkeypatch.setattr(clients, "ANSWER_BYTES_MAX", 50_000)
    with pytest.raises(UnreachableError, match="HTTP_302"):
        await client.ask(PULSE)
    with pytest.raises(UnreachableError, match="TOO_LARGE"):
        await client.ask(ODDS)
    assert elsewhere == []
    await client.close()
    await runner.cleanup()


async def test_a_wrong_address_names_the_settings(source: OddsApiServer) -> None:
    """What answers there is not the source."""
    client = Client(_question(f"{source.address}/nowhere"), SystemClock())
    with pytest.raises(InvalidQueryError, match="BETTING_ODDS_API_SPORTS"):
        await client.ask(ODDS)
    await client.close()


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("odds_api_key", "", "key of your account"),
        ("odds_api_key", "a b", "key of your account"),
        ("odds_api_url", "api.the-odds-api.com", "an address such as"),
        ("odds_api_url", "ftp://example.com", "an address such as"),
        ("odds_api_sports", "", "keys"),
        ("odds_api_sports", "soccer_epl,../x", "keys"),
        ("odds_api_sports", "x" * 41, "keys"),
        ("odds_api_regions", ",", "region"),
        ("odds_api_markets", "h2h,outrights", "h2h, totals, spreads"),
        ("odds_api_bookmakers", "Pinnacle!", "bookmakers"),
        ("odds_api_format", "fractional", "decimal"),
        ("odds_api_pulse", "11", "10"),
    ],
)
def test_settings_that_cannot_work_are_refused(field: str, value: str, hint: str) -> None:
    """Each names what to give instead; the key is never shown."""
    given: dict[str, Any] = {"odds_api_key": KEY, field: value}
    with pytest.raises(ValueError, match=hint) as caught:
        in_process.settings(OddsApiSettings, **given)
    assert KEY not in str(caught.value)
