"""The Odds API's feed through real event- and odds-services, against a local server that speaks its format.

Settlement is taken at its contract: a gRPC server that records what SettlementService is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from odds_api_server import match
from odds_api_world import (
    EPL,
    ID_1,
    Eventually,
    World,
)

from betting.runtime import logs


@pytest.fixture
def world(database: Any, unused_tcp_port_factory: Callable[[], int]) -> World:
    """One match in two hours."""
    made = World(database.dsn, unused_tcp_port_factory)
    made.source.events[EPL] = [match(ID_1, made.in_us(2))]
    return made


class FeedLog:
    """What the feed logs. lines: from warnings up. news: the events of the other lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.news: list[str] = []

    def warning(self, event: str, **fields: Any) -> None:
        """A line."""
        self.lines.append({"event": event, **fields})

    error = critical = warning

    def info(self, event: str, **_fields: Any) -> None:
        """No more than news."""
        self.news.append(event)

    debug = info


@pytest.fixture
def feed_log(monkeypatch: pytest.MonkeyPatch) -> FeedLog:
    """The feed's log."""
    found, real = FeedLog(), logs.get
    monkeypatch.setattr(logs, "get", lambda name: found if name == "the-odds-api" else real(name))
    return found


@pytest.fixture
def lines(feed_log: FeedLog) -> list[dict[str, Any]]:
    """The feed's log lines from warnings up."""
    return feed_log.lines


@pytest.fixture
def news(feed_log: FeedLog) -> list[str]:
    """The events of the feed's other log lines."""
    return feed_log.news


@pytest.fixture
def eventually(eventually: Eventually) -> Eventually:
    """As in the other tests, looking less often: each look is a call."""

    async def ask(question: Callable[[], Awaitable[Any]], satisfied: Callable[[Any], bool]) -> Any:
        return await eventually(question, satisfied, every_s=0.05)

    return ask
