"""Spec to manifests, purely: the Secrets made once, managed Postgres and Redis, and the migration of the schema."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from betting_operator.kubernetes.manifests import (
    INTERNAL_SECRET,
    OPERATOR_EMAIL,
    OPERATOR_LOGIN_SECRET,
    SECRETS_ANNOTATION,
    TEMPLATE_ANNOTATION,
    TMP_SIZE_MIB,
    Addresses,
    Manifest,
    container_resources,
    digest,
    labels,
    manifest,
    pod_spec,
    secret_env,
    selector,
    spread,
)
from betting_operator.kubernetes.spec import External, ManagedPostgres, ManagedRedis, Platform, Resources, SecretKey
from betting_operator.kubernetes.workloads import (
    MIGRATE,
    OPERATOR,
    POSTGRES,
    POSTGRES_PORT,
    REDIS,
    REDIS_PORT,
    REDIS_QUORUM,
    WORKLOADS,
)

# Kubernetes puts it on every pod of a StatefulSet.
POD_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
DATABASE = "betting"
# Has the address of an external database that is in use: what pods are started with, also while the Secret of the spec
# has an address that is not accepted.
ADDRESS_IN_USE = "database-address"
DSN_KEY = "dsn"
DATABASE_USER = "betting"
# Postgres: a checkpoint may have to be written. Redis keeps nothing.
POSTGRES_GRACE_PERIOD_S = 60
REDIS_GRACE_PERIOD_S = 10
# Exit code 0 while the server answers anything, also that it recovers or loads its data: then it is left alone.
REDIS_ALIVE = ["python", "-m", "betting.containers.probe", "redis"]
# pg_isready: 0 accepts, 1 rejects, 2 no answer, 3 not asked.
_ISREADY = f"pg_isready --quiet --host=127.0.0.1 --username={DATABASE_USER} --dbname={DATABASE} --timeout=3"
POSTGRES_ALIVE = ["sh", "-c", f"{_ISREADY}; [ $? -ne 2 ]"]
# Each leaves a pod to look at. After the last one, some ten minutes later, the operator makes the Job anew: a wrong
# address or a database that is away is tried for as long as the platform is there.
MIGRATION_RETRIES = 6
# An attempt waits so long for the database to answer: the Job's next one comes after a pause that doubles each time.
MIGRATION_WAIT_S = 60


@dataclass(frozen=True)
class _Server:
    """What a managed server has of its own.

    alive: a command with exit code 0 while it may be left alone. found_unready: whether its Service has all its pods,
    also those that are not ready.
    """

    workload: str
    port: int
    alive: Sequence[str]
    starts_within_s: int
    found_unready: bool


# Before Postgres answers anything the cluster is made, or recovered alone to change its password.
_POSTGRES = _Server(POSTGRES, POSTGRES_PORT, POSTGRES_ALIVE, starts_within_s=1800, found_unready=False)
# Clients look for the primary among all nodes.
_REDIS = _Server(REDIS, REDIS_PORT, REDIS_ALIVE, starts_within_s=60, found_unready=True)


def addresses(platform: Platform, hashes: Mapping[str, str]) -> Addresses:
    """Where the platform's processes find Postgres and Redis. hashes: of the Secrets' data, by name."""
    redis = platform.redis
    return Addresses(
        _address_in_use(platform),
        redis.address if isinstance(redis, External) else SecretKey(platform.object_name(REDIS), "url"),
        hashes,
    )


def _address_in_use(platform: Platform) -> SecretKey:
    is_external = isinstance(platform.postgres, External)
    return SecretKey(platform.object_name(ADDRESS_IN_USE if is_external else POSTGRES), DSN_KEY)


def dsn_in_use(platform: Platform, found: Mapping[str, Manifest]) -> str:
    """The address of the database that the platform works with; of an external one that has not been used yet, the one
    of the spec. "" while there is none. found: Secrets by name."""
    key = _address_in_use(platform)
    in_use = decoded(found[key.name]).get(key.key, "") if key.name in found else ""
    return in_use or given_dsn(platform, found)


def given_dsn(platform: Platform, found: Mapping[str, Manifest]) -> str:
    """The address in the Secret that the spec names for an external database; "" while there is none."""
    if not isinstance(platform.postgres, External):
        return ""
    key = platform.postgres.address
    return decoded(found[key.name]).get(key.key, "") if key.name in found else ""


def secrets(
    platform: Platform, existing: Mapping[str, Manifest], new_password: Callable[[], str], external_dsn: str
) -> list[Manifest]:
    """The Secrets of the platform: what exists in them stays, what is missing is made.

    They have an owner only where data may be deleted with the platform: garbage collection would take passwords whose
    databases are kept. existing: Secrets by name. new_password: makes one of at least 32 random bytes, as hexadecimal
    digits. external_dsn: the address of an external database, of which the platform's processes get a copy.
    """
    found = [
        _secret(platform, INTERNAL_SECRET, OPERATOR, existing, {"secret": new_password}),
        _secret(
            platform,
            OPERATOR_LOGIN_SECRET,
            "user-service",
            existing,
            {"email": lambda: OPERATOR_EMAIL, "password": new_password},
        ),
    ]
    if isinstance(platform.postgres, ManagedPostgres):
        host = platform.object_name(POSTGRES)

        def dsn(password: str) -> str:
            return f"postgresql://{DATABASE_USER}:{password}@{host}:{POSTGRES_PORT}/{DATABASE}"

        found.append(_with_address(platform, POSTGRES, existing, new_password, DSN_KEY, dsn))
    else:
        name = platform.object_name(ADDRESS_IN_USE)
        found.append(_secret_with(platform, name, POSTGRES, {DSN_KEY: external_dsn}, owned=True))
    if isinstance(platform.redis, ManagedRedis):

        def url(password: str) -> str:
            # The headless Service stands for all nodes: their number may change, and no client needs to start anew.
            return f"redis+dns://:{password}@{platform.object_name(REDIS)}:{REDIS_PORT}/0"

        found.append(_with_address(platform, REDIS, existing, new_password, "url", url))
    return found


def decoded(secret: Manifest) -> dict[str, str]:
    """The values of a Secret, as text. A Secret of somebody else may have others in it, such as a key store."""
    return {key: base64.b64decode(value).decode(errors="replace") for key, value in (secret.get("data") or {}).items()}


def _secret(
    platform: Platform,
    name: str,
    workload: str,
    existing: Mapping[str, Manifest],
    wanted: Mapping[str, Callable[[], str]],
) -> Manifest:
    full_name = platform.object_name(name)
    have = decoded(existing[full_name]) if full_name in existing else {}
    return _secret_with(platform, full_name, workload, {key: have.get(key) or make() for key, make in wanted.items()})


def _with_address(
    platform: Platform,
    workload: str,
    existing: Mapping[str, Manifest],
    new_password: Callable[[], str],
    key: str,
    address: Callable[[str], str],
) -> Manifest:
    """A password, and an address that is made of it."""
    name = platform.object_name(workload)
    have = decoded(existing[name]) if name in existing else {}
    password = have.get("password") or new_password()
    return _secret_with(platform, name, workload, {"password": password, key: address(password)})


def _secret_with(
    platform: Platform, name: str, workload: str, values: Mapping[str, str], *, owned: bool | None = None
) -> Manifest:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    owned = not platform.keeps_data if owned is None else owned
    return manifest(platform, "v1", "Secret", name, workload, owned=owned, type="Opaque", data=data)


def postgres(platform: Platform, managed: ManagedPostgres) -> list[Manifest]:
    """A StatefulSet of one, and its Service. Its pod is changed only when somebody deletes it: bets need it."""
    claim: Manifest = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "labels": selector(platform, POSTGRES)},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": managed.storage}},
        },
    }
    if managed.storage_class:
        claim["spec"]["storageClassName"] = managed.storage_class
    container = {
        **_container(platform, _POSTGRES, managed.resources, "MAX_CONNECTIONS", managed.max_connections),
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "shm", "mountPath": "/dev/shm"}],  # noqa: S108
        # SIGTERM is Postgres' smart shutdown, which waits for every session to end.
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "kill -INT 1 && sleep infinity"]}}},
    }
    pod = pod_spec(platform, POSTGRES, container, terminationGracePeriodSeconds=POSTGRES_GRACE_PERIOD_S)
    # A container's own /dev/shm has 64 MiB, which parallel queries may exceed; what is in this one counts as memory.
    pod["volumes"].append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}})
    pod["securityContext"]["fsGroup"] = pod["securityContext"]["runAsGroup"]
    pod["securityContext"]["fsGroupChangePolicy"] = "OnRootMismatch"
    return _stateful_set(platform, _POSTGRES, pod, replicas=1, claims=[claim])


def redis(platform: Platform, managed: ManagedRedis, primary: str) -> list[Manifest]:
    """A StatefulSet, its headless Service, and the Service of the primary. primary: name of its pod, "" if unknown.

    Every node boots fenced, as a replica of nobody: the healer says which is primary.
    """
    container = _container(platform, _REDIS, managed.resources, "MAX_MEMORY_MIB", managed.max_memory_mib)
    if managed.replicas >= REDIS_QUORUM:
        container["env"].append({"name": "BETTING_REDIS_MIN_REPLICAS", "value": "1"})
    pod = pod_spec(
        platform,
        REDIS,
        container,
        # A replica writes what its primary sends to a file: at most all the data, for a moment beside an older one.
        tmp_size_mib=TMP_SIZE_MIB + 2 * managed.max_memory_mib,
        terminationGracePeriodSeconds=REDIS_GRACE_PERIOD_S,
        topologySpreadConstraints=spread(platform, REDIS, by_template=False),
    )
    found = _stateful_set(platform, _REDIS, pod, replicas=managed.replicas)
    if primary:
        spec = {
            "type": "ClusterIP",
            "selector": {**selector(platform, REDIS), POD_NAME_LABEL: primary},
            "ports": [_service_port(_REDIS)],
        }
        found.append(manifest(platform, "v1", "Service", f"{platform.object_name(REDIS)}-primary", REDIS, spec=spec))
    return found


def migration(platform: Platform, found: Addresses) -> Manifest:
    """The Job that brings the schema to that of the image; another image or another database is another Job."""
    database = found.postgres
    secret = database.name
    resources = Resources(*WORKLOADS[MIGRATE].resources)
    pod = pod_spec(
        platform,
        MIGRATE,
        {
            # The network policies of a new pod need a moment until every node knows its address.
            "command": ["betting", "migrate", f"--wait={MIGRATION_WAIT_S}"],
            "env": [
                secret_env("BETTING_POSTGRES_DSN", database),
                {"name": "BETTING_SHARD_COUNT", "value": str(platform.shard_count)},
            ],
            "resources": container_resources(resources),
            "terminationMessagePolicy": "FallbackToLogsOnError",
        },
        restartPolicy="Never",
    )
    template: Manifest = {
        "metadata": {
            "labels": labels(platform, MIGRATE),
            "annotations": {SECRETS_ANNOTATION: found.hashes.get(secret, "")},
        },
        "spec": pod,
    }
    return manifest(
        platform,
        "batch/v1",
        "Job",
        f"{platform.object_name(MIGRATE)}-{digest(template)[:8]}",
        MIGRATE,
        spec={"backoffLimit": MIGRATION_RETRIES, "completions": 1, "parallelism": 1, "template": template},
    )


def _container(platform: Platform, server: _Server, resources: Resources, limit: str, value: int) -> Manifest:
    """Ready when it listens; restarted when it hangs: the kernel accepts connections for a process that does nothing.

    Slower than the healer, which fails a hung Redis over meanwhile. terminationGracePeriodSeconds: a hung process does
    not end when it is asked to. limit, value: the one setting of its own.
    """
    prefix = f"BETTING_{server.workload.upper()}"
    alive: Manifest = {"exec": {"command": server.alive}, "timeoutSeconds": 5, "terminationGracePeriodSeconds": 1}
    return {
        "command": ["python", "-m", f"betting.containers.{server.workload}"],
        "env": [
            secret_env(f"{prefix}_PASSWORD", SecretKey(platform.object_name(server.workload), "password")),
            {"name": f"{prefix}_{limit}", "value": str(value)},
            {"name": "BETTING_TERMINATION_LOG", "value": "/dev/termination-log"},
        ],
        "resources": container_resources(resources),
        "ports": [{"name": server.workload, "containerPort": server.port, "protocol": "TCP"}],
        "startupProbe": {**alive, "periodSeconds": 1, "failureThreshold": server.starts_within_s},
        "livenessProbe": {**alive, "periodSeconds": 10, "failureThreshold": 3},
        "readinessProbe": {"tcpSocket": {"port": server.workload}, "periodSeconds": 2, "failureThreshold": 2},
    }


def _stateful_set(
    platform: Platform, server: _Server, pod: Manifest, *, replicas: int, claims: Sequence[Manifest] = ()
) -> list[Manifest]:
    """It, and its headless Service."""
    workload = server.workload
    name = platform.object_name(workload)
    service = {
        "clusterIP": "None",
        "publishNotReadyAddresses": server.found_unready,
        "selector": selector(platform, workload),
        "ports": [_service_port(server)],
    }
    spec: Manifest = {
        "serviceName": name,
        "replicas": replicas,
        "podManagementPolicy": "Parallel",
        # A new template waits until a person deletes a pod: a roll of the services must not restart the databases.
        "updateStrategy": {"type": "OnDelete"},
        "revisionHistoryLimit": 3,
        "selector": {"matchLabels": selector(platform, workload)},
        "template": {"metadata": {"labels": labels(platform, workload)}, "spec": pod},
    }
    if claims:
        deleted = "Retain" if platform.keeps_data else "Delete"
        spec["volumeClaimTemplates"] = list(claims)
        spec["persistentVolumeClaimRetentionPolicy"] = {"whenDeleted": deleted, "whenScaled": "Retain"}
    annotations = {TEMPLATE_ANNOTATION: digest(spec["template"])}
    return [
        manifest(platform, "v1", "Service", name, workload, spec=service),
        manifest(platform, "apps/v1", "StatefulSet", name, workload, annotations=annotations, spec=spec),
    ]


def _service_port(server: _Server) -> Manifest:
    return {"name": server.workload, "port": server.port, "targetPort": server.workload, "protocol": "TCP"}
