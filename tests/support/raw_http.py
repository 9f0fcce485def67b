"""For tests that speak HTTP/1.1 by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

PAGE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
LAST_PAGE = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
SPORTS = "/betting.v1.EventService/ListSports"
WATCH = "/betting.v1.OddsService/WatchPrices"


def post(path: str, length: int, *more: str, content_type: str = "application/json") -> bytes:
    """The head of a request."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Type: {content_type}", f"Content-Length: {length}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def until(reached: Callable[[], bool]) -> None:
    """Waits for something that happens in the gateway's own time."""
    async with asyncio.timeout(20):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def reason(answer: bytes) -> str:
    """The reason in the JSON of a refusal."""
    error = json.loads(answer.rpartition(b"\r\n\r\n")[2])
    return str(error["details"][0]["debug"]["reason"])
