"""Simulated bettors against a gateway that fails in every way a network can, and the file of what they were told."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from betting.audit.acknowledgements import AcknowledgementFile
from betting.drills import acks
from betting.drills.bettors import BettingClient, Bettor
from betting.drills.catalogue import Catalogue, Leg
from betting.drills.connect import CallFailed, ConnectClient
from betting.drills.measure import ACCEPTED, UNANSWERED, Attempt

USER = "01890a5d-ac96-774b-bcce-b302099a8057"
BET = "11890a5d-ac96-574b-bcce-b302099a8057"
KICK_OFF_US = time.time_ns() // 1_000 + 3_600_000_000
LEG = Leg(market_id=7, selection_id=1, numerator=9, denominator=2, closes_at_us=KICK_OFF_US)
Answer = Callable[[dict[str, Any]], web.StreamResponse | None]


def placed(body: dict[str, Any]) -> web.Response:
    """What BetService answers to an accepted bet, in proto3 JSON: 64-bit numbers are strings."""
    bet = {"betId": BET, "requestKey": body["requestKey"], "stakeMinor": body["stakeMinor"], "legs": body["legs"]}
    return web.json_response({"bet": bet})


def refused(code: str, leg: int = 0) -> Answer:
    """A refusal; proto3 JSON leaves the index of the first leg out."""
    index = {"legIndex": leg} if leg else {}
    return lambda _body: web.json_response({"refusal": {"code": f"REFUSAL_CODE_{code}", "message": "no", **index}})


def failed(status: int, code: str, reason: str = "") -> Answer:
    """A Connect error, with the platform's reason as the gateway shows it."""
    info = {"type": "google.rpc.ErrorInfo", "value": "", "debug": {"reason": reason}}
    error = {"code": code, "message": "no"} | ({"details": [info]} if reason else {})
    return lambda _body: web.json_response(error, status=status)


def cut(_body: dict[str, Any]) -> None:
    """The connection ends without an answer."""


class Setting:
    """A server that gives prepared answers, a desk that talks to it, and what it was asked."""

    def __init__(self, client: ConnectClient, answers: list[Answer], asked: list[dict[str, Any]], path: Path) -> None:
        self.client = client
        self.answers = answers
        self.asked = asked
        self.path = path

    async def bet(self, *answers: Answer, patience_s: float = 5.0, legs: Sequence[Leg] = (LEG,)) -> Attempt:
        """Places one bet while the server answers like this, one after the other."""
        self.answers[:] = answers
        bettor = Bettor(USER, "a@example.com", "a long password", "token", shard=3)
        attempt = Attempt(bettor.shard, time.monotonic())
        async with acks.writing(self.path) as file:
            until_s = time.monotonic() + patience_s
            await BettingClient(self.client, file).bet(attempt, bettor, list(legs), random.Random(1), until_s)
        return attempt


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    """The server runs while the test does."""
    answers: list[Answer] = []
    asked: list[dict[str, Any]] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        asked.append(body)
        answer = answers.pop(0)(body)
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return answer

    app = web.Application()
    app.router.add_post("/{method:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession() as session:
        yield Setting(ConnectClient(session, f"http://{host}:{port}"), answers, asked, tmp_path / "acks.jsonl")
    await runner.cleanup()


async def test_the_same_key_is_sent_until_there_is_a_definite_answer(setting: Setting) -> None:
    """Cut connections, unavailable services and transient refusals are repeated with one key; the bet is noted once."""
    attempt = await setting.bet(
        cut, failed(503, "unavailable"), failed(504, "deadline_exceeded"), refused("BOOK_STALE"), placed
    )
    assert (attempt.outcome, attempt.tries) == (ACCEPTED, 5)
    assert len({body["requestKey"] for body in setting.asked}) == 1
    (line,) = setting.path.read_text().splitlines()
    assert json.loads(line)["request_key"] == setting.asked[0]["requestKey"]


async def test_who_waits_for_a_limit_of_their_own_is_told_apart(setting: Setting) -> None:
    """The gateway's limit of requests and the owner's of refused ones; a platform that is busy is another matter."""
    for limit in (failed(429, "resource_exhausted", "RATE_LIMITED"), refused("RATE_LIMITED")):
        attempt = await setting.bet(limit, failed(503, "unavailable"), placed)
        assert (attempt.outcome, attempt.limited) == (ACCEPTED, True)
    for busy in (failed(429, "resource_exhausted", "OVERLOADED"), refused("OVERLOADED"), cut):
        attempt = await setting.bet(busy, placed)
        assert (attempt.outcome, attempt.limited) == (ACCEPTED, False)


async def test_a_final_refusal_ends_it(setting: Setting) -> None:
    """PRICE_MOVED is an answer: one try, counted by its code."""
    attempt = await setting.bet(refused("PRICE_MOVED"))
    assert (attempt.outcome, attempt.tries) == ("PRICE_MOVED", 1)
    assert attempt.answered_s is not None


async def test_a_malformed_request_is_not_repeated(setting: Setting) -> None:
    """invalid_argument will be invalid the next time too."""
    attempt = await setting.bet(failed(400, "invalid_argument"))
    assert (attempt.outcome, attempt.tries) == ("invalid_argument", 1)
    assert setting.path.read_text() == ""


async def test_without_an_answer_in_time_nothing_is_noted(setting: Setting) -> None:
    """What was never acknowledged must not be looked for by the audit."""
    attempt = await setting.bet(*[cut] * 20, patience_s=0.1)
    assert (attempt.outcome, attempt.answered_s) == (UNANSWERED, None)
    assert attempt.tries >= 2
    assert setting.path.read_text() == ""


async def test_an_html_error_page_is_the_network_s_fault(setting: Setting) -> None:
    """A proxy's page is no answer of the platform: the request is repeated."""
    page = web.Response(status=502, text="<html>Bad gateway</html>", content_type="text/html")
    attempt = await setting.bet(lambda _body: page, placed)
    assert (attempt.outcome, attempt.tries) == (ACCEPTED, 2)


async def test_the_audit_reads_what_bettors_wrote(setting: Setting) -> None:
    """Every kind of line is one the audit takes, with the stake and the legs at the prices taken."""
    await setting.bet(placed)
    (bet,) = list(AcknowledgementFile(setting.path))
    assert (str(bet.user), str(bet.bet), bet.currency) == (USER, BET, "GBP")
    assert bet.amount_minor == int(setting.asked[0]["stakeMinor"])
    await setting.bet(refused("INSUFFICIENT_FUNDS"))
    (refusal,) = list(AcknowledgementFile(setting.path))
    assert refusal.code == 11


async def test_a_deposit_is_noted_with_its_amount(setting: Setting) -> None:
    """And a refused deposit stops the demo instead of leaving a bettor without money."""
    bettor = Bettor(USER, "a@example.com", "a long password", "token", shard=3)
    setting.answers[:] = [lambda _body: web.json_response({"balance": {"cashMinor": "1000000"}})]
    async with acks.writing(setting.path) as file:
        await BettingClient(setting.client, file).deposit(bettor, time.monotonic() + 1)
        setting.answers[:] = [refused("BALANCE_ABOVE_MAXIMUM")]
        with pytest.raises(CallFailed, match="BALANCE_ABOVE_MAXIMUM"):
            await BettingClient(setting.client, file).deposit(bettor, time.monotonic() + 1)
    (deposit,) = list(AcknowledgementFile(setting.path))
    assert deposit.amount_minor == 1_000_000


async def test_a_refused_bet_knows_when_the_leg_it_was_refused_for_closed(setting: Setting) -> None:
    """Only from then on is it the market's own word that it takes no bets."""
    closed = replace(LEG, market_id=8, closes_at_us=KICK_OFF_US - 7_200_000_000)
    second = await setting.bet(refused("MARKET_NOT_OPEN", leg=1), legs=[closed, LEG])
    assert second.outcome == "MARKET_NOT_OPEN"
    since_kick_off_s = time.time() - KICK_OFF_US / 1e6  # the module was loaded an hour before, less what tests took
    assert second.past_closing_s == pytest.approx(since_kick_off_s, abs=60)
    first = await setting.bet(refused("MARKET_CLOSED"), legs=[closed, LEG])
    assert first.past_closing_s == pytest.approx(since_kick_off_s + 7_200, abs=60)
    assert (await setting.bet(placed)).past_closing_s is None


async def test_bettors_know_from_the_prices_when_a_market_closes(setting: Setting) -> None:
    ids = {"marketId": "7", "eventId": "70", "closesAtUs": str(KICK_OFF_US), "status": "MARKET_STATUS_OPEN"}
    prices = [{"selectionId": 1, "price": {"numerator": 9, "denominator": 2}}]
    setting.answers[:] = [
        lambda _: web.json_response({"events": [{"markets": [ids]}]}),
        lambda _: web.json_response({"prices": [{**ids, "prices": prices}]}),
    ]
    catalogue = Catalogue(setting.client)
    await catalogue.refresh()
    assert catalogue.pick(random.Random(1), 1) == [LEG]


async def test_who_is_cancelled_as_a_call_times_out_ends() -> None:
    """A loop that is busy finds both due at once, the timeout first."""
    asked = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, aiohttp.ClientSession() as session:
        client = ConnectClient(session, f"http://{host}:{port}")
        call = asyncio.create_task(client.call("betting.v1.EventService/ListEvents", {}, timeout_s=0.5))
        await asked.wait()
        asyncio.get_running_loop().call_later(1.1, call.cancel)  # the call itself ends 1 s after it began
        # The busy loop is the condition: without it the two come one after the other. It is busy until both are due.
        time.sleep(1.2)  # noqa: ASYNC251 - it has to block
        with pytest.raises(asyncio.CancelledError):
            await call
