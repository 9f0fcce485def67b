"""The gateway's own parts put together, given what they lean on: the composition root without connections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from betting.clients.owners import OwnerRouter
from betting.gateway.authentication import Authenticator
from betting.gateway.callers import Callers
from betting.gateway.cors import Cors
from betting.gateway.dispatch import Dispatcher
from betting.gateway.endpoints import Endpoint, Forward, PlaceBets, forwards, owner_endpoints
from betting.gateway.fastlane import FastLane
from betting.gateway.front import Connections
from betting.gateway.heads import Correlations, HeadReader
from betting.gateway.keys import SigningKeys
from betting.gateway.limiter import Limiter
from betting.gateway.listener import Listener
from betting.gateway.methods import public_methods
from betting.gateway.pages import Pages
from betting.gateway.revocations import RevokedSessions
from betting.gateway.server import HttpServer
from betting.gateway.settings import GatewaySettings
from betting.runtime.client import Target


@dataclass(frozen=True)
class Gateway:
    """What the composition root needs to run and to watch."""

    listener: Listener
    connections: Connections
    callers: Callers
    revoked: RevokedSessions
    limiter: Limiter
    dispatcher: Dispatcher
    fast: FastLane
    http: HttpServer
    authenticator: Authenticator
    endpoints: Mapping[str, Endpoint]


def assemble(
    settings: GatewaySettings,
    *,
    router: OwnerRouter,
    targets: Mapping[str, Target | None],
    keys: SigningKeys,
    settled_bets: Endpoint,
) -> Gateway:
    """Builds the gateway.

    targets: the peer of each public service by its full name, None for one that is not installed;
    settled_bets: answers BetService.ListSettledBets.
    """
    methods = public_methods()
    limiter = Limiter(settings)
    callers = Callers(settings.tokens_cached_max)
    revoked = RevokedSessions()
    authenticator = Authenticator(
        keys=keys,
        revoked=revoked,
        callers=callers,
        limiter=limiter,
        secret=settings.internal_secret_bytes,
        shard_count=settings.shard_count,
        grace_s=settings.request_timeout_max.total_seconds(),
    )
    forwarded = forwards(methods, targets)
    to_owners = owner_endpoints(router, settings.currency_codes)
    endpoints: dict[str, Endpoint] = {
        **forwarded,
        **to_owners,
        "/betting.v1.BetService/PlaceBets": PlaceBets(router, settings.currency_codes),
        "/betting.v1.BetService/ListSettledBets": settled_bets,
    }
    dispatcher = Dispatcher(endpoints, _streams(forwarded), settings.requests_max)
    correlations = Correlations()
    fast = FastLane(to_owners, dispatcher, correlations)
    pages = Pages(methods, lambda: _missing(router, keys))
    http = HttpServer(
        heads=HeadReader(methods, authenticator, limiter, Cors(settings.cors_origins), settings),
        dispatcher=dispatcher,
        fast=fast,
        pages=pages,
        correlations=correlations,
        settings=settings,
    )
    connections = Connections(settings.connections_max)
    listener = Listener(http, fast, pages, connections, settings)
    return Gateway(
        listener=listener,
        connections=connections,
        callers=callers,
        revoked=revoked,
        limiter=limiter,
        dispatcher=dispatcher,
        fast=fast,
        http=http,
        authenticator=authenticator,
        endpoints=endpoints,
    )


def _streams(forwarded: Mapping[str, Forward]) -> dict[str, Forward]:
    streaming = {path for path, method in public_methods().items() if method.streams}
    return {path: forward for path, forward in forwarded.items() if path in streaming}


def _missing(router: OwnerRouter, keys: SigningKeys) -> list[str]:
    """What keeps this gateway from being ready: it must have known owners and keys once, whatever is wrong now."""
    missing = []
    if not router.knows_shards:
        missing.append("shard directory")
    if not len(keys):
        missing.append("signing keys")
    return missing
