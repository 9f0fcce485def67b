"""HTTP to the source: one question at a time, bounded in time and size. What goes wrong becomes one of `errors`.

The key is part of the address, so no text of aiohttp's errors, which may show addresses, leaves this module.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from betting.feeds.the_odds_api import decoding, errors, parsing, quota
from betting.feeds.the_odds_api.decoding import SkipError
from betting.feeds.the_odds_api.errors import QuotaExhaustedError, UnreachableError
from betting.feeds.the_odds_api.polling import Request, RequestKind
from betting.feeds.the_odds_api.quota import Quota
from betting.runtime.clock import Clock

ANSWER_BYTES_MAX = 16 * 1024 * 1024
ERROR_BYTES_MAX = 64 * 1024
RETRY_AFTER_MAX_S = 300.0

_SECONDS = re.compile(r"\d{1,6}(\.\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Question:
    """What all questions have in common."""

    url: str
    key: str
    regions: str
    markets: str
    odds_format: str
    timeout_s: float


class Client:
    """Asks; knows what is left of the credits."""

    def __init__(self, question: Question, clock: Clock) -> None:
        self._question = question
        self._clock = clock
        untimed = aiohttp.ClientTimeout(total=None)  # as its timeout ends, a task that is cancelled would go on
        self._session = aiohttp.ClientSession(timeout=untimed, auto_decompress=True)
        self.quota = Quota()

    async def ask(self, request: Request) -> object:
        """The document that answers. Raises SourceError."""
        path, parameters = self._address(request)
        try:
            # A redirect would carry the key somewhere else.
            async with (
                asyncio.timeout(self._question.timeout_s),
                self._session.get(f"{self._question.url}{path}", params=parameters, allow_redirects=False) as response,
            ):
                limit = ANSWER_BYTES_MAX if response.status == 200 else ERROR_BYTES_MAX
                body = await _body(response, limit)
                return self._answer(response.status, body, response.headers)
        except TimeoutError:
            raise UnreachableError(
                "TIMEOUT", f"no whole answer within {self._question.timeout_s:g} s: asking again"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnreachableError(
                "NO_ANSWER", f"no whole answer came ({type(error).__name__}): asking again"
            ) from None

    async def close(self) -> None:
        """Ends connections."""
        await self._session.close()

    def _address(self, request: Request) -> tuple[str, dict[str, str]]:
        parameters = {"apiKey": self._question.key}
        if request.ask is RequestKind.PULSE:
            return "/v4/sports", parameters
        parameters["dateFormat"] = "iso"
        if request.ask is RequestKind.SCORES:
            return f"/v4/sports/{request.sport}/scores", parameters | {"daysFrom": str(request.days_from)}
        question = self._question
        more = {"regions": question.regions, "markets": question.markets, "oddsFormat": question.odds_format}
        return f"/v4/sports/{request.sport}/odds", parameters | more

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> object:
        now_us = self._clock.now_us()
        self.quota = quota.heard(self.quota, headers, now_us)
        if status != 200:
            error = errors.of_status(status, parsing.error_code(body), _retry_after_s(headers))
            if isinstance(error, QuotaExhaustedError):
                self.quota = quota.spent(self.quota, now_us)
            raise error
        try:
            return decoding.decode(body)
        except SkipError as error:
            raise UnreachableError("NO_SENSE", f"{error}: asking again") from None


async def _body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise UnreachableError("TOO_LARGE", f"the answer has over {limit} bytes: asking again")
    return bytes(body)


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds only; a date, which the header may hold too, counts as not said."""
    value = headers.get("Retry-After", "")
    return min(float(value), RETRY_AFTER_MAX_S) if _SECONDS.fullmatch(value) else None
