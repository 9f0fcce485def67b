"""Phase, conditions and numbers of a platform, purely, from what was observed and planned.

| condition        | True when                                                       |
| ---------------- | --------------------------------------------------------------- |
| `Accepted`       | the spec can be carried out: what it names is there, and is ours |
| `NamesResolved`  | the cluster's DNS answers                                       |
| `DatabaseReady`  | Postgres answers                                                |
| `Migrated`       | the schema is that of the image                                 |
| `RedisReady`     | there is a primary                                              |
| `Available`      | every service has a pod that is ready                           |
| `ShardsOwned`    | the owner of every shard is a bet-service that runs             |
| `RolledOut`      | every pod is of the newest template                             |
| `Healing`        | the healer's process runs and is not switched off               |
| `Ready`          | `DatabaseReady`, `Available` and `ShardsOwned`: bets are taken  |

Betting does not stop without Redis or DNS, while a new version migrates, or when a changed spec cannot be carried out:
the platform is then not as it should be, and Ready all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from betting_operator.healing.policy import Policy
from betting_operator.kubernetes import controller_faults, installation, pod_faults, rollbacks
from betting_operator.kubernetes.healing_report import Report
from betting_operator.kubernetes.manifests import selector
from betting_operator.kubernetes.reconcile import (
    Facts,
    Key,
    Objects,
    Observed,
    Plan,
    is_complete,
    is_of_newest_template,
    key_of,
    pods_of,
    pods_of_job,
    template_of,
)
from betting_operator.kubernetes.spec import ManagedPostgres, ManagedRedis, Platform
from betting_operator.kubernetes.workloads import POSTGRES, REDIS

NAMES_RESOLVED = "NamesResolved"
# In this order the first that is not True says why a platform is not Ready.
CONDITIONS = ("Accepted", NAMES_RESOLVED, "DatabaseReady", "Migrated", "RedisReady", "Available", "ShardsOwned")
BETTING = ("DatabaseReady", "Available", "ShardsOwned")
ROLLED_OUT = "RolledOut"
ROLLED_BACK = "RolledBack"
HEALING = "Healing"
READY = "Ready"
# The healer runs, and people do not want it to act.
_SWITCHED_OFF = ("Paused", "DryRun")
MESSAGE_LENGTH_MAX = 1_000
# What each round finds anew, and nobody knows without rounds.
_OF_ROUNDS = ("shards", "redis", "schemaVersion", "activeDiagnoses")
# So many of these are in one message: what comes after them, names and what to do, must have room.
REASONS_MAX = 2

Status = dict[str, Any]


@dataclass(frozen=True)
class Condition:
    """status: True, False or Unknown. reason: one word. message: a sentence for people."""

    type: str
    status: str
    reason: str
    message: str = ""


@dataclass(frozen=True)
class Healer:
    """The healer's process. runs: for so long that it has started well. ended: how it ended last, "" once it runs well
    again. Neither: it is being started, or waits for what it needs. report: what it tells, None while it does not.
    not_told: why it does not know its policy, "": it does."""

    runs: bool = False
    ended: str = ""
    report: Report | None = None
    not_told: str = ""


def status(
    platform: Platform,
    observed: Observed,
    plan: Plan,
    problems: Iterable[str],
    before: Status,
    now: str,
    healer: Healer,
) -> Status:
    """The status of the resource.

    problems: why something could not be applied. before: its present status, whose transition times stay. now: the
    time as Kubernetes writes it.
    """
    if observed.is_on_another_database:  # what it says is of another platform
        observed = replace(observed, facts=None)
    found = (*_conditions(platform, observed, plan, tuple(problems), before), _healing(platform, observed, healer))
    ready = _ready(found)
    facts = observed.facts
    bets = observed.objects.get(Key("Deployment", platform.object_name("bet-service"))) or {}
    result: Status = {
        "observedGeneration": platform.generation,
        "phase": _phase(found, before),
        # What a platform that is Ready waits for, too: found is in the order of importance.
        "message": _short(next((each.message for each in found if not _is_well(each)), "")),
        "conditions": _dated((ready, *found), before, now, platform.generation),
        "betService": {
            "replicas": bets.get("status", {}).get("replicas", 0),
            "readyReplicas": bets.get("status", {}).get("readyReplicas", 0),
            "selector": ",".join(f"{name}={value}" for name, value in selector(platform, "bet-service").items()),
        },
    }
    if recorded := _to_record(observed):
        result["database"] = {"installation": recorded}
    if facts is not None:
        result["shards"] = {
            "summary": f"{facts.owned}/{facts.shards}",
            "owned": facts.owned,
            "total": facts.shards,
            "frozen": facts.frozen,
        }
        result["schemaVersion"] = facts.schema
    if facts is not None and isinstance(platform.redis, ManagedRedis):
        nodes = observed.objects.get(Key("StatefulSet", platform.object_name(REDIS))) or {}
        result["redis"] = {
            "primary": facts.primary,
            "phase": facts.redis_phase,
            "epoch": facts.redis_epoch,
            "nodes": platform.redis.replicas,
            "readyNodes": nodes.get("status", {}).get("readyReplicas", 0),
        }
    rolled = next(each for each in found if each.type == ROLLED_OUT)
    image = platform.image.reference if rolled.status == "True" else before.get("image", "")
    if image:
        result["image"] = image
    return result


def recorded_installation(before: Status) -> str:
    """The id of the platform's installation, as the status has it; "" while it has none."""
    return str((before.get("database") or {}).get("installation") or "")


def _to_record(observed: Observed) -> str:
    """The first installation that is found in the database in use stays the platform's, if it is nobody else's."""
    return observed.recorded or ("" if observed.offered or observed.others else observed.in_use.installation or "")


def refused(before: Status, reason: str, message: str, now: str, generation: int) -> Status:
    """The status of a resource that the operator does nothing for."""
    conditions = (Condition(READY, "False", reason, message), Condition("Accepted", "False", reason, message))
    return {
        "observedGeneration": generation,
        "phase": "Refused",
        "message": message,
        "conditions": _dated(conditions, before, now, generation),
    }


def unlisted(before: Status, problems: Iterable[str], now: str, generation: int) -> Status:
    """The status while the operator cannot list what exists, so that it makes and heals nothing: what the leader of
    before has said of it holds no more."""
    message = (
        f"the operator cannot list what exists: {'; '.join(problems)}; until it can, nothing is changed and nothing is "
        "healed: give its ServiceAccount the Role of the chart"
    )
    unknown = (READY, *CONDITIONS[1:], ROLLED_OUT)
    found = (
        *(Condition(each, "Unknown", "NotListed", "the operator cannot list what exists") for each in unknown),
        Condition("Accepted", "False", "NotListed", message),
        Condition(HEALING, "False", "NotListed", "nothing is healed: the operator cannot list what exists"),
    )
    kept = {name: value for name, value in before.items() if name not in _OF_ROUNDS}
    return kept | {
        "observedGeneration": generation,
        "phase": _phase(found, before),
        "message": _short(message),
        "conditions": _dated(found, before, now, generation),
    }


def changed(before: Status, after: Status) -> bool:
    """Whether two statuses differ in anything but the times of transitions."""
    return _timeless(before) != _timeless(after)


def transitions(before: Status, after: Status) -> list[Condition]:
    """The conditions whose status has changed: an event is written for each.

    What is not True yet of a new platform is no event: its conditions say so.
    """
    old = {each["type"]: each["status"] for each in before.get("conditions") or ()}
    return [
        Condition(each["type"], each["status"], each["reason"], each["message"])
        for each in after["conditions"]
        if old.get(each["type"]) != each["status"] and (each["type"] in old or each["status"] == "True")
    ]


def _conditions(
    platform: Platform, observed: Observed, plan: Plan, problems: tuple[str, ...], before: Status
) -> tuple[Condition, ...]:
    return (
        _accepted(plan, problems),
        _names_resolved(observed),
        _database(platform, observed),
        _migrated(observed, plan),
        _redis(platform, observed),
        _available(platform, observed.objects, has_run=bool(before.get("image"))),
        _shards(observed.facts),
        _rolled_out(platform, observed.objects, plan, has_run=bool(before.get("image"))),
    )


def _accepted(plan: Plan, problems: tuple[str, ...]) -> Condition:
    if plan.missing:
        return Condition("Accepted", "False", plan.reason, "; ".join(plan.missing))
    if problems:
        return Condition("Accepted", "False", "NotApplied", "; ".join(problems))
    return Condition("Accepted", "True", "Accepted")


def _names_resolved(observed: Observed) -> Condition:
    if not observed.unresolved:
        return Condition(NAMES_RESOLVED, "True", "Resolved")
    message = (
        f"the cluster's DNS does not answer: {observed.unresolved}; bets go on where addresses are known, new pods "
        "wait: kubectl -n kube-system get pods -l k8s-app=kube-dns"
    )
    return Condition(NAMES_RESOLVED, "False", "NoAnswer", message)


def _database(platform: Platform, observed: Observed) -> Condition:
    kind = "DatabaseReady"
    if observed.is_on_another_database:
        what = "managed" if isinstance(platform.postgres, ManagedPostgres) else "external.dsnSecret"
        message = installation.another(observed.recorded, observed.in_use, "")
        return Condition(kind, "False", "AnotherDatabase", f"spec.database.{what}: {message}")
    if observed.facts is not None:
        return Condition(kind, "True", "Answers", f"schema {observed.facts.schema}")
    if isinstance(platform.postgres, ManagedPostgres):
        pods = pods_of(observed.objects, POSTGRES)
        refusal = observed.refusals.get(Key("StatefulSet", platform.object_name(POSTGRES)))
        missing = "" if pods else refusal or "its pod does not exist yet"
        if why := pod_faults.why_not_running(pods) or missing:
            return Condition(kind, "False", "NotRunning", f"Postgres does not run: {why}")
        return Condition(kind, "False", "NotAnswering", observed.problem or "it has not answered yet")
    return Condition(
        kind,
        "False",
        "NotAnswering",
        f"spec.database.external: {observed.problem or 'it has not answered yet'}",
    )


def _migrated(observed: Observed, plan: Plan) -> Condition:
    job = observed.objects.get(Key("Job", plan.migration))
    if observed.facts is not None and observed.facts.refusal:
        return Condition("Migrated", "False", "SchemaNewer", observed.facts.refusal)
    if plan.missing:
        return Condition("Migrated", "Unknown", plan.reason, "nothing is changed")
    if is_complete(job):
        return Condition("Migrated", "True", "Migrated")
    pods = pods_of_job(observed.objects, plan.migration)
    if failed := [message for pod in pods for message in pod_faults.failed_with(pod)]:
        return Condition("Migrated", "False", "MigrationFailed", f"Job {plan.migration}: {failed[-1]}")
    if why := pod_faults.why_not_running(pods) or observed.refusals.get(Key("Job", plan.migration)):
        return Condition("Migrated", "False", "NotRunning", f"Job {plan.migration}: {why}")
    return Condition("Migrated", "False", "Migrating", f"Job {plan.migration} has not succeeded yet")


def _redis(platform: Platform, observed: Observed) -> Condition:
    facts = observed.facts
    if not isinstance(platform.redis, ManagedRedis):
        return Condition("RedisReady", "True", "External", "its failover is not the platform's")
    refusal = observed.refusals.get(Key("StatefulSet", platform.object_name(REDIS)))
    if why := pod_faults.why_not_running(pods_of(observed.objects, REDIS)) or refusal:
        return Condition("RedisReady", "False", "NotRunning", why)
    if facts is None:
        return Condition("RedisReady", "Unknown", "DatabaseAway", "the record of the primary is in the database")
    if not facts.primary:
        off = "" if platform.healing.enabled else ": spec.healing.enabled is false, so nobody names one"
        return Condition("RedisReady", "False", "NoPrimary", f"the healer has named no primary yet{off}")
    if facts.redis_phase != "steady":
        return Condition("RedisReady", "False", "FailingOver", f"the healer is failing over: {facts.redis_phase}")
    return Condition("RedisReady", "True", "Steady", f"{facts.primary} is primary")


def _available(platform: Platform, objects: Objects, *, has_run: bool) -> Condition:
    away: list[tuple[str, str]] = []
    for workload in [*(each.workload for each in platform.services), *(each.workload for each in platform.feeds)]:
        deployment = objects.get(Key("Deployment", platform.object_name(workload.name)))
        if deployment is None and has_run and not workload.field:
            continue  # a feed that was added to the spec and is not made: what there is takes bets without it
        if deployment is None:
            away.append((f"{workload.name} does not exist yet", ""))
        elif not deployment.get("status", {}).get("readyReplicas"):
            pods = pods_of(objects, workload.name)
            why = pod_faults.why_not_running(pods) or controller_faults.why_not_created(deployment)
            away.append((f"{workload.name} has no ready pod", why))
    if away:
        return Condition("Available", "False", "ServicesUnavailable", "; ".join(_explained(away)))
    return Condition("Available", "True", "Available")


def _shards(facts: Facts | None) -> Condition:
    if facts is None:
        return Condition("ShardsOwned", "Unknown", "DatabaseAway", "the directory of shards is in the database")
    if not facts.shards:
        return Condition("ShardsOwned", "False", "ShardsOrphaned", "the database has no shards yet")
    orphaned = facts.shards - facts.owned - facts.frozen
    message = f"{orphaned} of {facts.shards} shards are owned by no bet-service that runs" if orphaned else ""
    if facts.frozen:
        frozen = f"{facts.frozen} of {facts.shards} shards are frozen: docs/runbooks/shard-stopped.md"
        return Condition("ShardsOwned", "False", "ShardsFrozen", "; ".join((frozen, message)) if message else frozen)
    if orphaned:
        return Condition("ShardsOwned", "False", "ShardsOrphaned", message)
    return Condition("ShardsOwned", "True", "Owned", f"{facts.owned} of {facts.shards} shards have an owner that runs")


def _rolled_out(platform: Platform, objects: Objects, plan: Plan, *, has_run: bool) -> Condition:
    templates = {key_of(each): template_of(each) for each in plan.apply if each["kind"] == "Deployment"}
    live = {key.name: found for key in templates if (found := objects.get(key)) is not None}
    halted = [name for name, found in live.items() if controller_faults.is_paused(found)]
    stuck = [
        (name, why)
        for name, found in live.items()
        if name not in halted and (why := controller_faults.why_stuck(found, objects))
    ]
    if halted or stuck:
        lines = [f"{name}: paused: kubectl rollout resume deployment/{name}" for name in halted]
        lines += _explained(stuck)
        lines += ["the pods of the version before serve on"] if has_run else []
        lines += ["correct the version or setting, or go back (docs/operator/upgrade.md)"] if stuck else []
        return Condition(ROLLED_OUT, "False", "RollStuck", "; ".join(lines))
    if plan.rolled_back:
        what_to_do = "correct the version or setting (docs/operator/upgrade.md)"
        message = "; ".join((*plan.rolled_back, what_to_do, *_left_as_they_are(platform, plan), *plan.waits))
        return Condition(ROLLED_OUT, "False", "RolledBack", message)
    rolling = [
        key.name
        for key, template in templates.items()
        if not is_of_newest_template(found := objects.get(key)) or found is None or template_of(found) != template
    ]
    if plan.missing:
        return Condition(ROLLED_OUT, "Unknown", plan.reason, "nothing is changed")
    if platform.paused and (rolling or plan.waits):
        return Condition(ROLLED_OUT, "Unknown", "Paused", "spec.paused is true: nothing is changed")
    if rolling or plan.waits:
        message = "; ".join((*_under_way(rolling, live, objects), *plan.waits))
        return Condition(ROLLED_OUT, "False", "Rolling", message)
    return Condition(ROLLED_OUT, "True", "RolledOut")


def _left_as_they_are(platform: Platform, plan: Plan) -> list[str]:
    """Beside a Deployment that was rolled back to another image: those that run the image of the spec."""
    deployments = [each for each in plan.apply if each["kind"] == "Deployment"]
    image = platform.image.reference
    names = [each["metadata"]["name"] for each in deployments if rollbacks.image_of(each["spec"]["template"]) == image]
    return [f"{', '.join(names)} keep image {image}"] if 0 < len(names) < len(deployments) else []


def _under_way(rolling: list[str], live: Mapping[str, Any], objects: Objects) -> list[str]:
    """The Deployments that are being rolled out, and why a new pod has no node."""
    found = [
        (f"{name} is being rolled out", controller_faults.why_without_node(live[name], objects) if name in live else "")
        for name in rolling
    ]
    room = "make room for it, or let it ask for less (docs/operator/conditions.md)"
    return [*_explained(found), *([room] if any(why for _what, why in found) else [])]


def _explained(found: list[tuple[str, str]]) -> list[str]:
    """What is wrong, with why: where many have a reason, as a rule the same one, that of the first few."""
    explained = [what for what, why in found if why][:REASONS_MAX]
    return [f"{what}: {why}" if what in explained else what for what, why in found]


def _healing(platform: Platform, observed: Observed, healer: Healer) -> Condition:
    if not platform.healing.enabled:
        return Condition(HEALING, "False", "Disabled", "spec.healing.enabled is false: nothing is healed")
    if observed.must_not_heal:
        reason = "AnotherDatabase" if observed.is_on_another_database else "DatabaseShared"
        return Condition(HEALING, "False", reason, "nothing is healed in another platform's database")
    if healer.ended:
        return Condition(HEALING, "False", "Ended", f"nothing is healed: the healer ended with {healer.ended}")
    if not healer.runs:
        return Condition(HEALING, "Unknown", "Starting", "the healer is being started")
    if healer.not_told:
        message = f"spec.healing is not in force as it is now: {healer.not_told}"
        return Condition(HEALING, "False", "PolicyNotApplied", message)
    paused, dry_run = _switched_off(platform.healing.policy, observed.facts)
    if paused:
        return Condition(HEALING, "False", "Paused", "; ".join((*paused, *dry_run)))
    if dry_run:
        return Condition(HEALING, "False", "DryRun", "; ".join(dry_run))
    return Condition(HEALING, "True", "Running")


def _switched_off(policy: Policy, facts: Facts | None) -> tuple[list[str], list[str]]:
    """Sentences about a pause and about a dry run, by whichever of the two places: each of them is enough."""
    paused, dry_run = [], []
    if policy.paused:
        paused.append(f"paused by spec.healing.paused: {policy.paused}")
    if facts is not None and facts.healing_paused:
        paused.append(f"paused by `betting heal pause`: {facts.healing_paused} (to end it: betting heal resume)")
    if policy.dry_run:
        dry_run.append("nothing is done: spec.healing.dryRun is true")
    if facts is not None and facts.healing_dry_run:
        dry_run.append("nothing is done by `betting heal dry-run` (to end it: betting heal dry-run off)")
    return paused, dry_run


def _is_well(condition: Condition) -> bool:
    """Whether it is as people want it. So is a healer that is switched off; one that starts does so at each leader."""
    return condition.status == "True" or condition.reason in ("Disabled", "Starting", *_SWITCHED_OFF)


def _ready(found: tuple[Condition, ...]) -> Condition:
    by_type = {each.type: each for each in found}
    if all(by_type[name].status == "True" for name in BETTING):
        return Condition(READY, "True", "Ready")
    why = next(by_type[name] for name in CONDITIONS if by_type[name].status != "True")
    return Condition(READY, "False", why.reason, why.message)


def _phase(found: tuple[Condition, ...], before: Status) -> str:
    holds = {each.type: _is_well(each) for each in found}
    if not holds["Accepted"] and (all(holds[name] for name in BETTING) or not before.get("image")):
        return "NotApplied"
    if all(holds.values()):
        return "Ready"
    if not before.get("image"):
        return "Installing"
    if holds["Accepted"] and not holds["Migrated"]:
        return "Migrating"
    rolls = not holds[ROLLED_OUT] and all(each.reason != ROLLED_BACK for each in found)
    return "Rolling" if rolls and holds["Accepted"] else "Degraded"


def _dated(conditions: Iterable[Condition], before: Status, now: str, generation: int) -> list[Status]:
    old: dict[str, Mapping[str, Any]] = {each["type"]: each for each in before.get("conditions") or ()}
    return [
        {
            "type": each.type,
            "status": each.status,
            "reason": each.reason,
            "message": _short(each.message),
            "observedGeneration": generation,
            "lastTransitionTime": old[each.type]["lastTransitionTime"]
            if each.type in old and old[each.type]["status"] == each.status
            else now,
        }
        for each in conditions
    ]


def _short(message: str) -> str:
    return message if len(message) <= MESSAGE_LENGTH_MAX else message[: MESSAGE_LENGTH_MAX - 1] + "…"


def _timeless(found: Status) -> Status:
    conditions = [
        {name: value for name, value in each.items() if name != "lastTransitionTime"}
        for each in found.get("conditions") or ()
    ]
    return {**found, "conditions": conditions}
