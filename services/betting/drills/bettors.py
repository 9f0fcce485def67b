"""Simulated bettors: they register, pay in and bet, repeating a request until it has a definite answer."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from betting.drills.acks import AckFile
from betting.drills.catalogue import Leg
from betting.drills.connect import CallFailed, ConnectClient
from betting.drills.measure import ACCEPTED, Attempt
from betting.placement import shard_of
from betting.runtime.ids import new_uuid7

CURRENCY = "GBP"
DEPOSIT_MINOR = 1_000_000
STAKES_MINOR = (50, 100, 200, 500)
TRY_TIMEOUT_S = 3.0
SIGN_IN_TIMEOUT_S = 10.0
PAUSE_FIRST_S = 0.05
PAUSE_MAX_S = 0.5
# What both the gateway and the owner call a bettor's own limit.
LIMITED = "RATE_LIMITED"
_REFUSED = "REFUSAL_CODE_"
TRANSIENT = frozenset(
    _REFUSED + name for name in ("BOOK_STALE", "OVERLOADED", "NOT_OWNER", LIMITED, "SHARD_FROZEN", "DEADLINE_PASSED")
)


@dataclass
class Bettor:
    """A registered person with money in the account."""

    user_id: str
    email: str
    password: str
    token: str
    shard: int


async def register(client: ConnectClient, number: int, shard_count: int, until_s: float) -> Bettor:
    """Registers a new bettor. Raises CallFailed when that is refused, or not answered in time."""
    email = f"bettor-{number}-{secrets.token_hex(4)}@example.com"
    password = secrets.token_urlsafe(16)
    body = {"email": email, "password": password, "displayName": f"Bettor {number}"}

    async def ask() -> dict[str, Any]:
        return await client.call("betting.v1.UserService/Register", body, timeout_s=SIGN_IN_TIMEOUT_S)

    reply = await repeat(ask, until_s)
    user_id = reply["user"]["userId"]
    return Bettor(user_id, email, password, reply["tokens"]["accessToken"], shard_of(UUID(user_id).bytes, shard_count))


class BettingClient:
    """Sends the requests of bettors, and records every answer. try_timeout_s: of one try of a bet or a deposit."""

    def __init__(self, client: ConnectClient, acks: AckFile, try_timeout_s: float = TRY_TIMEOUT_S) -> None:
        self._client = client
        self._acks = acks
        self._try_timeout_s = try_timeout_s

    async def deposit(self, bettor: Bettor, until_s: float) -> None:
        """Deposits money. Raises CallFailed when it is refused or not answered in time."""
        body = {"requestKey": str(new_uuid7()), "currency": CURRENCY, "amountMinor": str(DEPOSIT_MINOR)}
        reply = await self._settled("betting.v1.WalletService/Deposit", body, bettor, until_s, Attempt(bettor.shard, 0))
        refusal = reply.get("refusal")
        if refusal is not None:
            raise CallFailed("failed_precondition", f"the deposit was refused: {refusal.get('code')}")
        self._acks.add(self._ack("deposit", body, bettor) | {"amount_minor": DEPOSIT_MINOR})

    async def bet(self, attempt: Attempt, bettor: Bettor, legs: list[Leg], draw: random.Random, until_s: float) -> None:
        """Places a bet and records its result in the attempt; stops waiting for an answer at `until_s`."""
        stake_minor = draw.choice(STAKES_MINOR)
        body = {
            "requestKey": str(new_uuid7()),
            "currency": CURRENCY,
            "stakeMinor": str(stake_minor),
            "legs": [leg.as_json() for leg in legs],
            "priceChangePolicy": draw.choice(["PRICE_CHANGE_POLICY_ACCEPT_BETTER", "PRICE_CHANGE_POLICY_ACCEPT_ANY"]),
        }
        attempt.request_key = str(body["requestKey"])
        try:
            reply = await self._settled("betting.v1.BetService/PlaceBet", body, bettor, until_s, attempt)
        except CallFailed as error:
            if not error.retryable:
                attempt.answered_s, attempt.outcome = time.monotonic(), error.code
            return
        attempt.answered_s = time.monotonic()
        attempt.outcome = self._note_bet(reply, body, bettor)
        attempt.past_closing_s = _past_closing_s(reply, legs)
        attempt.acknowledged = True

    async def _settled(
        self, method: str, body: dict[str, Any], bettor: Bettor, until_s: float, attempt: Attempt
    ) -> dict[str, Any]:
        """Sends the same request until there is a final answer."""

        async def ask() -> dict[str, Any]:
            attempt.tries += 1
            try:
                reply = await self._client.call(method, body, token=bettor.token, timeout_s=self._try_timeout_s)
            except CallFailed as error:
                attempt.problem = str(error)
                attempt.limited |= error.reason == LIMITED
                if error.code != "unauthenticated":
                    raise
                await self._log_in(bettor)
                raise CallFailed("unavailable", "logged in again") from error
            code = reply.get("refusal", {}).get("code")
            if code in TRANSIENT:
                attempt.problem = str(reply["refusal"])
                attempt.limited |= code == _REFUSED + LIMITED
                raise CallFailed("unavailable", code)
            return reply

        return await repeat(ask, until_s)

    async def _log_in(self, bettor: Bettor) -> None:
        body = {"email": bettor.email, "password": bettor.password}
        reply = await self._client.call("betting.v1.UserService/Login", body, timeout_s=SIGN_IN_TIMEOUT_S)
        bettor.token = reply["tokens"]["accessToken"]

    def _note_bet(self, reply: dict[str, Any], body: dict[str, Any], bettor: Bettor) -> str:
        refusal = reply.get("refusal")
        if refusal is not None:
            self._acks.add(self._ack("refusal", body, bettor) | {"code": refusal["code"]})
            return str(refusal["code"]).removeprefix(_REFUSED)
        bet = reply["bet"]
        self._acks.add(
            self._ack("bet", body, bettor)
            | {"bet_id": bet["betId"], "stake_minor": int(bet["stakeMinor"]), "legs": [_plain(x) for x in bet["legs"]]}
        )
        return ACCEPTED

    def _ack(self, kind: str, body: dict[str, Any], bettor: Bettor) -> dict[str, Any]:
        return {
            "kind": kind,
            "request_key": body["requestKey"],
            "user_id": bettor.user_id,
            "currency": CURRENCY,
            "acknowledged_at_us": time.time_ns() // 1_000,
        }


async def repeat(ask: Callable[[], Awaitable[dict[str, Any]]], until_s: float) -> dict[str, Any]:
    """Asks until there is an answer, with growing, jittered pauses. Raises the last CallFailed at `until_s`."""
    pause_s = PAUSE_FIRST_S
    while True:
        try:
            return await ask()
        except CallFailed as error:
            if not error.retryable or time.monotonic() > until_s:
                raise
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(PAUSE_MAX_S, pause_s * 2)


def _past_closing_s(reply: dict[str, Any], legs: list[Leg]) -> float | None:
    refusal = reply.get("refusal")
    if refusal is None:
        return None
    leg = legs[min(int(refusal.get("legIndex", 0)), len(legs) - 1)]
    return time.time() - leg.closes_at_us / 1e6


def _plain(leg: dict[str, Any]) -> list[int]:
    price = leg["price"]
    return [int(leg["marketId"]), int(leg["selectionId"]), int(price["numerator"]), int(price["denominator"])]
