"""SQL of the catalogue (schema `events`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg

from betting.events import changes, rows, transitions, words
from betting.internal.v1 import feed_pb2
from betting.runtime.errors import ServiceError, failed_precondition, not_found
from betting.runtime.postgres import translated
from betting.v1 import event_pb2

LEAGUES_MAX = 10_000
# Upserts are rare and short: one at a time, so that what one compares with does not change under it.
_UPSERT_LOCK = 0x6576_656E_7473

Connection = Any  # asyncpg.Connection or its proxy; asyncpg comes without types
Key = tuple[int, int]  # (starts_at_us, event_id) of the last event of the page before

_PUT_SPORT = """
INSERT INTO events.sports (sport_id, name) VALUES ($1, $2)
ON CONFLICT (sport_id) DO UPDATE SET name = excluded.name WHERE sports.name <> excluded.name"""

_PUT_LEAGUE = """
INSERT INTO events.leagues (league_id, sport_id, name, country, search_text) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (league_id) DO UPDATE
SET sport_id = excluded.sport_id, name = excluded.name, country = excluded.country, search_text = excluded.search_text
WHERE (leagues.sport_id, leagues.name, leagues.country) <> (excluded.sport_id, excluded.name, excluded.country)"""

_PUT_EVENT = """
INSERT INTO events.events (event_id, league_id, home, away, starts_at_us, status, search_text)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (event_id) DO UPDATE
SET home = excluded.home, away = excluded.away, starts_at_us = excluded.starts_at_us,
    search_text = excluded.search_text"""

_PUT_MARKET = """
INSERT INTO events.markets
    (market_id, event_id, kind, line_quarters, status, closes_at_us, selection_ids, selection_names)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (market_id) DO UPDATE
SET closes_at_us = excluded.closes_at_us, selection_ids = excluded.selection_ids,
    selection_names = excluded.selection_names"""

_LIST_EVENTS = """
SELECT * FROM events.events
WHERE ($1 = '' OR league_id = $1) AND ($2 = 0 OR status = $2) AND (starts_at_us, event_id) > ($3, $4)
ORDER BY starts_at_us, event_id LIMIT $5"""

# The sub-select can be answered from the index alone; whole rows are read for the page's events only.
_SEARCH_EVENTS = """
SELECT * FROM events.events WHERE event_id IN (
    SELECT e.event_id FROM events.events e JOIN events.leagues l USING (league_id)
    WHERE (e.search_text || ' ' || l.search_text) LIKE ALL ($1::text[]) AND (e.starts_at_us, e.event_id) > ($2, $3)
    ORDER BY e.starts_at_us, e.event_id LIMIT $4)
ORDER BY starts_at_us, event_id"""


_FINISH_MARKETS = """
UPDATE events.markets SET status = $2 WHERE event_id = $1 AND status = ANY($3::smallint[])"""


class Store:
    """Reads and writes; every method is one transaction and raises ServiceError."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def upsert(self, request: feed_pb2.UpsertCatalogueRequest, now_us: int) -> int:
        """Creates and corrects; the number of rows changed. Raises FAILED_PRECONDITION, and then nothing changed."""
        async with translated(), self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _UPSERT_LOCK)
            try:
                return await _upsert(connection, request, now_us)
            except asyncpg.ForeignKeyViolationError as error:
                raise _unknown_parent(error) from None
            except asyncpg.UniqueViolationError:
                raise failed_precondition(
                    "MARKET_EXISTS", "an event already has a market of this kind and line under another market_id"
                ) from None

    async def sports(self) -> list[event_pb2.Sport]:
        """All sports by name."""
        async with translated():
            found = await self._pool.fetch("SELECT sport_id, name FROM events.sports ORDER BY name, sport_id")
        return [event_pb2.Sport(sport_id=row["sport_id"], name=row["name"]) for row in found]

    async def leagues(self, sport_id: str) -> list[event_pb2.League]:
        """The leagues of a sport, or all, by country and name."""
        query = """SELECT league_id, sport_id, name, country FROM events.leagues
                   WHERE $1 = '' OR sport_id = $1 ORDER BY country, name, league_id LIMIT $2"""
        async with translated():
            found = await self._pool.fetch(query, sport_id, LEAGUES_MAX)
        return [event_pb2.League(**dict(row)) for row in found]

    async def events(self, league_id: str, status: int, after: Key, limit: int, now_us: int) -> list[event_pb2.Event]:
        """Events after a key, soonest first; empty league or status 0 means all."""
        async with translated(), self._pool.acquire() as connection:
            found = await connection.fetch(_LIST_EVENTS, league_id, status, *after, limit)
            return await _with_markets(connection, found, now_us)

    async def search(self, patterns: list[str], after: Key, limit: int, now_us: int) -> list[event_pb2.Event]:
        """Events whose teams or league match all LIKE patterns, soonest first."""
        async with translated(), self._pool.acquire() as connection:
            found = await connection.fetch(_SEARCH_EVENTS, patterns, *after, limit)
            return await _with_markets(connection, found, now_us)

    async def event(self, event_id: int, now_us: int) -> event_pb2.Event:
        """One event. Raises NOT_FOUND EVENT_NOT_FOUND."""
        async with translated(), self._pool.acquire() as connection:
            return await _event(connection, event_id, now_us)

    async def market(self, market_id: int, now_us: int) -> event_pb2.Market:
        """One market. Raises NOT_FOUND MARKET_NOT_FOUND."""
        async with translated():
            row = await self._pool.fetchrow("SELECT * FROM events.markets WHERE market_id = $1", market_id)
        return rows.market(_found_market(row, market_id), now_us)

    async def set_event_status(
        self, event_id: int, status: int, home_goals: int, away_goals: int, now_us: int
    ) -> event_pb2.Event:
        """Moves an event on and closes its markets. Raises NOT_FOUND, FAILED_PRECONDITION EVENT_TRANSITION."""
        async with translated(), self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow("SELECT * FROM events.events WHERE event_id = $1 FOR UPDATE", event_id)
            if row is None:
                raise _no_event(event_id)
            transitions.check_event(event_id, row["status"], status)
            if (row["status"], row["home_goals"], row["away_goals"]) != (status, home_goals, away_goals):
                await connection.execute(
                    "UPDATE events.events SET status = $2, home_goals = $3, away_goals = $4 WHERE event_id = $1",
                    event_id,
                    status,
                    home_goals,
                    away_goals,
                )
            if status != transitions.SCHEDULED:
                live = [transitions.OPEN, transitions.SUSPENDED]
                await connection.execute(_FINISH_MARKETS, event_id, transitions.CLOSED, live)
            return await _event(connection, event_id, now_us)

    async def set_market_status(self, market_id: int, status: int, now_us: int) -> event_pb2.Market:
        """Moves a market on. Raises NOT_FOUND, FAILED_PRECONDITION MARKET_TRANSITION."""
        async with translated(), self._pool.acquire() as connection, connection.transaction():
            query = "SELECT * FROM events.markets WHERE market_id = $1 FOR UPDATE"
            row = _found_market(await connection.fetchrow(query, market_id), market_id)
            before = transitions.shown_market(row["status"], row["closes_at_us"], now_us)
            transitions.check_market(market_id, before, status)
            if row["status"] != status:
                await connection.execute(
                    "UPDATE events.markets SET status = $2 WHERE market_id = $1", market_id, status
                )
            return rows.market(dict(row) | {"status": status}, now_us)


async def _upsert(connection: Connection, request: feed_pb2.UpsertCatalogueRequest, now_us: int) -> int:
    changed = 0
    for sport in request.sports:
        changed += _count(await connection.execute(_PUT_SPORT, sport.sport_id, sport.name))
    for league in request.leagues:
        values = (league.league_id, league.sport_id, league.name, league.country, words.folded(league.name))
        changed += _count(await connection.execute(_PUT_LEAGUE, *values))
    if not request.events:
        return changed
    events = await _by_id(connection, "events", [event.event_id for event in request.events])
    market_ids = [market.market_id for event in request.events for market in event.markets]
    markets = await _by_id(connection, "markets", market_ids)
    event_rows = changes.of_events(request.events, events)
    market_rows = changes.of_markets(request.events, markets, events, now_us)
    await connection.executemany(_PUT_EVENT, event_rows)
    await connection.executemany(_PUT_MARKET, market_rows)
    return changed + len(event_rows) + len(market_rows)


_SELECT_BY_ID = {
    "events": "SELECT * FROM events.events WHERE event_id = ANY($1::bigint[]) ORDER BY event_id FOR UPDATE",
    "markets": "SELECT * FROM events.markets WHERE market_id = ANY($1::bigint[]) ORDER BY market_id FOR UPDATE",
}


async def _by_id(connection: Connection, table: str, ids: list[int]) -> dict[int, Any]:
    found = await connection.fetch(_SELECT_BY_ID[table], ids)
    return {row[0]: row for row in found}


async def _event(connection: Connection, event_id: int, now_us: int) -> event_pb2.Event:
    found = await connection.fetch("SELECT * FROM events.events WHERE event_id = $1", event_id)
    if not found:
        raise _no_event(event_id)
    return (await _with_markets(connection, found, now_us))[0]


async def _with_markets(connection: Connection, found: Sequence[Any], now_us: int) -> list[event_pb2.Event]:
    query = """SELECT * FROM events.markets WHERE event_id = ANY($1::bigint[])
               ORDER BY event_id, kind, line_quarters, market_id"""
    markets = await connection.fetch(query, [row["event_id"] for row in found])
    of_event: dict[int, list[event_pb2.Market]] = {}
    for row in markets:
        of_event.setdefault(row["event_id"], []).append(rows.market(row, now_us))
    return [rows.event(row, of_event.get(row["event_id"], _NO_MARKETS)) for row in found]


_NO_MARKETS: Iterable[event_pb2.Market] = ()


def _found_market(row: Any, market_id: int) -> Any:
    if row is None:
        raise not_found("MARKET_NOT_FOUND", f"there is no market {market_id}: list an event's markets to find one")
    return row


def _no_event(event_id: int) -> ServiceError:
    return not_found("EVENT_NOT_FOUND", f"there is no event {event_id}: list or search events to find one")


def _unknown_parent(error: asyncpg.ForeignKeyViolationError) -> ServiceError:
    if error.table_name == "leagues":
        return failed_precondition("SPORT_UNKNOWN", "a league names a sport_id that is unknown: send the sport with it")
    return failed_precondition("LEAGUE_UNKNOWN", "an event names a league_id that is unknown: send the league with it")


def _count(tag: str) -> int:
    """Rows of a command tag such as "INSERT 0 1"."""
    return int(tag.rpartition(" ")[2])
