"""A BettingPlatform as values. The API server has filled in the defaults and checked the rules (`schema`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from betting.release import version
from betting_operator.healing.maintenance import Window
from betting_operator.healing.policy import Policy, Rebalancing, ServiceLimits
from betting_operator.kubernetes.schema import defaulted
from betting_operator.kubernetes.workloads import PROCESSES, WORKLOADS, Workload


@dataclass(frozen=True)
class SecretKey:
    """One key of a Secret in the platform's namespace."""

    name: str
    key: str


@dataclass(frozen=True)
class Resources:
    """CPU request, memory request and memory limit, as quantities."""

    cpu: str
    memory: str
    memory_limit: str


@dataclass(frozen=True)
class Autoscaling:
    """Bounds, and the wanted use: CPU and memory in percent of the requests, accepted bets of a pod per second."""

    least: int
    most: int
    cpu_percent: int
    memory_percent: int
    bets_per_second: int | None = None


@dataclass(frozen=True)
class Service:
    """How one service runs."""

    workload: Workload
    replicas: int
    resources: Resources
    settings: Mapping[str, str]
    autoscaling: Autoscaling | None


@dataclass(frozen=True)
class Image:
    """reference: repository:tag or repository@digest, with its registry."""

    reference: str
    pull_policy: str
    pull_secrets: tuple[str, ...]


@dataclass(frozen=True)
class ManagedPostgres:
    """The Postgres that the operator makes."""

    storage: str
    storage_class: str
    max_connections: int
    resources: Resources


@dataclass(frozen=True)
class ManagedRedis:
    """The Redis nodes that the operator makes."""

    replicas: int
    max_memory_mib: int
    resources: Resources


@dataclass(frozen=True)
class External:
    """A server that is somebody else's: where its address is, and the networks it may be in."""

    address: SecretKey
    cidrs: tuple[str, ...]


@dataclass(frozen=True)
class Ingress:
    """The Ingress of the gateway."""

    class_name: str
    host: str
    tls_secret: str
    annotations: Mapping[str, str]


@dataclass(frozen=True)
class GatewayAccess:
    """How bettors reach the gateway. sources: peers of a NetworkPolicy, none: everybody."""

    service_type: str
    node_port: int | None
    annotations: Mapping[str, str]
    ingress: Ingress | None
    trusted_proxies: int
    sources: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Feed:
    """A feed that runs: its settings, and those that come from Secrets."""

    workload: Workload
    settings: Mapping[str, str]
    secrets: Mapping[str, SecretKey]


@dataclass(frozen=True)
class Scheduling:
    """Where pods run."""

    zone_spread: str
    node_selector: Mapping[str, str]
    tolerations: Sequence[Mapping[str, Any]]
    priority_class: str


@dataclass(frozen=True)
class Healing:
    """Whether the healer runs, and what it may do."""

    enabled: bool
    policy: Policy


@dataclass(frozen=True)
class Platform:
    """One BettingPlatform. uid: of the object, which its objects name as their owner. scrapers: who may read metrics,
    peers of a NetworkPolicy, none: nobody."""

    namespace: str
    name: str
    uid: str
    generation: int
    image: Image
    shard_count: int
    currencies: tuple[str, ...]
    play_money: bool
    services: tuple[Service, ...]
    feeds: tuple[Feed, ...]
    postgres: ManagedPostgres | External
    redis: ManagedRedis | External
    gateway: GatewayAccess
    healing: Healing
    scheduling: Scheduling
    scrapers: Sequence[Mapping[str, Any]]
    network_policies: bool
    paused: bool
    keeps_data: bool

    def object_name(self, workload: str) -> str:
        """The name of the objects of one workload: demo-bet-service."""
        return f"{self.name}-{workload}"

    def service(self, name: str) -> Service:
        """The service of that name."""
        return next(each for each in self.services if each.workload.name == name)


def parse(resource: Mapping[str, Any], own_image: Image) -> Platform:
    """The values of a BettingPlatform object, as the API server returns it. own_image: the operator's."""
    metadata, spec = resource["metadata"], defaulted(resource.get("spec"))
    gateway, feeds, scheduling, healing = spec["gateway"], spec["feeds"], spec["scheduling"], spec["healing"]
    return Platform(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 1),
        image=_image(spec["image"], own_image),
        shard_count=spec["shardCount"],
        currencies=tuple(spec["currencies"]),
        play_money=spec["playMoney"],
        services=tuple(_service(each, spec["services"][each.field]) for each in PROCESSES if each.field),
        feeds=tuple(_feeds(feeds)),
        postgres=_postgres(spec["database"]),
        redis=_redis(spec["redis"]),
        gateway=GatewayAccess(
            service_type=gateway["service"]["type"],
            node_port=gateway["service"].get("nodePort"),
            annotations=gateway["service"]["annotations"],
            ingress=_ingress(gateway.get("ingress")),
            trusted_proxies=gateway["trustedProxies"],
            sources=tuple(gateway["from"]),
        ),
        healing=Healing(healing["enabled"], _policy(healing)),
        scheduling=Scheduling(
            zone_spread=scheduling["zoneSpread"],
            node_selector=scheduling["nodeSelector"],
            tolerations=tuple(scheduling["tolerations"]),
            priority_class=scheduling["priorityClassName"],
        ),
        scrapers=tuple(spec["metrics"]["scrapeFrom"]),
        network_policies=spec["networkPolicies"],
        paused=spec["paused"],
        keeps_data=spec["deletionPolicy"] == "Retain",
    )


def referenced_secrets(platform: Platform) -> tuple[SecretKey, ...]:
    """The keys of Secrets that are not ours to make."""
    found = [each.address for each in (platform.postgres, platform.redis) if isinstance(each, External)]
    return (*found, *(key for feed in platform.feeds for key in feed.secrets.values()))


def _image(image: Mapping[str, Any], own: Image) -> Image:
    pull_secrets = tuple(dict.fromkeys((*own.pull_secrets, *image.get("pullSecrets", ()))))
    if not image["repository"]:
        return Image(own.reference, image["pullPolicy"], pull_secrets)
    suffix = f"@{image['digest']}" if image.get("digest") else f":{image['tag'] or version()}"
    return Image(image["repository"] + suffix, image["pullPolicy"], pull_secrets)


def _resources(found: Mapping[str, str]) -> Resources:
    return Resources(found["cpu"], found["memory"], found["memoryLimit"])


def _service(workload: Workload, found: Mapping[str, Any]) -> Service:
    scaling = found.get("autoscaling")
    return Service(
        workload=workload,
        replicas=found["replicas"],
        resources=_resources(found["resources"]),
        settings=found["settings"],
        autoscaling=None
        if scaling is None
        else Autoscaling(
            least=scaling["minReplicas"],
            most=scaling["maxReplicas"],
            cpu_percent=scaling["cpuPercent"],
            memory_percent=scaling["memoryPercent"],
            bets_per_second=scaling.get("betsPerSecond"),
        ),
    )


def _feeds(feeds: Mapping[str, Any]) -> list[Feed]:
    found = []
    if (replay := feeds.get("seasonReplay")) is not None:
        settings = {"BETTING_SEASON": replay["season"], "BETTING_SPEED": replay["speed"]}
        found.append(Feed(WORKLOADS["season-replay"], settings, {}))
    if (odds := feeds.get("theOddsApi")) is not None:
        settings = {"BETTING_ODDS_API_SPORTS": odds["sports"]}
        secrets = {"BETTING_ODDS_API_KEY": _secret_key(odds["keySecret"])}
        found.append(Feed(WORKLOADS["the-odds-api"], settings, secrets))
    return found


def _policy(healing: Mapping[str, Any]) -> Policy:
    names = {each.field: each.name for each in PROCESSES if each.field}
    return Policy(
        paused=healing["paused"],
        dry_run=healing["dryRun"],
        disruptions_per_window=healing["budget"],
        cool_down_ms=1_000 * healing["coolDownSeconds"],
        services=tuple(
            ServiceLimits(names[name], each.get("budget", healing["budget"]), each["minHealthyPercent"])
            for name, each in sorted(healing["services"].items())
            if name in names  # the CRD may be newer than the operator
        ),
        rebalancing=Rebalancing(healing["rebalancing"]),
        windows=tuple(window(each) for each in healing["maintenanceWindows"]),
    )


def window(found: Mapping[str, Any]) -> Window:
    """A time of the week."""
    hours, _, minutes = found["start"].partition(":")
    return Window(tuple(found["days"]), 60 * int(hours) + int(minutes), found["durationMinutes"])


def _secret_key(found: Mapping[str, str]) -> SecretKey:
    return SecretKey(found["name"], found["key"])


def _postgres(database: Mapping[str, Any]) -> ManagedPostgres | External:
    if (external := database.get("external")) is not None:
        return External(_secret_key(external["dsnSecret"]), tuple(external.get("cidrs", ())))
    managed = database[_MANAGED]
    return ManagedPostgres(
        storage=managed["storage"],
        storage_class=managed["storageClassName"],
        max_connections=managed["maxConnections"],
        resources=_resources(managed["resources"]),
    )


def _redis(redis: Mapping[str, Any]) -> ManagedRedis | External:
    if (external := redis.get("external")) is not None:
        return External(_secret_key(external["urlSecret"]), tuple(external.get("cidrs", ())))
    managed = redis[_MANAGED]
    return ManagedRedis(managed["replicas"], managed["maxMemoryMiB"], _resources(managed["resources"]))


_MANAGED = "managed"


def _ingress(found: Mapping[str, Any] | None) -> Ingress | None:
    if found is None:
        return None
    return Ingress(found["className"], found["host"], found["tlsSecret"], found["annotations"])
