"""A local HTTP server that speaks The Odds API's format, version 4: credits, errors and outages on demand."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

GOLDEN = Path(__file__).parents[1] / "golden" / "the_odds_api"
KEY = "0123456789abcdef0123456789abcdef"
SCORES_COST = 2


def iso(at_us: int) -> str:
    """A moment as the source writes it."""
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class OddsApiServer:
    """What it answers. `now_us` stamps prices as just seen, unless they are to be `stale`."""

    now_us: Callable[[], int]
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    scores: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    stale: bool = False
    unknown: frozenset[str] = frozenset()
    remaining: int = 1_000_000_000
    used: int = 0
    fault: str = ""
    faulty: frozenset[str] = frozenset({"sports", "odds", "scores"})
    retry_after: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    queries: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    address: str = ""

    def fail(self, fault: str, *kinds: str) -> None:
        """From now on; "" ends it. A golden error's name, or 500, slow, cut, garbage, object, truncated."""
        self.fault = fault
        self.faulty = frozenset(kinds or ("sports", "odds", "scores"))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One question."""
        sport = request.match_info.get("sport", "")
        kind = request.match_info.get("kind", "sports")
        self.asked[kind] += 1
        self.queries.append((request.path, dict(request.query)))
        if self.fault and kind in self.faulty:
            return await self._faulty(request)
        if request.query.get("apiKey") != KEY:
            return self._error("401_invalid_key")
        if sport in self.unknown:
            return self._error("404_unknown_sport")
        cost = self._cost(kind, request)
        if cost > self.remaining:
            return self._error("401_out_of_usage_credits")
        document = self._document(kind, sport)
        if document:  # an empty answer is free
            self.remaining, self.used = self.remaining - cost, self.used + cost
        return self._json(json.dumps(document).encode(), last=cost)

    def _document(self, kind: str, sport: str) -> Any:
        if kind == "sports":
            return json.loads((GOLDEN / "sports.json").read_bytes())
        if kind == "scores":
            return self.scores.get(sport, [])
        events = self.events.get(sport, [])
        return events if self.stale else [seen(event, iso(self.now_us())) for event in events]

    def _cost(self, kind: str, request: web.Request) -> int:
        if kind == "sports":
            return 0
        if kind == "scores":
            return SCORES_COST if "daysFrom" in request.query else 1
        return len(request.query["regions"].split(",")) * len(request.query.get("markets", "h2h").split(","))

    async def _faulty(self, request: web.Request) -> web.StreamResponse:
        if self.fault == "slow":
            await asyncio.sleep(30)
        if self.fault == "cut":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if self.fault == "truncated":
            return await self._truncated(request)
        bodies = {"garbage": b"<html>not \xff json", "object": b'{"message": "fine"}'}
        if self.fault in bodies:
            return self._json(bodies[self.fault])
        if self.fault == "500":
            return web.Response(status=500, text="Internal Server Error")
        return self._error(self.fault)

    async def _truncated(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'[{"id": "36808')
        assert request.transport is not None
        request.transport.abort()
        return response

    def _error(self, name: str) -> web.Response:
        body = (GOLDEN / f"{name}.json").read_bytes()
        more = {"Retry-After": self.retry_after} if self.retry_after else {}
        return self._json(body, status=int(name[:3]), more=more)

    def _json(
        self, body: bytes, *, status: int = 200, last: int = 0, more: dict[str, str] | None = None
    ) -> web.Response:
        headers = {
            "x-requests-remaining": str(self.remaining),
            "x-requests-used": str(self.used),
            "x-requests-last": str(last),
        }
        return web.Response(body=body, status=status, content_type="application/json", headers=headers | (more or {}))

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[OddsApiServer]:
        """Serves for the length of a block; `address` is where."""
        application = web.Application()
        application.router.add_get("/v4/sports", self.handle)
        application.router.add_get("/v4/sports/{sport}/{kind:odds|scores}", self.handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        self.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


def seen(event: dict[str, Any], at: str) -> dict[str, Any]:
    """The event with prices last updated at a moment."""
    bookmakers = [
        each | {"last_update": at, "markets": [market | {"last_update": at} for market in each["markets"]]}
        for each in event["bookmakers"]
    ]
    return event | {"bookmakers": bookmakers}


def match(
    source_id: str,
    starts_at_us: int,
    home: str = "Alpha City",
    away: str = "Beta United",
    prices: tuple[float, float, float] = (1.91, 3.5, 4.2),
    **fields: Any,
) -> dict[str, Any]:
    """An event with one bookmaker's match result, over/under 2.5 and handicap −0.5."""
    names = (home, "Draw", away)
    winner = [{"name": name, "price": price} for name, price in zip(names, prices, strict=True)]
    totals = [{"name": name, "price": 1.9, "point": 2.5} for name in ("Over", "Under")]
    spreads = [{"name": name, "price": 1.95, "point": point} for name, point in ((home, -0.5), (away, 0.5))]
    markets = [
        {"key": key, "last_update": iso(starts_at_us), "outcomes": outcomes}
        for key, outcomes in (("h2h", winner), ("totals", totals), ("spreads", spreads))
    ]
    bookmaker = {"key": "pinnacle", "title": "Pinnacle", "last_update": iso(starts_at_us), "markets": markets}
    event = {
        "id": source_id,
        "sport_key": "soccer_epl",
        "sport_title": "EPL",
        "commence_time": iso(starts_at_us),
        "home_team": home,
        "away_team": away,
        "bookmakers": [bookmaker],
    }
    return event | fields


def score(event: dict[str, Any], home_goals: int, away_goals: int, *, completed: bool = True) -> dict[str, Any]:
    """The event's entry in a scores answer."""
    shared = {key: event[key] for key in ("id", "sport_key", "sport_title", "commence_time", "home_team", "away_team")}
    goals = ((event["home_team"], home_goals), (event["away_team"], away_goals))
    scores = [{"name": name, "score": str(count)} for name, count in goals]
    return shared | {"completed": completed, "scores": scores, "last_update": event["commence_time"]}
