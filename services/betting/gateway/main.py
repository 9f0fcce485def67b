"""The composition root of the gateway."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from betting.clients.owners import OwnerRouter, RouterLimits, open_router
from betting.gateway.authentication import Authenticator, Callers, SigningKeys
from betting.gateway.connections import Connections
from betting.gateway.dispatch import Dispatcher
from betting.gateway.endpoints import Endpoint, Forward, ListSettledBets, PlaceBets, forwards, owner_endpoints
from betting.gateway.fast_path import FastPath
from betting.gateway.heads import Correlations, Cors, HeadReader
from betting.gateway.limits import Limiter
from betting.gateway.listener import Listener
from betting.gateway.live import server as live_server
from betting.gateway.live.bets import LiveBets
from betting.gateway.live.odds import LiveOdds
from betting.gateway.live.server import LiveServer
from betting.gateway.methods import public_methods
from betting.gateway.pages import Pages
from betting.gateway.revocations import RevocationFeed, RevokedSessions
from betting.gateway.server import HttpServer
from betting.gateway.settings import GatewaySettings
from betting.internal.v1 import keys_pb2, keys_pb2_grpc
from betting.journal import connection as journal_connection
from betting.runtime import metrics
from betting.runtime.client import Target
from betting.runtime.errors import unavailable
from betting.runtime.service import Composition, ServiceContext, run_service


@dataclass(frozen=True)
class Gateway:
    """The parts of the gateway that the composition root runs and watches."""

    listener: Listener
    connections: Connections
    callers: Callers
    revoked: RevokedSessions
    limiter: Limiter
    dispatcher: Dispatcher
    fast: FastPath
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
    dispatcher = Dispatcher(endpoints, _streams(forwarded), settings)
    correlations = Correlations()
    fast = FastPath(to_owners, dispatcher, correlations)
    pages = Pages(methods, lambda: _missing(router, keys))
    http = HttpServer(
        heads=HeadReader(methods, authenticator, limiter, Cors(settings.cors_origins, settings.cors_headers), settings),
        dispatcher=dispatcher,
        fast=fast,
        pages=pages,
        correlations=correlations,
        settings=settings,
    )
    connections = Connections(settings)
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
    """What the gateway lacks to be ready: it must have read owners and keys once."""
    missing = []
    if not router.knows_shards:
        missing.append("shard directory")
    if not len(keys):
        missing.append("signing keys")
    return missing


SERVICE_NAME = "api-gateway"
# What the calls of many browsers share: more than a service's usual ten.
_FORWARDS_IN_FLIGHT = 64
_FORWARDS_QUEUED = 1_000
_KEYS_TIMEOUT_S = 2.0
# Requests leave few cycles behind: the collector may look less often than its default of 700 allocations.
_GC_THRESHOLD = (50_000, 20, 100)


async def compose(context: ServiceContext[GatewaySettings]) -> Composition:
    """Puts the gateway together and opens its HTTP port. Raises PortBusyError."""
    settings = context.settings
    pool = await context.postgres(init=journal_connection.prepare)
    router = await open_router(context, limits=RouterLimits(max_waiting_per_shard=settings.held_per_shard_max))
    redis = await context.redis()
    targets = _targets(context)
    keys = SigningKeys(lambda: _fetch_keys(context, targets["betting.v1.UserService"]))
    settled_bets = ListSettledBets(pool, settings.currency_codes)
    gateway = assemble(settings, router=router, targets=targets, keys=keys, settled_bets=settled_bets)
    feed = RevocationFeed(redis, gateway.revoked, gateway.callers.revoke)
    live = LiveServer(
        authenticator=gateway.authenticator,
        get_bet=gateway.endpoints["/betting.v1.BetService/GetBet"],
        odds=LiveOdds(targets["betting.v1.OddsService"]),
        make_bets=lambda too_slow: LiveBets(redis, pool, settings.shard_count, too_slow),
        settings=settings,
    )
    gateway.http.mount(live_server.PREFIX, live.handle)
    listener = gateway.listener
    await listener.open()
    _gauges(router, gateway)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLD)
    return Composition(
        servicers=[],
        background=[
            *router.background,
            keys.run,
            feed.run,
            lambda: gateway.limiter.run(redis),
            listener.sweep,
            live.run,
        ],
        on_refuse=[listener.refuse],
        on_drain=[live.drain, listener.drain],
        on_close=[listener.close, router.close],
    )


def main() -> None:
    """Runs the gateway until it is stopped."""
    run_service(SERVICE_NAME, compose, GatewaySettings)


def _targets(context: ServiceContext[GatewaySettings]) -> dict[str, Target | None]:
    """The peers by the service they serve; None for one that has no address here."""
    settings = context.settings
    peers = {
        "betting.v1.UserService": ("user-service", settings.user_service),
        "betting.v1.WalletService": ("wallet-service", settings.wallet_service),
        "betting.v1.EventService": ("event-service", settings.event_service),
        "betting.v1.OddsService": ("odds-service", settings.odds_service),
        "betting.v1.SettlementService": ("settlement-service", settings.settlement_service),
        "betting.v1.NotificationService": ("notification-service", settings.notification_service),
        "betting.v1.HealthMonitorService": ("health-monitor", settings.health_monitor),
    }
    return {service: _target(context, name, address) for service, (name, address) in peers.items()}


def _target(context: ServiceContext[GatewaySettings], name: str, address: str) -> Target | None:
    if not address:
        context.log.warning("service not configured", service=name)
        return None
    return context.target(name, address, in_flight_max=_FORWARDS_IN_FLIGHT, queued_max=_FORWARDS_QUEUED)


async def _fetch_keys(context: ServiceContext[GatewaySettings], users: Target | None) -> Sequence[keys_pb2.SigningKey]:
    if users is None:
        raise unavailable("SERVICE_NOT_CONFIGURED", "user-service is not part of this installation")
    reply: keys_pb2.ListSigningKeysResponse = await users.call(
        users.stub(keys_pb2_grpc.SigningKeyServiceStub).ListSigningKeys,
        keys_pb2.ListSigningKeysRequest(),
        timeout_s=_KEYS_TIMEOUT_S,
        idempotent=True,
        principal=context.service_token(),
    )
    return reply.keys


def _gauges(router: OwnerRouter, gateway: Gateway) -> None:
    connections, callers, dispatcher = gateway.connections, gateway.callers, gateway.dispatcher
    metrics.gauge("betting_gateway_connections", "Open HTTP connections").set_function(lambda: len(connections))
    metrics.gauge("betting_gateway_requests", "Requests in flight").set_function(lambda: len(dispatcher.requests))
    metrics.gauge("betting_gateway_streams", "Open streams").set_function(lambda: len(dispatcher.streams))
    for name, text, count in (
        ("refused", "Connections that got no place", lambda: connections.refused_total),
        ("ended_for_others", "Idle connections ended for new ones", lambda: connections.ended_for_others_total),
    ):
        metrics.gauge(f"betting_gateway_connections_{name}_total", text).set_function(count)
    metrics.gauge("betting_gateway_cached_tokens", "Verified tokens in the cache").set_function(lambda: len(callers))
    for name, text in (
        ("waiting", "Commands that wait for a shard's owner"),
        ("in_flight", "Commands on their way to an owner"),
        ("calls_total", "Calls made to owners"),
        ("commands_total", "Commands sent to owners"),
        ("repeats_total", "Commands sent again, to the same or another owner"),
        ("expired_total", "Commands whose caller's deadline passed"),
    ):
        metrics.gauge(f"betting_router_{name}", text).set_function(_statistic(router, name))


def _statistic(router: OwnerRouter, name: str) -> Callable[[], float]:
    return lambda: float(getattr(router.statistics(), name))
