"""A season played through real event- and odds-services, fast: whole, after restarts, and with services away.

Settlement is taken at its contract: a gRPC server that records what SettlementService is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import bet_processes
import grpc
import in_process
import pytest
from bet_processes import BetProcess
from grpc_health.v1 import health_pb2, health_pb2_grpc
from settlement_calls import SERVICE
from settlement_recorder import SettlementRecorder

from betting.events.main import compose as compose_events
from betting.feeds.replay.main import compose as compose_replay
from betting.feeds.replay.settings import ReplaySettings
from betting.feeds.seasons import Match, Season, lap, load_season
from betting.internal.v1 import feed_pb2, feed_pb2_grpc
from betting.odds.main import compose as compose_odds
from betting.odds.settings import OddsSettings
from betting.runtime.clock import now_us
from betting.runtime.errors import ConfigurationError, ServiceError
from betting.runtime.principal import service_principal
from betting.v1 import event_pb2, event_pb2_grpc, odds_pb2, odds_pb2_grpc

pytestmark = pytest.mark.slow

HEADER = "Div,Date,Time,HomeTeam,AwayTeam,FTHG,FTAG,FTR,B365H,B365D,B365A,B365CH,B365CD,B365CA,B365>2.5,B365<2.5\n"
SERVICES = {"event": "events", "odds": "odds", "settlement": "settlement"}
DAY_US = 86_400_000_000
TEAMS = ("Alpha", "Beta", "Gamma", "Delta")


class World:
    """The services around a replay, each of which may be away, on addresses that stay."""

    def __init__(self, dsn: str, port: Callable[[], int], season_file: Path) -> None:
        self.dsn = dsn
        self.season_file = season_file
        self.settlement = SettlementRecorder()
        self.addresses = {name: f"127.0.0.1:{port()}" for name in ("events", "odds", "settlement")}

    def events(self) -> AbstractAsyncContextManager[str]:
        settings = in_process.settings(postgres_dsn=self.dsn, grpc_address=self.addresses["events"])
        return in_process.running(compose_events, settings, service="event-service")

    def odds(self) -> AbstractAsyncContextManager[str]:
        settings = in_process.settings(
            OddsSettings, postgres_dsn=self.dsn, grpc_address=self.addresses["odds"], tick="0.02"
        )
        return in_process.running(compose_odds, settings, service="odds-service")

    def settling(self) -> AbstractAsyncContextManager[str]:
        settings = in_process.settings(grpc_address=self.addresses["settlement"])
        return in_process.running(self.settlement.compose, settings, service="settlement-service")

    @asynccontextmanager
    async def all_services(self) -> AsyncIterator[None]:
        async with self.events(), self.odds(), self.settling():
            yield

    def replay(self, **settings: Any) -> AbstractAsyncContextManager[str]:
        defaults: dict[str, Any] = {
            "postgres_dsn": self.dsn,
            "event_service": self.addresses["events"],
            "odds_service": self.addresses["odds"],
            "settlement_service": self.addresses["settlement"],
            "season": str(self.season_file),
            "speed": "900000",
            "lead_in": "0.5",
            "open_at_least": "0.5",
            "tick": "0.02",
            "repeat": False,
        }
        configured = in_process.settings(ReplaySettings, **(defaults | settings))
        return in_process.running(compose_replay, configured, service="season-replay")

    def process(self, name: str, address: str, **settings: str) -> BetProcess:
        """A replay as a process of its own."""
        own = {f"{service}_service": self.addresses[key] for service, key in SERVICES.items()}
        own |= {"season": str(self.season_file), "lead_in": "0.5", "open_at_least": "0.5", "repeat": "false"}
        odds = own.pop("odds_service")
        environment = bet_processes.environment(name, address, self.dsn, "", odds, **own, **settings)
        return BetProcess(name, address, environment, self.season_file.with_name(f"{name}.log"), "betting.feeds.replay")

    async def count(self, query: str) -> int:
        connection = await asyncpg.connect(self.dsn)
        try:
            return int(await connection.fetchval(query))
        finally:
            await connection.close()

    async def execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def attention(self) -> dict[int, str]:
        connection = await asyncpg.connect(self.dsn)
        try:
            query = "SELECT event_id, attention FROM odds.replay_matches WHERE attention <> ''"
            return {row["event_id"]: row["attention"] for row in await connection.fetch(query)}
        finally:
            await connection.close()

    async def reached(self, stage: int) -> int:
        return await self.count(f"SELECT count(*) FROM odds.replay_matches WHERE stage >= {stage}")


@pytest.fixture
def world(database: Any, unused_tcp_port_factory: Callable[[], int], tmp_path: Path) -> World:
    """A small season of six matches in three rounds, a week apart."""
    pairs = [(0, 1), (2, 3), (1, 2), (3, 0), (0, 2), (1, 3)]
    rows = [
        f"E0,{3 + 7 * (index // 2):02d}/08/2024,{15 + index % 2}:00,{TEAMS[home]},{TEAMS[away]},"
        f"{index % 3},{index % 2},,2.1,3.4,3.6,1.9,3.5,4.2,1.8,2.0\n"
        for index, (home, away) in enumerate(pairs)
    ]
    file = tmp_path / "season.csv"
    file.write_text(HEADER + "".join(rows))
    return World(database.dsn, unused_tcp_port_factory, file)


async def test_a_season_is_played_to_its_end(world: World, eventually: Any) -> None:
    """Every match is offered, priced, closed, finished with its score, settled once, resulted."""
    season = load_season(str(world.season_file))
    async with world.all_services():
        async with world.replay():
            await eventually(lambda: world.reached(4), lambda count: count == 6, every_s=0.05)
        assert world.settlement.asked == {
            (match.event_id, match.home_goals, match.away_goals, 1): 1 for match in season.matches
        }
        for match in season.matches:
            event = await _event(world, match.event_id)
            assert (event.status, event.home, event.home_goals, event.away_goals) == (
                event_pb2.EVENT_STATUS_FINISHED,
                match.home,
                match.home_goals,
                match.away_goals,
            )
            # The real settlement-service marks them resulted once every shard has paid.
            assert {market.status for market in event.markets} == {event_pb2.MARKET_STATUS_CLOSED}
            history = await _history(world, match.markets[0].market_id)
            statuses = [quote.status for quote in history]
            assert statuses[0] == event_pb2.MARKET_STATUS_OPEN
            assert statuses[-2:] == [event_pb2.MARKET_STATUS_CLOSED, event_pb2.MARKET_STATUS_RESULTED]
            assert {quote.closes_at_us for quote in history} == {event.starts_at_us}
            assert [quote.version for quote in history] == list(range(1, len(history) + 1))
            assert _first_price(history[-1]) == match.markets[0].selections[0].closing


async def test_a_restarted_replay_goes_on_where_it_was(world: World, eventually: Any) -> None:
    """Stopped in the middle and started again, even at another speed, it keeps its timetable and repeats no step."""
    async with world.all_services():
        async with world.replay():
            await eventually(lambda: world.reached(4), lambda count: count >= 2, every_s=0.02)
        settled = dict(world.settlement.asked)
        begun = await _timetable(world)
        async with world.replay(speed="1"):
            await eventually(lambda: world.reached(4), lambda count: count == 6, every_s=0.05)
        assert await _timetable(world) == begun
        assert settled.items() <= world.settlement.asked.items()
        assert set(world.settlement.asked.values()) == {1}
        assert len(world.settlement.asked) == 6


async def test_of_two_replays_one_plays_and_the_other_goes_on(
    world: World, eventually: Any, unused_tcp_port_factory: Any
) -> None:
    """The second does nothing while the first beats; when the first freezes it goes on to the end. The first wakes up
    and stands by: each match was settled with its own score, and no price was told after its result."""
    processes = [world.process(name, f"127.0.0.1:{unused_tcp_port_factory()}", speed="200000") for name in "ab"]
    first, second = processes
    async with world.all_services(), bet_processes.running(first):
        second.start()
        try:
            await eventually(lambda: _health(second.address), lambda said: said == NOT_SERVING, every_s=0.05)
            await eventually(lambda: world.reached(4), lambda count: count >= 1, every_s=0.05)
            assert await _health(second.address) == NOT_SERVING
            first.freeze()
            await eventually(lambda: world.reached(4), lambda count: count == 6, every_s=0.05)
            assert await _health(second.address) == SERVING
            first.resume()
            await eventually(lambda: _health(first.address), lambda said: said == NOT_SERVING, every_s=0.05)
        finally:
            if second._process is not None:
                second.kill()
        season = load_season(str(world.season_file))
        assert set(world.settlement.asked) == {(m.event_id, m.home_goals, m.away_goals, 1) for m in season.matches}
        for match in season.matches:
            statuses = [quote.status for quote in await _history(world, match.markets[0].market_id)]
            assert statuses[-1] == event_pb2.MARKET_STATUS_RESULTED


async def test_a_replay_that_cannot_read_its_matches_is_not_ready(
    world: World, eventually: Any, unused_tcp_port_factory: Any
) -> None:
    """As a version that does not fit the database: it takes no lease, which the one before may need again."""
    process = world.process("a", f"127.0.0.1:{unused_tcp_port_factory()}")
    await world.execute("ALTER TABLE odds.replay_matches RENAME TO elsewhere")
    process.start()
    try:
        await eventually(lambda: _health(process.address), lambda said: said == NOT_SERVING)
        await eventually(lambda: _logged(process, "what the work starts from not read"), bool)
        assert await _health(process.address, "ready") == NOT_SERVING
        assert not await world.count("SELECT count(*) FROM odds.leases WHERE process <> ''")
        await world.execute("ALTER TABLE odds.elsewhere RENAME TO replay_matches")
        await process.ready()
        assert await _health(process.address, "ready") == SERVING
    finally:
        process.kill()


async def test_a_replay_that_stops_in_order_leaves_at_once(world: World, eventually: Any) -> None:
    """The next one plays as soon as it looks, and repeats nothing."""
    async with world.all_services(), AsyncExitStack() as outer:
        async with world.replay(instance="a", speed="200000") as first:
            second = await outer.enter_async_context(world.replay(instance="b"))
            await eventually(lambda: world.reached(4), lambda count: count >= 1, every_s=0.02)
            assert [await _health(address) for address in (first, second)] == [SERVING, NOT_SERVING]
        await eventually(lambda: _health(second), lambda said: said == SERVING)
        await eventually(lambda: world.reached(4), lambda count: count == 6, every_s=0.05)
        assert set(world.settlement.asked.values()) == {1}


async def test_a_replay_that_stops_in_order_finishes_its_step(world: World, eventually: Any) -> None:
    """The next one does not ask for a settlement again whose answer was under way."""

    async def asked() -> int:
        return world.settlement.asked.total()

    settlement = world.settlement
    async with world.all_services(), AsyncExitStack() as outer:
        async with world.replay(instance="a"):
            await outer.enter_async_context(world.replay(instance="b"))
            settlement.answers.clear()
            await eventually(asked, bool, every_s=0.02)
            asyncio.get_running_loop().call_later(0.5, settlement.answers.set)
        await eventually(lambda: world.reached(4), lambda count: count == 6, every_s=0.05)
        assert set(settlement.asked.values()) == {1}


async def test_services_may_come_late_and_go(world: World, eventually: Any) -> None:
    """With nothing there it waits; whatever comes back is caught up with; nothing is lost or settled early.

    A settlement may be asked for again after a failure: it is idempotent by its version.
    """
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(world.replay())
        async with world.events():
            await eventually(lambda: world.reached(1), lambda count: count >= 2, every_s=0.05)
            assert await world.reached(4) == 0
        async with world.events(), world.odds(), world.settling():
            await eventually(lambda: world.reached(4), lambda count: count == 6, every_s=0.1)
        season = load_season(str(world.season_file))
        results = {(match.event_id, match.home_goals, match.away_goals, 1) for match in season.matches}
        assert set(world.settlement.asked) == results


async def test_a_refused_match_does_not_hold_up_the_others(world: World, eventually: Any) -> None:
    """A match that settlement refuses is put aside and asked again; the others are settled meanwhile."""
    season = load_season(str(world.season_file))
    world.settlement.refused_event = season.matches[0].event_id
    async with world.all_services(), world.replay(retry_refused="0.2"):
        await eventually(lambda: world.reached(4), lambda count: count == 5, every_s=0.05)
        world.settlement.refused_event = 0
        await eventually(lambda: world.reached(4), lambda count: count == 6, every_s=0.05)


async def test_a_match_that_a_person_abandoned_is_left_to_the_settlement_service(world: World, eventually: Any) -> None:
    """It stays abandoned; the replay goes on, has it settled, and what settlement has wait gets no result."""
    season = load_season(str(world.season_file))
    match = season.matches[-1]
    world.settlement.waiting = {match.event_id: [market.market_id for market in match.markets]}
    async with world.all_services(), world.replay():
        await eventually(lambda: _event_status(world, match.event_id), bool, every_s=0.01)
        async with in_process.calling(world.addresses["events"]) as target:
            stub = target.stub(feed_pb2_grpc.CatalogueFeedServiceStub)
            request = feed_pb2.SetEventStatusRequest(event_id=match.event_id, status=event_pb2.EVENT_STATUS_ABANDONED)
            await target.call(stub.SetEventStatus, request, idempotent=True, principal=SERVICE)
        await eventually(lambda: world.reached(4), lambda count: count == 6, every_s=0.05)
        assert (await _event(world, match.event_id)).status == event_pb2.EVENT_STATUS_ABANDONED
        quotes = {quote.market_id: quote.status for quote in await _quotes(world, season)}
    assert match.event_id in {event_id for event_id, *_ in world.settlement.asked}
    assert {quotes[market.market_id] for market in match.markets} == {event_pb2.MARKET_STATUS_CLOSED}


async def test_prices_can_be_bet_on_before_kick_off(world: World, eventually: Any) -> None:
    """At life's pace two rounds are open at once, at their opening prices."""
    season = load_season(str(world.season_file))
    async with world.all_services(), world.replay(speed="1", lead_in=None):
        quotes = await eventually(lambda: _quotes(world, season), lambda found: len(found) >= 8, every_s=0.1)
    assert {quote.status for quote in quotes} == {event_pb2.MARKET_STATUS_OPEN}
    assert {quote.event_id for quote in quotes} == {match.event_id for match in season.matches[:4]}
    opened = {quote.market_id: _first_price(quote) for quote in quotes}
    for match in season.matches[:4]:
        for market in match.markets:
            assert opened[market.market_id] == market.selections[0].opening


async def test_a_season_begins_anew(world: World, eventually: Any) -> None:
    """After its end the season is replayed under new ids, with a timetable of its own."""
    again = lap(load_season(str(world.season_file)), 2)
    async with world.all_services(), world.replay(repeat=True):
        await eventually(lambda: world.reached(4), lambda count: count >= 8, every_s=0.1)
    assert await world.count("SELECT count(*) FROM odds.replays") >= 2
    asked = {event_id for event_id, *_ in world.settlement.asked}
    assert again.matches[0].event_id in asked


async def test_a_season_downloaded_again_forgets_no_bet(world: World, eventually: Any) -> None:
    """Four matches are on offer when the file changes: a score, a club's name, a fixture gone, rows added.

    What was offered is settled under its own id, or waits for a person and says so; once one has voided its markets
    it waits no longer, and the season has gone on without it.
    """
    rows = world.season_file.read_text().splitlines(keepends=True)
    world.season_file.write_text("".join(rows[:5]))
    before = load_season(str(world.season_file)).matches
    async with world.all_services():
        async with world.replay(speed="1", lead_in="60"):
            await eventually(lambda: world.reached(1), lambda count: count == 4, every_s=0.05)
        rows[1] = rows[1].replace(",0,0,", ",4,0,", 1)
        del rows[2]
        world.season_file.write_text("".join(rows).replace("Beta", "Beta Town"))
        after = load_season(str(world.season_file)).matches
        gone = next(match for match in before if (match.home, match.away) == ("Gamma", "Delta"))
        await _let_days_pass(world, 60)
        async with world.replay(remind="0.1"):
            await eventually(lambda: world.reached(4), lambda count: count == 5, every_s=0.05)
            scores = {(match.event_id, match.home_goals, match.away_goals, 1) for match in (*before, *after[3:])}
            scores -= {(gone.event_id, gone.home_goals, gone.away_goals, 1), (before[0].event_id, 0, 0, 1)}
            assert world.settlement.asked == dict.fromkeys(scores | {(before[0].event_id, 4, 0, 1)}, 1)
            assert await world.attention() == {
                gone.event_id: "Gamma v Delta was offered and is not in the season file any more: "
                "settle its event or void its markets"
            }
            await _void(world, gone)
            await eventually(world.attention, lambda found: found == {}, every_s=0.05)
        assert await world.reached(4) == 6
        assert len(world.settlement.asked) == 5


async def test_a_score_corrected_after_settlement_is_said_until_a_person_acts(world: World, eventually: Any) -> None:
    """It is never settled anew by itself; once a person has, nothing is said any more, after a restart neither."""
    first = load_season(str(world.season_file)).matches[0]
    async with world.all_services():
        async with world.replay():
            await eventually(lambda: world.reached(4), lambda count: count == 6, every_s=0.05)
        rows = world.season_file.read_text().splitlines(keepends=True)
        rows[1] = rows[1].replace(",0,0,", ",4,0,", 1)
        world.season_file.write_text("".join(rows))
        async with world.replay(remind="0.1"):
            said = await world.attention()
            assert list(said) == [first.event_id]
            assert "was settled with 0-0, the season file says 4-0 now" in said[first.event_id]
            world.settlement.versions = {market.market_id: 2 for market in first.markets}
            await eventually(world.attention, lambda found: found == {}, every_s=0.05)
        async with world.replay():
            assert await world.attention() == {}
    assert len(world.settlement.asked) == 6


async def test_rows_added_later_join_the_newest_lap(world: World, eventually: Any) -> None:
    """Bets on offered matches of the second lap do not wait for the first one's new rows."""
    rows = world.season_file.read_text().splitlines(keepends=True)
    world.season_file.write_text("".join(rows[:4]))
    async with world.all_services():
        async with world.replay(repeat=True):
            await eventually(lambda: world.reached(4), lambda count: count >= 4, every_s=0.05)
        world.season_file.write_text("".join(rows))
        laps = await world.count("SELECT count(*) FROM odds.replays")
        assert laps >= 2
        newest = lap(load_season(str(world.season_file)), laps)
        async with world.replay():
            asked = {match.event_id for match in newest.matches}
            await eventually(
                lambda: _asked(world), lambda found: asked <= {event_id for event_id, *_ in found}, every_s=0.05
            )
    first = {match.event_id for match in load_season(str(world.season_file)).matches}
    assert len(first & {event_id for event_id, *_ in world.settlement.asked}) == 3


async def test_a_broken_season_stops_the_start(world: World) -> None:
    """The process says which setting is wrong, how often and where, and does not begin."""
    world.season_file.write_text(HEADER + "E0,03/08/2024,15:00,Alpha,Beta,x,0,,2.1,3.4,3.6,,,,,\n")
    with pytest.raises(ConfigurationError, match=r"BETTING_SEASON.*only 0 of 1 lines.*line 2, column FTHG"):
        async with world.replay():
            pytest.fail("a replay of a broken season was started")


async def _event_status(world: World, event_id: int) -> int:
    """0 while the catalogue does not have it."""
    try:
        return int((await _event(world, event_id)).status)
    except ServiceError:
        return 0


async def _asked(world: World) -> set[tuple[int, int, int, int]]:
    return set(world.settlement.asked)


async def _let_days_pass(world: World, days: int) -> None:
    """The season is as far as if the replay had begun so much earlier."""
    connection = await asyncpg.connect(world.dsn)
    try:
        await connection.execute("UPDATE odds.replays SET wall_begin_us = wall_begin_us - $1::bigint", days * DAY_US)
    finally:
        await connection.close()


async def _void(world: World, match: Match) -> None:
    """What settlement does in the catalogue when a person has the match's markets voided."""
    token = service_principal("settlement-1", bytes.fromhex(in_process.SECRET), now_us())
    async with in_process.calling(world.addresses["events"]) as target:
        stub = target.stub(feed_pb2_grpc.CatalogueFeedServiceStub)
        for market in match.markets:
            request = feed_pb2.SetMarketStatusRequest(market_id=market.market_id, status=event_pb2.MARKET_STATUS_VOID)
            await target.call(stub.SetMarketStatus, request, idempotent=True, principal=token)


async def _event(world: World, event_id: int) -> Any:
    async with in_process.calling(world.addresses["events"]) as target:
        stub = target.stub(event_pb2_grpc.EventServiceStub)
        request = event_pb2.GetEventRequest(event_id=event_id)
        return (await target.call(stub.GetEvent, request, idempotent=True)).event


async def _history(world: World, market_id: int) -> list[odds_pb2.MarketPrices]:
    """Oldest first."""
    async with in_process.calling(world.addresses["odds"]) as target:
        stub = target.stub(odds_pb2_grpc.OddsServiceStub)
        request = odds_pb2.ListPriceHistoryRequest(market_id=market_id, page_size=500)
        return list(reversed((await target.call(stub.ListPriceHistory, request, idempotent=True)).prices))


async def _quotes(world: World, season: Season) -> list[odds_pb2.MarketPrices]:
    async with in_process.calling(world.addresses["odds"]) as target:
        stub = target.stub(odds_pb2_grpc.OddsServiceStub)
        ids = [market.market_id for match in season.matches for market in match.markets]
        try:
            request = odds_pb2.BulkGetPricesRequest(market_ids=ids)
            return list((await target.call(stub.BulkGetPrices, request, idempotent=True)).prices)
        except ServiceError:
            return []


SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def _logged(process: BetProcess, line: str) -> bool:
    return line in process.log_text()


async def _health(address: str, name: str = "") -> int | None:
    """What a process says of itself; None: it does not answer."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=name)
            return int((await health_pb2_grpc.HealthStub(channel).Check(request, timeout=1)).status)
        except grpc.aio.AioRpcError:
            return None


async def _timetable(world: World) -> list[Any]:
    connection = await asyncpg.connect(world.dsn)
    try:
        return [tuple(row) for row in await connection.fetch("SELECT * FROM odds.replays")]
    finally:
        await connection.close()


def _first_price(quote: odds_pb2.MarketPrices) -> tuple[int, int]:
    return quote.prices[0].price.numerator, quote.prices[0].price.denominator
