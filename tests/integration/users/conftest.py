"""A running user-service on real Postgres and Valkey, and a client for it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import in_process
import jwt
import pytest
import redis.asyncio

from betting.internal.v1 import keys_pb2, keys_pb2_grpc
from betting.runtime.client import Target
from betting.runtime.principal import Principal, Role, sign
from betting.users.main import compose
from betting.users.settings import UserSettings
from betting.v1 import user_pb2, user_pb2_grpc

PASSWORD = "correct horse battery"
# argon2id as cheap as it gets: what these tests are about is not its cost.
CHEAP_HASHING = {"argon2_time_cost": 1, "argon2_memory_kib": 64, "argon2_parallelism": 1}


@dataclass
class Users:
    """Speaks to one user-service; the principal is what the gateway would sign for an access token."""

    target: Target
    secret: str = in_process.SECRET
    stub: Any = field(init=False)
    keys_stub: Any = field(init=False)

    def __post_init__(self) -> None:
        self.stub = self.target.stub(user_pb2_grpc.UserServiceStub)
        self.keys_stub = self.target.stub(keys_pb2_grpc.SigningKeyServiceStub)

    async def register(self, email: str, password: str = PASSWORD, name: str = "Ann") -> user_pb2.RegisterResponse:
        """Registers."""
        request = user_pb2.RegisterRequest(email=email, password=password, display_name=name)
        return await self.target.call(self.stub.Register, request, idempotent=False)

    async def login(self, email: str, password: str = PASSWORD, device_token: str = "") -> user_pb2.LoginResponse:
        """Logs in."""
        request = user_pb2.LoginRequest(email=email, password=password, device_token=device_token)
        return await self.target.call(self.stub.Login, request, idempotent=False)

    async def operator_login(self, email: str, password: str = PASSWORD) -> user_pb2.OperatorLoginResponse:
        """Logs in at the operators' door."""
        request = user_pb2.OperatorLoginRequest(email=email, password=password)
        return await self.target.call(self.stub.OperatorLogin, request, idempotent=False)

    async def refresh(self, refresh_token: str) -> user_pb2.TokenPair:
        """Refreshes."""
        request = user_pb2.RefreshRequest(refresh_token=refresh_token)
        response: user_pb2.RefreshResponse = await self.target.call(self.stub.Refresh, request, idempotent=False)
        return response.tokens

    async def logout(self, tokens: user_pb2.TokenPair, *, all_sessions: bool = False) -> int:
        """Logs out; returns the number of sessions ended."""
        request = user_pb2.LogoutRequest(all_sessions=all_sessions)
        response: user_pb2.LogoutResponse = await self.target.call(
            self.stub.Logout, request, idempotent=False, principal=self.principal(tokens)
        )
        return int(response.ended_sessions)

    async def profile(self, tokens: user_pb2.TokenPair) -> user_pb2.User:
        """The caller's profile."""
        response: user_pb2.GetProfileResponse = await self.target.call(
            self.stub.GetProfile, user_pb2.GetProfileRequest(), idempotent=True, principal=self.principal(tokens)
        )
        return response.user

    async def keys(self) -> dict[str, keys_pb2.SigningKey]:
        """The published keys by id."""
        response: keys_pb2.ListSigningKeysResponse = await self.target.call(
            self.keys_stub.ListSigningKeys, keys_pb2.ListSigningKeysRequest(), idempotent=True
        )
        return {key.key_id: key for key in response.keys}

    def principal(self, tokens: user_pb2.TokenPair) -> bytes:
        """What the gateway forwards for this access token."""
        said = claims(tokens)
        role = Role.OPERATOR if said["role"] == "operator" else Role.BETTOR
        session, user = uuid.UUID(said["sid"]).bytes, uuid.UUID(said["sub"]).bytes
        return sign(Principal(user, role, session, tokens.access_expires_at_us), bytes.fromhex(self.secret))


def claims(tokens: user_pb2.TokenPair) -> dict[str, Any]:
    """What an access token says, unchecked."""
    return dict(jwt.decode(tokens.access_token, options={"verify_signature": False}))


def session_of(tokens: user_pb2.TokenPair) -> str:
    """The session id of an access token."""
    return str(claims(tokens)["sid"])


Start = Callable[..., AbstractAsyncContextManager[Users]]


@pytest.fixture
def session_id_of() -> Callable[[user_pb2.TokenPair], str]:
    """Reads a session id from an access token."""
    return session_of


@pytest.fixture
def user_settings(database: Any, valkey: Any) -> Callable[..., UserSettings]:
    """Makes settings on this test's database and Valkey; overrides by field name."""

    def make(**overrides: Any) -> UserSettings:
        defaults = {"postgres_dsn": database.dsn, "redis_url": valkey.url, **CHEAP_HASHING}
        made: UserSettings = in_process.settings(UserSettings, **(defaults | overrides))
        return made

    return make


@pytest.fixture
def start(user_settings: Callable[..., UserSettings]) -> Start:
    """Starts a user-service for the length of a block; overrides are settings."""

    @asynccontextmanager
    async def started(**overrides: Any) -> AsyncIterator[Users]:
        settings = user_settings(**overrides)
        async with (
            in_process.running(compose, settings, service="user-service") as address,
            in_process.calling(address, in_flight_max=100) as target,
        ):
            yield Users(target)

    return started


@pytest.fixture
async def users(start: Start) -> AsyncIterator[Users]:
    """A user-service with default settings but cheap hashing."""
    async with start() as client:
        yield client


@pytest.fixture
async def sql(database: Any) -> AsyncIterator[asyncpg.Connection]:
    """A connection to look into the tables."""
    connection = await asyncpg.connect(database.dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def valkey_client(valkey: Any) -> AsyncIterator[redis.asyncio.Redis]:
    """A client to look into Valkey."""
    client = redis.asyncio.Redis.from_url(valkey.url)
    yield client
    await client.aclose()
