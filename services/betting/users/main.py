"""Composition root of user-service."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import asyncpg
import redis.asyncio

from betting.internal.v1 import keys_pb2_grpc
from betting.runtime.service import Composition, ServiceContext, Servicer
from betting.users import tokens
from betting.users.accounts import Accounts, Devices
from betting.users.issuing import Issuer
from betting.users.janitor import Janitor
from betting.users.keyring import Keyring
from betting.users.operators import OperatorBootstrap
from betting.users.passwords import Passwords
from betting.users.revocations import RevocationPublisher
from betting.users.servicer import SigningKeyServicer, UserServicer
from betting.users.session_cache import SessionCache
from betting.users.sessions import Sessions, Successors
from betting.users.settings import UserSettings
from betting.users.store import UserStore
from betting.users.throttle import LoginThrottle
from betting.v1 import user_pb2_grpc

_US: Final = timedelta(microseconds=1)


@dataclass(frozen=True)
class Parts:
    """The objects of the service, for its composition root and for tests."""

    keyring: Keyring
    passwords: Passwords
    announcer: RevocationPublisher
    janitor: Janitor
    sessions: Sessions
    accounts: Accounts
    operators: OperatorBootstrap


async def compose(context: ServiceContext[UserSettings]) -> Composition:
    """Waits for Postgres and a signing key, makes sure the operator exists; starts without Valkey."""
    settings = context.settings
    parts = build(context, await context.postgres(), await context.redis())
    await parts.keyring.refresh()
    if settings.operator_email:
        await parts.operators.ensure(settings.operator_email, settings.operator_password.get_secret_value())
    return Composition(
        servicers=[
            Servicer(
                user_pb2_grpc.add_UserServiceServicer_to_server,
                UserServicer(parts.accounts, parts.sessions),
                "betting.v1.UserService",
            ),
            Servicer(
                keys_pb2_grpc.add_SigningKeyServiceServicer_to_server,
                SigningKeyServicer(parts.keyring),
                "betting.internal.v1.SigningKeyService",
                quiet_methods=frozenset({"ListSigningKeys"}),
            ),
        ],
        background=[parts.keyring.run, parts.announcer.run, parts.janitor.run],
        on_close=[parts.passwords.close],
    )


def build(context: ServiceContext[UserSettings], pool: asyncpg.Pool, client: redis.asyncio.Redis) -> Parts:
    """Makes the parts; connects to nothing."""
    settings, now_us = context.settings, context.clock.now_us
    policy = settings.keys()
    keyring = Keyring(pool, settings.internal_secret_bytes, policy, now_us)
    passwords = Passwords(settings.hashing())
    # A session's last access token is signed before it ends, and clocks differ a little.
    store = UserStore(pool, relevant_after_us=policy.token_lifetime_us + policy.slack_us)
    announcer = RevocationPublisher(pool, client, now_us)
    issuer = Issuer(keyring, settings.lifetimes(), now_us)
    secret, lifetimes = settings.internal_secret_bytes, settings.lifetimes()
    successors = Successors(tokens.derived_key(secret, "refresh successors"), settings.refresh_reuse_window // _US)
    sessions = Sessions(store, SessionCache(client), announcer, issuer, successors, now_us)
    devices = Devices(tokens.derived_key(secret, "devices"), lifetimes.session_us)
    throttle = settings.throttle()
    return Parts(
        keyring=keyring,
        passwords=passwords,
        announcer=announcer,
        janitor=Janitor(pool, login_window_us=throttle.window_us, network_kept_us=lifetimes.session_us, now_us=now_us),
        sessions=sessions,
        accounts=Accounts(store, passwords, LoginThrottle(pool, throttle), devices, issuer, now_us),
        operators=OperatorBootstrap(store, passwords, sessions, now_us),
    )
