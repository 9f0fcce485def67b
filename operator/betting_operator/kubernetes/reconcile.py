"""What is there against what should be, purely: what to apply, what to delete, what has to wait and for what.

A new version migrates the schema first, then rolls wave by wave (`workloads`): a wave that does not become available
stops the roll there, with the pods of the old template serving.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from betting.dsn import PASSWORD, PASSWORD_RULE
from betting_operator.kubernetes import databases, deployments, installation, network, pod_faults, rollbacks, services
from betting_operator.kubernetes.installation import Database
from betting_operator.kubernetes.kinds import Resource
from betting_operator.kubernetes.manifests import (
    INSTANCE_LABEL,
    INTERNAL_SECRET,
    MANAGED_BY_LABEL,
    NAME_LABEL,
    OPERATOR_LOGIN_SECRET,
    TEMPLATE_ANNOTATION,
    Manifest,
    digest,
)
from betting_operator.kubernetes.spec import ManagedPostgres, ManagedRedis, Platform, SecretKey, referenced_secrets
from betting_operator.kubernetes.workloads import MIGRATE, OPERATOR, POSTGRES, REDIS, WORKLOADS

# Every kind that a platform is made of, in the order in which it is applied.
KINDS = {
    each.kind: each
    for each in (
        Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
        Resource("v1", "Secret", "secrets"),
        Resource("v1", "Service", "services"),
        Resource("apps/v1", "StatefulSet", "statefulsets"),
        Resource("batch/v1", "Job", "jobs"),
        Resource("apps/v1", "Deployment", "deployments"),
        Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
        Resource("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
        Resource("networking.k8s.io/v1", "Ingress", "ingresses"),
    )
}


@dataclass(frozen=True, order=True)
class Key:
    """Names an object of the platform's namespace."""

    kind: str
    name: str


Objects = Mapping[Key, Manifest]


@dataclass(frozen=True)
class Facts:
    """What the database says. owned: number of shards whose owner is a bet-service that runs. schema: its newest
    migration. refusal: why this version must not use it, "" if it may. primary: name of the Redis node, "" while there
    is none. installation: id, "" while it has none. healing_paused, healing_dry_run: the switches of `betting heal`.
    formats: of journal entries, that each bet-service that runs reads. running: their names.
    """

    shards: int
    owned: int
    frozen: int
    schema: str
    primary: str = ""
    redis_phase: str = ""
    redis_epoch: int = 0
    refusal: str = ""
    installation: str = ""
    healing_paused: str = ""
    healing_dry_run: bool = False
    formats: tuple[int, ...] = ()
    running: tuple[str, ...] = ()


@dataclass(frozen=True)
class Observed:
    """objects: with our labels, pods among them. referenced: the Secrets that the spec names, by name, where they are.
    facts: what the database in use says; problem: why it says nothing. recorded: the id of the platform's installation,
    "" while none was found. in_use, offered: see `installation.hold`. refusals: why Jobs and StatefulSets that have no
    pod could not make one, as far as they told. replica_sets: where a Deployment is to be rolled back. unresolved: why
    the cluster's DNS gives no addresses, "" while it does."""

    objects: Objects
    referenced: Mapping[str, Manifest] = field(default_factory=dict)
    facts: Facts | None = None
    problem: str = ""
    recorded: str = ""
    in_use: Database = installation.UNKNOWN
    offered: Database | None = None
    refusals: Mapping[Key, str] = field(default_factory=dict)
    replica_sets: tuple[Manifest, ...] = ()
    unresolved: str = ""

    @property
    def is_on_another_database(self) -> bool:
        """Whether the address in use has come to be that of another database."""
        return installation.is_another(self.recorded, self.in_use)

    @property
    def others(self) -> tuple[str, ...]:
        """The bet-services of somebody else that run on the database that this platform would use: it has used none."""
        if self.recorded:
            return ()
        own = {pod["metadata"]["name"] for pod in pods_of(self.objects, "bet-service")}
        database = self.in_use if self.offered is None else self.offered
        return tuple(each for each in database.running if each not in own)

    @property
    def must_not_heal(self) -> bool:
        """Whether the database in use is another platform's."""
        return self.is_on_another_database or (self.offered is None and bool(self.others))


@dataclass(frozen=True)
class Plan:
    """apply: in this order. delete: what is ours and no longer wanted. waits: a line for each thing that has to wait.
    missing: what a person has to give: the field of spec, and what is wrong with it; then nothing is changed, for this
    reason. scale: the number of pods of Deployments whose new template has to wait. rolled_back: a line for each
    Deployment that keeps the template from before the one that the spec asks for."""

    apply: tuple[Manifest, ...]
    delete: tuple[Key, ...]
    waits: tuple[str, ...]
    missing: tuple[str, ...] = ()
    migration: str = ""
    scale: Mapping[Key, int] = field(default_factory=dict)
    reason: str = ""
    rolled_back: tuple[str, ...] = ()


def key_of(found: Manifest) -> Key:
    """The key of an object."""
    return Key(found["kind"], found["metadata"]["name"])


def is_ours(platform: Platform, found: Manifest) -> bool:
    """Whether an object may be changed: it names this platform as its owner, or is a Secret that we made for it."""
    references = found["metadata"].get("ownerReferences") or ()
    if any(each.get("uid") == platform.uid for each in references):
        return True
    labels = found["metadata"].get("labels") or {}
    ours = labels.get(MANAGED_BY_LABEL) == OPERATOR and labels.get(INSTANCE_LABEL) == platform.name
    return found["kind"] == "Secret" and ours and not references


def own_secrets(platform: Platform) -> frozenset[Key]:
    """The Secrets that the operator makes once: their values must be known before anything is planned."""
    names = [INTERNAL_SECRET, OPERATOR_LOGIN_SECRET]
    names += [POSTGRES] if isinstance(platform.postgres, ManagedPostgres) else [databases.ADDRESS_IN_USE]
    names += [REDIS] if isinstance(platform.redis, ManagedRedis) else []
    return frozenset(Key("Secret", platform.object_name(name)) for name in names)


def wanted(
    platform: Platform,
    *,
    existing: Objects,
    hashes: Mapping[str, str],
    primary: str,
    new_password: Callable[[], str],
    external_dsn: str = "",
) -> list[Manifest]:
    """Every object of the platform. hashes: of the Secrets' data by name; those that we make are added here."""
    secrets = databases.secrets(platform, _by_name(existing, "Secret"), new_password, external_dsn)
    all_hashes = {**hashes, **{each["metadata"]["name"]: digest(each["data"]) for each in secrets}}
    addresses = databases.addresses(platform, all_hashes)
    found = [*(network.policies(platform) if platform.network_policies else ()), *secrets]
    found += services.network_services(platform)
    if isinstance(platform.postgres, ManagedPostgres):
        found += databases.postgres(platform, platform.postgres)
    if isinstance(platform.redis, ManagedRedis):
        found += databases.redis(platform, platform.redis, primary)
    found.append(databases.migration(platform, addresses))
    found += deployments.processes(platform, addresses, _by_name(existing, "Deployment"))
    found += services.disruption_budgets(platform)
    found += services.autoscalers(platform)
    found += network.ingress(platform)
    order = list(KINDS)
    return sorted(found, key=lambda each: order.index(each["kind"]))


def plan(platform: Platform, observed: Observed, new_password: Callable[[], str]) -> Plan:
    """What to do now.

    new_password: see `databases.secrets`. Nothing while a Secret that the spec names is missing, one that the operator
    would make is somebody else's or cannot be used, or the database is not the platform's: what runs is left as it is.
    """
    missing = tuple(_missing(platform, observed))
    if missing:
        return Plan((), (), (), missing, reason="SecretMissing")
    if invalid := tuple(_invalid(platform, observed.objects)):
        return Plan((), (), (), invalid, reason="SecretInvalid")
    hold = installation.hold(observed.recorded, observed.in_use, observed.offered, observed.others)
    if hold is not None:
        return Plan((), (), (), (hold.message,), reason=hold.reason)
    hashes = {name: digest(each.get("data") or {}) for name, each in observed.referenced.items()}
    everything = wanted(
        platform,
        existing=observed.objects,
        hashes=hashes,
        primary=_primary(platform, observed),
        new_password=new_password,
        # The Secret of the spec: it names the database in use, or another address of it.
        external_dsn=databases.given_dsn(platform, observed.referenced),
    )
    rolled_back: dict[Key, str] = {}
    everything = [_noted(each, observed, rolled_back) if each["kind"] == "Deployment" else each for each in everything]
    migration = next(each for each in everything if each["kind"] == "Job")
    apply: list[Manifest] = []
    waits: list[str] = []
    scale: dict[Key, int] = {}
    database_away = _database_away(platform, observed)
    for each in everything:
        if each["kind"] == "StatefulSet" and (reason := _why_server_held(each, observed, migration)):
            waits.append(f"the template of {each['metadata']['name']} waits: {reason}")
            apply.append(_with_template_of(observed.objects[key_of(each)], each))
            continue
        if each["kind"] == "Deployment":
            rolls = key_of(each) not in rolled_back
            reason = _why_held(each, everything, observed.objects, migration, rolled_back) if rolls else ""
        elif each["kind"] == "Job" and key_of(each) not in observed.objects:
            reason = database_away
        else:
            reason = ""
        if reason:
            waits.append(f"{each['metadata']['name']} waits: {reason}")
            scale |= _scaled(each, observed.objects.get(key_of(each)))
        else:
            apply.append(each)
    names = {key_of(each) for each in everything}
    managed = {_workload(each) for each in everything if each["kind"] == "StatefulSet"}
    no_longer_managed = {POSTGRES, REDIS} - managed
    rolled = all(
        _has_rolled(each, observed.objects.get(key_of(each))) and not _pods_of_before(each, observed.objects)
        for each in everything
        if each["kind"] == "Deployment"
    )
    delete = sorted(
        key
        for key, found in observed.objects.items()
        if key.kind in KINDS and key.kind != "Secret" and (key not in names or has_failed(found))
        if is_ours(platform, found) and not found["metadata"].get("deletionTimestamp")
        if rolled or _workload(found) not in no_longer_managed  # until then pods of the old template work with it
    )
    if not rolled:
        apply = [_with_old_egress(each, observed.objects.get(key_of(each))) for each in apply]
    return Plan(
        *(tuple(apply), tuple(delete), tuple(waits), (), migration["metadata"]["name"], scale),
        rolled_back=tuple(rolled_back.values()),
    )


def is_complete(job: Manifest | None) -> bool:
    """Whether a Job has succeeded."""
    return _has_ended(job, "Complete")


def has_failed(found: Manifest) -> bool:
    """Whether this is a Job that has given up: it is deleted with its pods, and made anew."""
    return found["kind"] == "Job" and _has_ended(found, "Failed")


def _has_ended(job: Manifest | None, how: str) -> bool:
    conditions = (job or {}).get("status", {}).get("conditions") or ()
    return any(each["type"] == how and each["status"] == "True" for each in conditions)


def is_rolled_out(deployment: Manifest | None) -> bool:
    """Whether all pods of a Deployment are of its newest template and available, and no others are left."""
    if deployment is None:
        return False
    status, replicas = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    return bool(
        status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
        and status.get("updatedReplicas", 0) == replicas
        and status.get("availableReplicas", 0) == replicas
        and status.get("replicas", 0) == replicas
    )


def is_of_newest_template(deployment: Manifest | None) -> bool:
    """Whether no pod of an older template is left. Pods that fail or are added later do not make it a roll again:
    Kubernetes says so until the template changes."""
    if deployment is None or is_rolled_out(deployment):
        return deployment is not None
    status = deployment.get("status") or {}
    reasons = {each["type"]: each.get("reason") for each in status.get("conditions") or ()}
    # Of one that is paused Kubernetes does not say whether its last roll was over.
    over = reasons.get("Progressing") in ("NewReplicaSetAvailable", "DeploymentPaused")
    return bool(
        status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
        and status.get("updatedReplicas", 0) == status.get("replicas", 0) > 0
        and over
    )


def template_of(deployment: Manifest) -> Any:
    """The hash of a Deployment's template, as it was applied; None of one that is not ours."""
    return (deployment["metadata"].get("annotations") or {}).get(TEMPLATE_ANNOTATION)


def pods_of(objects: Objects, workload: str) -> list[Manifest]:
    """The pods of a workload, by name."""
    return [
        found
        for key, found in sorted(objects.items())
        if key.kind == "Pod" and (found["metadata"].get("labels") or {}).get(NAME_LABEL) == workload
    ]


def pods_of_job(objects: Objects, job: str) -> list[Manifest]:
    """The pods of a Job, the oldest first."""
    found = [pod for pod in pods_of(objects, MIGRATE) if (pod["metadata"].get("labels") or {}).get("job-name") == job]
    return sorted(found, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))


def _primary(platform: Platform, observed: Observed) -> str:
    """The Redis node that the record names; while the record cannot be read, the one whose Service there is."""
    if observed.facts is not None:
        return observed.facts.primary
    service = observed.objects.get(Key("Service", f"{platform.object_name(REDIS)}-primary")) or {}
    return str(service.get("spec", {}).get("selector", {}).get(databases.POD_NAME_LABEL, ""))


def _missing(platform: Platform, observed: Observed) -> Iterable[str]:
    for where, key in _fields_of_secrets(platform):
        secret = observed.referenced.get(key.name)
        if secret is None:
            yield f"spec.{where}: there is no Secret {key.name}"
        elif key.key not in (secret.get("data") or {}):
            yield f"spec.{where}: the Secret {key.name} has no key {key.key}"
    for own in sorted(own_secrets(platform)):
        if (found := observed.objects.get(own)) is not None and not is_ours(platform, found):
            yield f"the Secret {own.name} exists and belongs to somebody else: rename or remove it"


def _invalid(platform: Platform, objects: Objects) -> Iterable[str]:
    """What a person has put into a Secret that a managed server would not start with: it is not handed on."""
    for workload in (POSTGRES, REDIS):
        key = Key("Secret", platform.object_name(workload))
        if key in own_secrets(platform) and key in objects:
            password = databases.decoded(objects[key]).get("password")
            if password and not PASSWORD.fullmatch(password):
                yield f"the password in the Secret {key.name} cannot be used: {PASSWORD_RULE}"


def _fields_of_secrets(platform: Platform) -> list[tuple[str, SecretKey]]:
    fields = {
        id(key): where
        for where, key in (
            ("database.external.dsnSecret", getattr(platform.postgres, "address", None)),
            ("redis.external.urlSecret", getattr(platform.redis, "address", None)),
        )
    }
    return [(fields.get(id(key), "feeds.theOddsApi.keySecret"), key) for key in referenced_secrets(platform)]


def _database_away(platform: Platform, observed: Observed) -> str:
    """Why nothing can be migrated now: there is no database, or it may be another one when it is back."""
    if observed.recorded and observed.in_use.installation is None:
        return "the database does not answer"
    if not isinstance(platform.postgres, ManagedPostgres):
        return ""
    name = platform.object_name("postgres")
    ready = (observed.objects.get(Key("StatefulSet", name)) or {}).get("status", {}).get("readyReplicas", 0)
    return "" if ready else f"StatefulSet {name} is not ready"


def _noted(wanted_one: Manifest, observed: Observed, rolled_back: dict[Key, str]) -> Manifest:
    """A Deployment with the notes about its templates, and with the one from before where the healer has asked for it:
    that is added to rolled_back."""
    live, facts, now = observed.objects.get(key_of(wanted_one)), observed.facts, None
    if live is None:
        return wanted_one
    # Of an earlier template it is not known which schema it knows: a newer one may have been migrated to meanwhile.
    is_wanted = template_of(live) == template_of(wanted_one)
    if facts is not None and is_wanted and is_rolled_out(live) and live["status"].get("availableReplicas"):
        now = rollbacks.RolledOut(template_of(live), facts.schema, facts.formats)
    found, why = rollbacks.noted_on(wanted_one, live, now, observed.replica_sets)
    if why:
        rolled_back[key_of(wanted_one)] = why
    return found


def _why_held(
    wanted_one: Manifest,
    everything: list[Manifest],
    objects: Objects,
    migration: Manifest,
    rolled_back: Collection[Key],
) -> str:
    """Why a Deployment must not be changed yet, "" if it may be. What does not exist yet is made at once."""
    live = objects.get(key_of(wanted_one))
    if live is None or template_of(live) == template_of(wanted_one):
        return ""
    if not is_complete(objects.get(key_of(migration))):
        return f"Job {migration['metadata']['name']} has not succeeded"
    wave = _wave(wanted_one)
    for each in everything:
        is_before = each["kind"] == "Deployment" and _wave(each) < wave
        if is_before and key_of(each) in rolled_back:
            return f"{each['metadata']['name']} was rolled back"
        if is_before and not _has_rolled(each, objects.get(key_of(each))):
            return f"{each['metadata']['name']} is not rolled out"
    return ""


def _why_server_held(wanted_one: Manifest, observed: Observed, migration: Manifest) -> str:
    """Why a managed server of a platform that has an installation must keep its template, "" if it need not.

    Its next pod is made of it, whenever one is evicted or killed: not before a pod of the Job has shown that this image
    can be pulled and this scheduling works. Where its own pod fails by itself, only another template can help.
    """
    objects = observed.objects
    live = objects.get(key_of(wanted_one))
    if live is None or template_of(live) == template_of(wanted_one) or not observed.recorded:
        return ""
    if pod_faults.why_failing(pods_of(objects, _workload(wanted_one))):
        return ""
    name = migration["metadata"]["name"]
    if is_complete(objects.get(key_of(migration))) or any(map(pod_faults.has_run, pods_of_job(objects, name))):
        return ""
    return f"no pod of Job {name} has run"


def _with_template_of(live: Manifest, wanted_one: Manifest) -> Manifest:
    """A StatefulSet as it is wanted, but for its template."""
    metadata = wanted_one["metadata"] | {"annotations": {TEMPLATE_ANNOTATION: template_of(live) or ""}}
    return wanted_one | {"metadata": metadata, "spec": wanted_one["spec"] | {"template": live["spec"]["template"]}}


def _has_rolled(wanted_one: Manifest, live: Manifest | None) -> bool:
    """Whether no pod of a Deployment is of another template than the wanted one. Pods that fail later do not count."""
    return live is not None and template_of(live) == template_of(wanted_one) and is_of_newest_template(live)


def _scaled(wanted_one: Manifest, live: Manifest | None) -> dict[Key, int]:
    """The number of pods to ask for, where that is another one than before."""
    replicas = wanted_one["spec"].get("replicas")
    if live is None or replicas is None or replicas == live["spec"].get("replicas"):
        return {}
    return {key_of(wanted_one): replicas}


def _pods_of_before(deployment: Manifest, objects: Objects) -> bool:
    """Whether pods of another template than the wanted one still run, those that drain among them: a Deployment does
    not count these."""
    return any(
        (pod["metadata"].get("annotations") or {}).get(TEMPLATE_ANNOTATION) != template_of(deployment)
        for pod in pods_of(objects, _workload(deployment))
        if pod.get("status", {}).get("phase") not in ("Failed", "Succeeded")
    )


def _workload(found: Manifest) -> str:
    return str((found["metadata"].get("labels") or {}).get(NAME_LABEL, ""))


def _with_old_egress(wanted_one: Manifest, live: Manifest | None) -> Manifest:
    """A NetworkPolicy that also lets its pods out to where it did before: until the last of the old template has gone,
    they work with the addresses of before. Other objects as they are."""
    if wanted_one["kind"] != "NetworkPolicy" or live is None:
        return wanted_one
    rules = list(wanted_one["spec"].get("egress") or ())
    rules += [each for each in live["spec"].get("egress") or () if each not in rules]
    return wanted_one | {"spec": wanted_one["spec"] | ({"egress": rules} if rules else {})}


def _wave(deployment: Manifest) -> int:
    return WORKLOADS[_workload(deployment)].wave


def _by_name(objects: Objects, kind: str) -> dict[str, Manifest]:
    return {key.name: found for key, found in objects.items() if key.kind == kind}
