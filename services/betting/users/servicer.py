"""UserService and SigningKeyService over gRPC."""

from __future__ import annotations

import uuid
from typing import Any, Final

import grpc

from betting.internal.v1 import keys_pb2, keys_pb2_grpc
from betting.runtime.context import SOURCE_KEY
from betting.runtime.principal import require_user
from betting.users.accounts import Accounts, SignedIn
from betting.users.keyring import Keyring
from betting.users.model import EndReason, TokenPair, User
from betting.users.sessions import Sessions
from betting.users.throttle import LoginKind
from betting.v1 import user_pb2, user_pb2_grpc

SOURCE_LENGTH_MAX: Final = 64

Context = grpc.aio.ServicerContext[Any, Any]


class UserServicer(user_pb2_grpc.UserServiceServicer):
    """betting.v1.UserService."""

    def __init__(self, accounts: Accounts, sessions: Sessions) -> None:
        self._accounts = accounts
        self._sessions = sessions

    async def Register(self, request: user_pb2.RegisterRequest, context: Context) -> user_pb2.RegisterResponse:
        """Creates a bettor and its first session.

        Raises ALREADY_EXISTS, INVALID_ARGUMENT, and what `Accounts.register` may.
        """
        signed_in = await self._accounts.register(
            request.email, request.password, request.display_name, source_of(context)
        )
        return user_pb2.RegisterResponse(
            user=_user(signed_in.user), tokens=_tokens(signed_in.tokens), device_token=signed_in.device_token
        )

    async def Login(self, request: user_pb2.LoginRequest, context: Context) -> user_pb2.LoginResponse:
        """Opens a session for a bettor. Raises what `Accounts.login` may."""
        signed_in = await self._logged_in(request, context, LoginKind.EVERYONE)
        return user_pb2.LoginResponse(
            user=_user(signed_in.user), tokens=_tokens(signed_in.tokens), device_token=signed_in.device_token
        )

    async def OperatorLogin(
        self, request: user_pb2.OperatorLoginRequest, context: Context
    ) -> user_pb2.OperatorLoginResponse:
        """Opens a session for an operator; bettors are refused as with a wrong password, and limits count apart."""
        signed_in = await self._logged_in(request, context, LoginKind.OPERATORS)
        return user_pb2.OperatorLoginResponse(
            user=_user(signed_in.user), tokens=_tokens(signed_in.tokens), device_token=signed_in.device_token
        )

    async def Refresh(self, request: user_pb2.RefreshRequest, context: Context) -> user_pb2.RefreshResponse:
        """A new token pair for a refresh token."""
        return user_pb2.RefreshResponse(tokens=_tokens(await self._sessions.refresh(request.refresh_token)))

    async def Logout(self, request: user_pb2.LogoutRequest, context: Context) -> user_pb2.LogoutResponse:
        """Ends the caller's session, or all of the caller's sessions; returns how many ended."""
        user_id, session_id = _caller(context)
        if request.all_sessions:
            ended = await self._sessions.end(user_id, None, EndReason.LOGOUT_ALL)
        else:
            ended = await self._sessions.end(user_id, session_id, EndReason.LOGOUT)
        return user_pb2.LogoutResponse(ended_sessions=ended)

    async def GetProfile(self, request: user_pb2.GetProfileRequest, context: Context) -> user_pb2.GetProfileResponse:
        """The profile of the caller, while its session has not ended."""
        user_id, session_id = _caller(context)
        return user_pb2.GetProfileResponse(user=_user(await self._sessions.user(user_id, session_id)))

    async def _logged_in(
        self, request: user_pb2.LoginRequest | user_pb2.OperatorLoginRequest, context: Context, login_kind: LoginKind
    ) -> SignedIn:
        return await self._accounts.login(
            request.email, request.password, source_of(context), request.device_token, login_kind
        )


class SigningKeyServicer(keys_pb2_grpc.SigningKeyServiceServicer):
    """betting.internal.v1.SigningKeyService."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def ListSigningKeys(
        self, request: keys_pb2.ListSigningKeysRequest, context: Context
    ) -> keys_pb2.ListSigningKeysResponse:
        """The public keys, newest first; no secret in them."""
        keys = [
            keys_pb2.SigningKey(key_id=key.key_id, public_key=key.public_key, not_after_us=key.not_after_us)
            for key in self._keyring.published()
        ]
        return keys_pb2.ListSigningKeysResponse(keys=keys)


def source_of(context: Context) -> str:
    """The network address of the client, from the metadata of the gateway; "" if there is none."""
    for key, value in context.invocation_metadata() or ():
        if key == SOURCE_KEY:
            return str(value)[:SOURCE_LENGTH_MAX]
    return ""


def _caller(context: Context) -> tuple[uuid.UUID, uuid.UUID]:
    principal = require_user(context)
    assert principal.user_id is not None, "require_user has checked it"
    return uuid.UUID(bytes=principal.user_id), uuid.UUID(bytes=principal.session_id)


def _user(user: User) -> user_pb2.User:
    return user_pb2.User(
        user_id=str(user.user_id),
        email=user.email,
        display_name=user.display_name,
        created_at_us=user.created_at_us,
    )


def _tokens(pair: TokenPair) -> user_pb2.TokenPair:
    return user_pb2.TokenPair(
        access_token=pair.access_token,
        access_expires_at_us=pair.access_expires_at_us,
        refresh_token=pair.refresh_token,
        refresh_expires_at_us=pair.refresh_expires_at_us,
    )
