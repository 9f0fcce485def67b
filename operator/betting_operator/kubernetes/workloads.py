"""Everything that runs on Kubernetes as pods of a platform: names, modules, ports, and the order of a roll."""

from __future__ import annotations

from dataclasses import dataclass

GRPC_PORT = 7100
HEALTH_PORT = 7101
METRICS_PORT = 7102
HTTP_PORT = 8080
REDIS_PORT = 6379
POSTGRES_PORT = 5432

REDIS = "redis"
# From so many nodes on a primary waits for one replica before it takes a write: one that cannot be reached can be kept
# from writing then. With two nodes the loss of either would stop all writes.
REDIS_QUORUM = 3
POSTGRES = "postgres"
MIGRATE = "migrate"
OPERATOR = "betting-operator"
# A process beside the operator that leads, in its pod: no workload of its own.
HEALER = "healer"
_FED = ("event-service", "odds-service", "settlement-service")


@dataclass(frozen=True)
class Workload:
    """One kind of pod.

    field: its name in spec.services, "" if it has its own place in spec. wave: workloads of one wave roll together, a
    wave after the one before is done. resources: CPU request, memory request, memory limit. elected: of its pods one is
    active, the others stand by: they are ready without serving. scales: whether it may be autoscaled. calls: the
    workloads it connects to.
    """

    name: str
    purpose: str
    module: str = ""
    field: str = ""
    replicas: int = 1
    wave: int = 1
    resources: tuple[str, str, str] = ("20m", "96Mi", "512Mi")
    elected: bool = False
    scales: bool = False
    uses_redis: bool = False
    calls: tuple[str, ...] = ()


# Who calls whom, for settings and network policies: every service and feed calls Postgres too, the healer everybody.
_ALL = (
    Workload(
        "health-monitor",
        "what every instance reports; the first of a roll: nobody bets through it",
        "betting.health",
        "healthMonitor",
        wave=0,
        calls=(
            *("user-service", "wallet-service", "event-service", "odds-service", "settlement-service"),
            *("notification-service", "bet-service", "api-gateway", "season-replay", "the-odds-api"),
        ),
    ),
    Workload(
        *("user-service", "users, sessions, signing keys", "betting.users", "userService"), replicas=2, uses_redis=True
    ),
    Workload(
        *("wallet-service", "deposits, withdrawals, statements", "betting.wallet", "walletService"),
        replicas=2,
        calls=("bet-service",),
    ),
    Workload("event-service", "events, markets, results", "betting.events", "eventService", replicas=2),
    Workload(
        "odds-service",
        "prices; one is active, the others stand by",
        "betting.odds",
        "oddsService",
        replicas=2,
        elected=True,
    ),
    Workload(
        *("settlement-service", "settles markets", "betting.settlement", "settlementService"),
        replicas=2,
        calls=("event-service", "bet-service"),
    ),
    Workload(
        *("notification-service", "messages to users", "betting.notifications", "notificationService"),
        replicas=2,
        uses_redis=True,
    ),
    Workload(
        "bet-service",
        "owns shards: accounts, balances, open bets",
        "betting.bets",
        "betService",
        replicas=2,
        wave=2,
        resources=("100m", "128Mi", "1Gi"),
        scales=True,
        uses_redis=True,
        calls=("odds-service",),
    ),
    Workload(
        "api-gateway",
        "where bettors come in",
        "betting.gateway",
        "apiGateway",
        replicas=2,
        wave=3,
        resources=("50m", "128Mi", "1Gi"),
        scales=True,
        uses_redis=True,
        calls=(
            *("user-service", "wallet-service", "event-service", "odds-service", "settlement-service"),
            *("notification-service", "health-monitor", "bet-service"),
        ),
    ),
    Workload("season-replay", "replays a season", "betting.feeds.replay", wave=3, elected=True, calls=_FED),
    Workload(
        "the-odds-api", "the feed of The Odds API", "betting.feeds.the_odds_api", wave=3, elected=True, calls=_FED
    ),
    Workload(REDIS, "a Redis node", resources=("20m", "64Mi", "512Mi"), calls=(REDIS,)),
    Workload(POSTGRES, "the managed Postgres", resources=("100m", "256Mi", "1Gi")),
    Workload(MIGRATE, "brings the schema up to date", resources=("20m", "96Mi", "512Mi")),
)
WORKLOADS = {each.name: each for each in _ALL}
# What bets go through, and the feeds: what a new version rolls.
PROCESSES = tuple(each for each in _ALL if each.module)
