"""Authenticated single bets over HTTP through the gateway, from wrk."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from betting.bench.batch import caught_up, journal_size
from betting.bench.report import Figure
from betting.bench.world import CURRENCY, DEPOSIT_MINOR, FIRST_MARKET, PRICE, World
from betting.gateway.protocols.encoding import encode_frame
from betting.runtime.ids import new_uuid7
from betting.supervision.errors import PlatformError
from betting.v1 import bet_pb2, common_pb2

BUDGETS = {64: 6_000, 256: 10_000}
USERS = 64
THREADS = 2

# Each request is a new bet of the next user: the same bytes as before but for the request key (UUIDv7).
_SCRIPT = """
local users, made, n, count = {}, {}, 0, 0
local threads = 0
function setup(thread) thread:set("thread_id", threads); threads = threads + 1 end
function init(args)
  for line in io.lines(args[1]) do users[#users + 1] = line end
  math.randomseed(os.time() + thread_id)
  salt = math.random(0, 0xffff)
end
local function whole(user)
  return wrk.format("POST", "/betting.v1.BetService/PlaceBet", {["Content-Type"] = "application/grpc-web+proto",
    ["Authorization"] = "Bearer " .. user, ["grpc-timeout"] = "10S"}, "BODY")
end
function request()
  n = n % #users + 1
  count = count + 1
  if not made[n] then
    local text = whole(users[n])
    local from = string.find(text, "KEY", 1, true)
    made[n] = {string.sub(text, 1, from - 1), string.sub(text, from + 36)}
  end
  local ms = os.time() * 1000 + count % 1000
  local key = string.format("%08x-%04x-7%03x-8%03x-%04x%04x%04x", math.floor(ms / 65536), ms % 65536,
    math.random(0, 0xfff), thread_id, salt, math.floor(count / 65536), count % 65536)
  return made[n][1] .. key .. made[n][2]
end
"""
_KEY = "0" * 36


def wrk() -> str:
    """Where wrk is. Raises PlatformError: better before the first benchmark than minutes later."""
    found = shutil.which("wrk")
    if found is None:
        others = "--only batch --only settle --only memory --only failover --only rest"
        raise PlatformError(f"wrk is not installed: apt-get install wrk, or measure the rest: betting bench {others}.")
    return found


async def measure(world: World, clients: int, seconds: float) -> list[Figure]:
    """Accepted bets in the journal per second, not HTTP answers; latency as wrk saw it."""
    url = f"http://{world.running.topology.http_address()}"
    tokens = await users(url)
    with tempfile.TemporaryDirectory() as folder:
        arguments = _prepare(Path(folder), tokens)
        await caught_up(world)
        before, began = await journal_size(world), time.monotonic()
        load = ["-t", str(THREADS), "-c", str(clients), "-d", f"{seconds:.0f}s", "--latency"]
        script, tokens_file = arguments
        process = await asyncio.create_subprocess_exec(
            wrk(), *load, "-s", script, url, "--", tokens_file, stdout=asyncio.subprocess.PIPE
        )
        output = (await process.communicate())[0].decode()
    elapsed = time.monotonic() - began
    accepted = await journal_size(world) - before
    await caught_up(world)
    sustained_s = time.monotonic() - began
    latency = re.search(r"99%\s+(\S+)", output)
    answers = re.search(r"Requests/sec:\s+(\S+)", output)
    note = f"p99 {latency[1] if latency else '?'}; {answers[1] if answers else '?'} HTTP answers/s"
    name = f"single bets/s through the gateway, {clients} connections"
    return [
        Figure(f"{name}, peak", accepted / elapsed, "/s", BUDGETS[clients], note=note),
        Figure(f"{name}, sustained", accepted / sustained_s, "/s", note="until read models and streams have caught up"),
    ]


def _prepare(folder: Path, tokens: list[str]) -> tuple[str, str]:
    """The script for wrk and the users' tokens, as files."""
    users, script = folder / "tokens", folder / "bets.lua"
    users.write_text("\n".join(tokens) + "\n")
    price = common_pb2.Price(numerator=PRICE[0], denominator=PRICE[1])
    leg = bet_pb2.Leg(market_id=FIRST_MARKET, selection_id=1, price=price)
    bet = bet_pb2.PlaceBetRequest(request_key=_KEY, currency=CURRENCY, stake_minor=10, legs=[leg])
    body = "".join(f"\\{byte:03d}" for byte in encode_frame(bet.SerializeToString()))
    key = "".join(f"\\{byte:03d}" for byte in _KEY.encode())
    assert body.count(key) == 1, "the request key's place in the body is not unique"
    script.write_text(_SCRIPT.replace("BODY", body).replace("KEY", key))
    return str(script), str(users)


async def users(url: str) -> list[str]:
    """Registers users through the gateway, gives them money, and returns their access tokens."""
    async with aiohttp.ClientSession(url) as session:
        return list(await asyncio.gather(*(_user(session) for _ in range(USERS))))


async def _user(session: aiohttp.ClientSession) -> str:
    name = new_uuid7().hex
    registered = await _call(
        session,
        "UserService/Register",
        {"email": f"{name}@example.com", "password": base64.b64encode(name.encode()).decode(), "displayName": "Bench"},
    )
    token: str = registered["tokens"]["accessToken"]
    deposit = {"requestKey": str(new_uuid7()), "currency": CURRENCY, "amountMinor": str(DEPOSIT_MINOR)}
    await _call(session, "WalletService/Deposit", deposit, token)
    return token


async def placed_bet(session: aiohttp.ClientSession, token: str) -> str:
    """Places a bet for a user; its id."""
    price = {"numerator": PRICE[0], "denominator": PRICE[1]}
    body = {
        "requestKey": str(new_uuid7()),
        "currency": CURRENCY,
        "stakeMinor": "100",
        "priceChangePolicy": "PRICE_CHANGE_POLICY_ACCEPT_ANY",
        "legs": [{"marketId": str(FIRST_MARKET + 1), "selectionId": 1, "price": price}],
    }
    placed = await _call(session, "BetService/PlaceBet", body, token)
    return placed["bet"]["betId"]


async def _call(
    session: aiohttp.ClientSession, method: str, body: Mapping[str, object], token: str = ""
) -> dict[str, dict[str, str]]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with session.post(f"/betting.v1.{method}", json=body, headers=headers) as reply:
        answer: dict[str, dict[str, str]] = json.loads(await reply.read())
        if reply.status != 200:
            raise RuntimeError(f"{method} answered {reply.status}: {answer}")
        return answer
