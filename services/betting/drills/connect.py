"""Calls the gateway the way a browser does: the Connect protocol (connectrpc.com/docs/protocol), unary, JSON."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp

# A task that is cancelled as a timeout of aiohttp ends goes on (its TimerContext, entered twice, takes back two
# cancellations): asyncio's is used instead.
UNTIMED = aiohttp.ClientTimeout(total=None)

# The call may not have reached anybody, or its answer was lost: the same request may be sent again.
RETRYABLE = frozenset(
    {"unavailable", "deadline_exceeded", "resource_exhausted", "aborted", "internal", "unknown", "canceled"}
)


class CallFailed(Exception):
    """A call without an answer. `code` is Connect's name, "unavailable" for anything the network did.

    reason: the platform's own name for it, as its ErrorInfo says; "" when nothing of the platform spoke.
    """

    def __init__(self, code: str, message: str, reason: str = "") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.reason = reason

    @property
    def retryable(self) -> bool:
        """Whether the same request should be sent again."""
        return self.code in RETRYABLE


class ConnectClient:
    """One session of keep-alive connections to one gateway."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str) -> None:
        self._session = session
        self._base_url = base_url

    async def call(
        self, method: str, body: dict[str, Any], *, token: str | None = None, timeout_s: float
    ) -> dict[str, Any]:
        """Calls "betting.v1.BetService/PlaceBet" and the like. Raises CallFailed."""
        headers = {"Connect-Protocol-Version": "1", "Connect-Timeout-Ms": str(int(timeout_s * 1000))}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            url = f"{self._base_url}/{method}"
            async with (
                asyncio.timeout(timeout_s + 0.5),  # the gateway's own answer to the deadline comes first
                self._session.post(url, json=body, headers=headers, timeout=UNTIMED) as response,
            ):
                return _answer(response.status, await response.read())
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise CallFailed("unavailable", f"{type(error).__name__} {error}") from error


def _answer(status: int, body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise CallFailed("unavailable", f"HTTP {status} without a JSON object")
    if status != 200:
        message = str(value.get("message", f"HTTP {status}"))
        raise CallFailed(str(value.get("code", "unknown")), message, _reason(value))
    return value


def _reason(error: dict[str, Any]) -> str:
    """The readable form of ErrorInfo that Connect's servers add for people (`debug`)."""
    shown = [detail.get("debug", {}) for detail in error.get("details", ())]
    return next((str(each["reason"]) for each in shown if "reason" in each), "")
