"""A real gateway on real sockets, with a real Postgres and Valkey, in front of small gRPC services."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import asyncpg
import in_process
import jwt
import pytest
import redis.asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from betting.clients.owners import Directory, GrpcOwnerConnection, OwnerRouter, Route
from betting.gateway.authentication import SigningKeys
from betting.gateway.endpoints import ListSettledBets
from betting.gateway.live import server as live_server
from betting.gateway.live.bets import LiveBets
from betting.gateway.live.odds import LiveOdds
from betting.gateway.live.server import LiveServer
from betting.gateway.main import Gateway, assemble, compose
from betting.gateway.settings import GatewaySettings
from betting.internal.v1 import keys_pb2, keys_pb2_grpc, owner_pb2, owner_pb2_grpc
from betting.life import Life
from betting.runtime import context as request_context
from betting.runtime import errors
from betting.runtime.client import Target
from betting.runtime.outcomes import PeerRecords
from betting.runtime.principal import Role, Verifier, require_role, require_user
from betting.runtime.service import Composition, ServiceContext, Servicer
from betting.users.servicer import source_of
from betting.v1 import (
    bet_pb2,
    common_pb2,
    event_pb2,
    event_pb2_grpc,
    odds_pb2,
    odds_pb2_grpc,
    settlement_pb2,
    settlement_pb2_grpc,
    user_pb2,
    user_pb2_grpc,
    wallet_pb2,
    wallet_pb2_grpc,
)

SHARDS = 4


@dataclass
class World:
    """What the services behind the gateway know and saw."""

    address: str = ""
    signing: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    placed: Counter[bytes] = field(default_factory=Counter)
    seen: list[owner_pb2.Command] = field(default_factory=list)
    correlations: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    refuse_as_not_owner: bool = False
    hang: asyncio.Event | None = None
    streams_ended: int = 0

    def token(self, user: uuid.UUID | None = None, *, kid: str = "k1", key: Any = None, **claims: Any) -> str:
        """An access token as user-service would make it."""
        now_s = int(time.time())
        said = {"iss": "betting", "sub": str(user or uuid.uuid4()), "sid": str(uuid.uuid4()), "role": "bettor",
                "iat": now_s, "exp": now_s + 600}  # fmt: skip
        return jwt.encode(said | claims, key or self.signing, algorithm="EdDSA", headers={"kid": kid})


class Keys(keys_pb2_grpc.SigningKeyServiceServicer):
    """Publishes the key tokens are signed with."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def ListSigningKeys(self, request: Any, context: Any) -> keys_pb2.ListSigningKeysResponse:
        require_role(context, Role.SERVICE)
        raw = self._world.signing.public_key().public_bytes_raw()
        return keys_pb2.ListSigningKeysResponse(
            keys=[keys_pb2.SigningKey(key_id="k1", public_key=raw, not_after_us=2**60)]
        )


class Users(user_pb2_grpc.UserServiceServicer):
    """Signs anybody in whose password is right; `source_of` is how user-service learns where they are."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def Login(self, request: user_pb2.LoginRequest, context: Any) -> user_pb2.LoginResponse:
        self._world.sources.append(source_of(context))
        if request.password != "right":
            raise errors.unauthenticated("WRONG_PASSWORD", "e-mail or password is wrong – try again")
        return user_pb2.LoginResponse(user=user_pb2.User(email=request.email))

    async def GetProfile(self, request: Any, context: Any) -> user_pb2.GetProfileResponse:
        user = require_user(context).user_id
        assert user is not None
        return user_pb2.GetProfileResponse(user=user_pb2.User(user_id=str(uuid.UUID(bytes=user))))


class Events(event_pb2_grpc.EventServiceServicer):
    """Events in many shapes."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def ListSports(self, request: Any, context: Any) -> event_pb2.ListSportsResponse:
        self._world.correlations.append(request_context.correlation_id.get())
        return event_pb2.ListSportsResponse(sports=[event_pb2.Sport(sport_id="football", name="Fußball ⚽")])

    async def GetEvent(self, request: event_pb2.GetEventRequest, context: Any) -> event_pb2.GetEventResponse:
        if request.event_id == 1:
            raise ValueError("a secret that nobody may see")
        if request.event_id == 2:
            await asyncio.Event().wait()
        raise errors.not_found("EVENT_NOT_FOUND", f"there is no event {request.event_id}")


class Odds(odds_pb2_grpc.OddsServiceServicer):
    """Streams: a few beats, an error, or no end."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def WatchPrices(
        self, request: odds_pb2.WatchPricesRequest, context: Any
    ) -> AsyncIterator[odds_pb2.WatchPricesResponse]:
        try:
            for sequence in range(1, 4):
                yield odds_pb2.WatchPricesResponse(sequence=sequence, beat=odds_pb2.WatchPricesResponse.Beat(at_us=9))
            if list(request.event_ids) == [1]:
                raise errors.unavailable("WATCH_LOST", "watch again")
            if list(request.event_ids) == [2]:
                await asyncio.Event().wait()
        finally:
            self._world.streams_ended += 1


class Wallet(wallet_pb2_grpc.WalletServiceServicer):
    """Knows one balance."""

    async def GetBalance(self, request: wallet_pb2.GetBalanceRequest, context: Any) -> wallet_pb2.GetBalanceResponse:
        require_user(context)
        return wallet_pb2.GetBalanceResponse(balance=wallet_pb2.Balance(currency=request.currency, cash_minor=7))


class Settlements(settlement_pb2_grpc.SettlementServiceServicer):
    """For operators."""

    async def ListPendingSettlements(self, request: Any, context: Any) -> settlement_pb2.ListPendingSettlementsResponse:
        require_role(context, Role.OPERATOR)
        return settlement_pb2.ListPendingSettlementsResponse()


class Owner(owner_pb2_grpc.OwnerServiceServicer):
    """Accepts every bet at once, if the caller is genuine; idempotent by request key."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._verifier = Verifier(bytes.fromhex(in_process.SECRET))

    async def Execute(self, request: owner_pb2.ExecuteRequest, context: Any) -> owner_pb2.ExecuteResponse:
        if self._world.hang is not None:
            await self._world.hang.wait()
        return owner_pb2.ExecuteResponse(results=[self._result(command) for command in request.commands])

    async def ExecuteShards(
        self, request: owner_pb2.ExecuteShardsRequest, context: Any
    ) -> owner_pb2.ExecuteShardsResponse:
        responses = [await self.Execute(one, context) for one in request.requests]
        return owner_pb2.ExecuteShardsResponse(responses=responses)

    def _result(self, command: owner_pb2.Command) -> owner_pb2.Result:
        if self._world.refuse_as_not_owner:
            refusal = common_pb2.Refusal(code=common_pb2.REFUSAL_CODE_NOT_OWNER)
            return owner_pb2.Result(refusal=refusal)
        user = self._verifier.verify(command.principal, time.time_ns() // 1000).user_id
        assert user is not None
        self._world.seen.append(command)
        if command.HasField("get_bet"):
            fault = owner_pb2.Fault(code=5, reason="BET_NOT_FOUND", message="you have no such bet")
            return owner_pb2.Result(fault=fault)
        if command.place_bet.stake_minor == 13:
            refusal = common_pb2.Refusal(code=common_pb2.REFUSAL_CODE_INSUFFICIENT_FUNDS, message="not enough")
            return owner_pb2.Result(refusal=refusal)
        self._world.placed[command.request_key] += 1
        placed = owner_pb2.Placed(bet_id=command.request_key, placed_at_us=1, potential_payout_minor=955)
        return owner_pb2.Result(placed=placed, repeated=self._world.placed[command.request_key] > 1)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """The services behind the gateway, in one process, over real gRPC."""
    world = World()

    async def compose_services(_: ServiceContext[Any]) -> Composition:
        parts = (
            (
                keys_pb2_grpc.add_SigningKeyServiceServicer_to_server,
                Keys(world),
                "betting.internal.v1.SigningKeyService",
            ),
            (user_pb2_grpc.add_UserServiceServicer_to_server, Users(world), "betting.v1.UserService"),
            (event_pb2_grpc.add_EventServiceServicer_to_server, Events(world), "betting.v1.EventService"),
            (odds_pb2_grpc.add_OddsServiceServicer_to_server, Odds(world), "betting.v1.OddsService"),
            (wallet_pb2_grpc.add_WalletServiceServicer_to_server, Wallet(), "betting.v1.WalletService"),
            (
                settlement_pb2_grpc.add_SettlementServiceServicer_to_server,
                Settlements(),
                "betting.v1.SettlementService",
            ),
            (owner_pb2_grpc.add_OwnerServiceServicer_to_server, Owner(world), "betting.internal.v1.OwnerService"),
        )
        unbounded = frozenset({"Execute", "ExecuteShards"})
        servicers = [Servicer(add, made, name, unbounded_methods=unbounded) for add, made, name in parts]
        return Composition(servicers=servicers)

    async with in_process.running(compose_services, service="world") as address:
        world.address = address
        yield world


class GatewayUnderTest:
    """Where the gateway is, and how tests talk to it."""

    def __init__(self, address: str, session: aiohttp.ClientSession, world: World) -> None:
        self.address = address
        self.session = session
        self.world = world

    async def post(
        self, method: str, body: Any = b"", content_type: str = "application/json", token: str = "", **headers: str
    ) -> tuple[int, Any, bytes]:
        """Calls "Service/Method"; status, headers and body of the answer."""
        sent = {"Content-Type": content_type} | {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        url = f"http://{self.address}/betting.v1.{method}"
        async with self.session.post(url, data=body, headers=sent) as answer:
            return answer.status, answer.headers, await answer.read()

    async def raw(self, data: bytes, *, half_close: bool = False) -> bytes:
        """Sends bytes as they are and reads until the gateway ends the connection."""
        host, port = self.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        if half_close:
            writer.write_eof()
        try:
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()


Starter = Callable[..., AbstractAsyncContextManager[GatewayUnderTest]]


async def own_all_shards(dsn: str, address: str, epoch: int = 1) -> None:
    """Writes the directory as bet-service instances would."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "INSERT INTO betting.shards (shard_id, owner, address, epoch, state)"
            " SELECT n, 'world@1', $1, $2, 'owned' FROM generate_series(0, $3 - 1) n ON CONFLICT (shard_id)"
            " DO UPDATE SET owner = excluded.owner, address = excluded.address, epoch = excluded.epoch,"
            " state = 'owned'",
            address, epoch, SHARDS,
        )  # fmt: skip
    finally:
        await connection.close()


@pytest.fixture
def start_gateway(database: Any, valkey: Any, world: World, unused_tcp_port_factory: Callable[[], int]) -> Starter:
    """Starts a gateway: `async with start_gateway(request_bytes_max=2_000) as gateway`."""

    @asynccontextmanager
    async def start(*, own_shards: bool = True, **overrides: Any) -> AsyncIterator[GatewayUnderTest]:
        address = f"127.0.0.1:{unused_tcp_port_factory()}"
        defaults: dict[str, Any] = {
            "instance": "gateway-1", "http_address": address, "postgres_dsn": database.dsn, "redis_url": valkey.url,
            "shard_count": SHARDS, "user_service": world.address, "wallet_service": world.address,
            "event_service": world.address, "odds_service": world.address, "settlement_service": world.address,
        }  # fmt: skip
        if own_shards:
            await own_all_shards(database.dsn, world.address)
        settings = in_process.settings(GatewaySettings, **(defaults | overrides))
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            in_process.running(compose, settings, service="api-gateway"),
        ):
            yield GatewayUnderTest(address, session, world)

    return start


@pytest.fixture
async def gateway(start_gateway: Starter) -> AsyncIterator[GatewayUnderTest]:
    """A gateway as it comes."""
    async with start_gateway() as running:
        yield running


@dataclass
class FrontDoor:
    """A gateway's HTTP and Socket.IO side without a database: every bet is placed with `world`'s owner."""

    address: str
    world: World
    gateway: Gateway
    live: LiveServer

    async def opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection."""
        host, port = self.address.split(":")
        return await asyncio.open_connection(host, int(port))

    async def raw(self, data: bytes) -> bytes:
        """What comes back for these bytes until the gateway ends the connection."""
        reader, writer = await self.opened()
        try:
            writer.write(data)
            async with asyncio.timeout(30):
                return await reader.read()
        finally:
            writer.close()


@pytest.fixture
def front_door(world: World) -> Callable[..., AbstractAsyncContextManager[FrontDoor]]:
    """Starts one: `async with front_door(connections_max=2) as door`. Quick: neither Postgres nor Valkey is needed."""

    @asynccontextmanager
    async def start(**overrides: Any) -> AsyncIterator[FrontDoor]:
        settings = in_process.settings(
            GatewaySettings, **({"http_address": in_process.free_address(), "shard_count": SHARDS} | overrides)
        )

        async def routes() -> list[Route]:
            return [Route(shard, "world@1", world.address, 1, "owned") for shard in range(SHARDS)]

        async def keys() -> list[keys_pb2.SigningKey]:
            raw = world.signing.public_key().public_bytes_raw()
            return [keys_pb2.SigningKey(key_id="k1", public_key=raw, not_after_us=2**60)]

        directory = Directory(routes)
        await directory.refresh()
        router = OwnerRouter(
            directory,
            lambda owner, address: GrpcOwnerConnection(
                address, Life.parse("bet-service", owner), lambda: b"", PeerRecords()
            ),
            shard_count=settings.shard_count,
        )
        unused: Any = redis.asyncio.Redis.from_url("redis://127.0.0.1:1")
        async with in_process.calling(world.address, in_flight_max=2_000) as target:
            services = ("User", "Wallet", "Event", "Odds", "Settlement", "Notification")
            targets: dict[str, Target | None] = {f"betting.v1.{name}Service": target for name in services}
            no_pool: Any = None
            gateway = assemble(
                settings,
                router=router,
                targets=targets,
                keys=SigningKeys(keys),
                settled_bets=ListSettledBets(no_pool, settings.currency_codes),
            )
            live = LiveServer(
                authenticator=gateway.authenticator,
                get_bet=gateway.endpoints["/betting.v1.BetService/GetBet"],
                odds=LiveOdds(None),
                make_bets=lambda too_slow: LiveBets(unused, no_pool, settings.shard_count, too_slow),
                settings=settings,
            )
            gateway.http.mount(live_server.PREFIX, live.handle)
            await gateway.listener.open()
            work = [asyncio.ensure_future(run()) for run in (*router.background, gateway.listener.sweep, live.run)]
            try:
                yield FrontDoor(gateway.listener.address, world, gateway, live)
            finally:
                await live.drain()
                await gateway.listener.drain()
                for task in work:
                    task.cancel()
                await asyncio.gather(*work, return_exceptions=True)
                await gateway.listener.close()
                await router.close()

    return start


@pytest.fixture
def bet() -> Callable[..., bet_pb2.PlaceBetRequest]:
    """Makes bets that nothing is wrong with."""

    def make(stake_minor: int = 500) -> bet_pb2.PlaceBetRequest:
        made_ms = time.time_ns() // 1_000_000
        key = uuid.UUID(int=(made_ms << 80) | (7 << 76) | (0b10 << 62) | (uuid.uuid4().int & ((1 << 62) - 1)))
        leg = bet_pb2.Leg(market_id=7, selection_id=1, price=common_pb2.Price(numerator=91, denominator=100))
        return bet_pb2.PlaceBetRequest(request_key=str(key), currency="GBP", stake_minor=stake_minor, legs=[leg])

    return make
