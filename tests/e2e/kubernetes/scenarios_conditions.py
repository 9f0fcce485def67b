"""What the operator does where something is wrong, or nothing is to be done."""

from __future__ import annotations

import json
import time
from collections import Counter

import api_calls
import asyncpg
from platform_under_test import Installed, retained
from scene import SAID_S, Facts, Scenario, Scene
from tools import Failed, Skipped, expect, got, helm, items, kubectl, patch, say, stays, wait_for

from betting_operator.kubernetes.workloads import PROCESSES

REPAIRED_S = 30.0
TOLD_S = 60.0
REST_S = 60.0
NEWER = "9999.of-a-later-release"
DSN_SECRET = "other-database"
MORE_THAN_THERE_IS = "1000"
AWAY_S = 30.0

# Prints the CPU seconds and the resident bytes of all processes of a pod but itself.
_USE = """
import os
tick, page, cpu, rss = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE"), 0.0, 0
for pid in os.listdir("/proc"):
    if pid.isdigit() and int(pid) != os.getpid():
        try:
            fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
            cpu += (int(fields[11]) + int(fields[12])) / tick
            rss += int(open(f"/proc/{pid}/statm").read().split()[1]) * page
        except OSError:
            pass
print(cpu, rss)
"""


def drift(scene: Scene) -> Facts:
    """Objects deleted or changed by hand are put right; an object of somebody else is left alone and named"""
    platform = scene.platform
    at = f"--namespace={platform.namespace}"
    policy, wallet = f"{platform.name}-wallet-service", f"{platform.name}-wallet-service"
    facts = Facts()

    before = got("networkpolicy", policy, at)
    kubectl("delete", "networkpolicy", policy, at)
    same = lambda: got("networkpolicy", policy, at)["spec"] == before["spec"]  # noqa: E731
    facts["deleted_policy_s"] = round(wait_for("the NetworkPolicy is back", same, REPAIRED_S), 1)

    kubectl("scale", f"deployment/{wallet}", at, "--replicas=1")
    two = lambda: got("deployment", wallet, at)["spec"]["replicas"] == 2  # noqa: E731
    facts["scaled_by_hand_s"] = round(wait_for("wallet-service has two pods again", two, REPAIRED_S), 1)

    gateway = f"{platform.name}-gateway"
    patch(platform.namespace, f"service/{gateway}", spec={"selector": {"app.kubernetes.io/name": "nobody"}})

    def selects() -> bool:
        selector: dict[str, str] = got("service", gateway, at)["spec"]["selector"]
        return selector["app.kubernetes.io/name"] == "api-gateway"

    facts["changed_selector_s"] = round(wait_for("the gateway's Service selects it", selects, REPAIRED_S), 1)

    foreign = f"{platform.name}-gateway"
    rule = "--rule=example.com/*=somebody:80"
    kubectl("create", "ingress", foreign, at, rule)
    theirs = got("ingress", foreign, at)
    platform.change(gateway={"ingress": {"host": "bets.example.com"}})

    def is_named() -> bool:
        accepted = platform.condition("Accepted")
        return accepted.get("status") == "False" and f"Ingress {foreign}" in accepted["message"]

    wait_for("Accepted=False names the Ingress of somebody else", is_named, TOLD_S, platform.why)
    facts["foreign_told"] = platform.condition("Accepted")["message"]
    expect(got("ingress", foreign, at)["spec"] == theirs["spec"], "the Ingress of somebody else was changed")
    platform.change(gateway={"ingress": None})
    kubectl("delete", "ingress", foreign, at)
    wait_for("Accepted is True", lambda: platform.is_true("Accepted"), TOLD_S, platform.why)
    platform.wait_rolled_out()
    return facts


def neighbour(scene: Scene) -> Facts:
    """A second platform in another namespace, with an operator of its own: neither touches the other

    The second one has a missing Secret, then an address where no Postgres answers, then that of the first one's, each
    told by a condition. A third one beside it is refused until the second is deleted. It is removed the other way
    round, the chart first, and with deletionPolicy Delete nothing of it stays.
    """
    ours = scene.platform
    second, third = (Installed("betting-other", "betting", name) for name in ("second", "third"))
    before, facts = _generations(ours), Facts()
    second.make_namespace()
    try:
        # The resource definition is there: the first chart owns it.
        second.install_operator(scene.images.current, "--set=replicas=1", "--set=crds.install=false")
        facts["missing_secret"], facts["wrong_dsn"] = _badly_addressed(second)
        facts["shared_database"] = _addressed_to(ours, second)
        _apply_small(third, {"managed": {}})
        wait_for("one beside it is refused", lambda: _told(third, "Accepted", "second"), TOLD_S, third.why)
        facts["refused_beside_it"] = third.condition("Accepted")["message"]
        second.remove()
        wait_for("it is accepted then", lambda: third.is_true("Accepted"), TOLD_S, third.why)
        secrets, claims = _wait_for_data(third)
        say(f"it has {', '.join([*secrets, *claims])}")
        stays("ours is left alone", lambda: _generations(ours) == before, 5.0)
        facts["removed_chart_first_s"] = _removed_chart_first(third)
    finally:
        kubectl("delete", "namespace", second.namespace, "--timeout=180s")
    expect(_generations(ours) == before, "objects of the first platform were written meanwhile")
    expect(ours.is_true("Ready"), f"the first platform is not Ready: {ours.why()}")
    return facts


def _badly_addressed(second: Installed) -> tuple[str, str]:
    """What is told of a Secret that is not there, and of an address where no Postgres answers."""
    _apply_small(second, {"external": {"dsnSecret": {"name": DSN_SECRET, "key": "dsn"}}})
    _said(second, "Accepted", DSN_SECRET)
    missing = str(second.condition("Accepted")["message"])
    say(missing)
    expect("spec.database.external.dsnSecret" in missing, f"the field is not named: {missing}")

    _give_dsn(second, "postgresql://betting:secret@127.0.0.1:5432/betting")
    _said(second, "DatabaseReady", "5432")
    wrong = str(second.condition("DatabaseReady")["message"])
    say(wrong)
    expect("spec.database.external" in wrong, f"the field is not named: {wrong}")
    return missing, wrong


def _addressed_to(ours: Installed, second: Installed) -> str:
    """What is told of the database that another platform works with, which a policy lets the second one reach here."""
    pod = f"{ours.name}-postgres-0"
    labels = got("pod", pod, f"--namespace={ours.namespace}")["metadata"]["labels"]
    names = ("app.kubernetes.io/name", "app.kubernetes.io/instance")
    theirs = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": second.namespace}}}
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "e2e-neighbour"},
        "spec": {
            "podSelector": {"matchLabels": {name: labels[name] for name in names}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [theirs]}],
        },
    }
    at = f"--namespace={ours.namespace}"
    host = f"{ours.name}-postgres"
    kubectl("apply", at, "--filename=-", sent=json.dumps(policy))
    try:
        dsn = ours.secret(host)["dsn"]
        _give_dsn(second, dsn.replace(f"@{host}:", f"@{host}.{ours.namespace}:"))
        _said(second, "Accepted", f"{ours.name}-bet-service-")
    finally:
        kubectl("delete", "networkpolicy", "e2e-neighbour", at)
    told = second.condition("Accepted")
    say(str(told["message"]))
    expect(told["reason"] == "DatabaseShared", f"the reason is {told['reason']}")
    return str(told["message"])


def _give_dsn(platform: Installed, dsn: str) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": DSN_SECRET}, "stringData": {"dsn": dsn}}
    kubectl("apply", f"--namespace={platform.namespace}", "--filename=-", sent=json.dumps(secret))


def _wait_for_data(platform: Installed) -> tuple[list[str], list[str]]:
    """Until it has its Secrets and its volume; their names."""
    wait_for("it has Secrets and a volume", lambda: all(retained(platform)), TOLD_S, platform.why)
    return retained(platform)


def _removed_chart_first(platform: Installed) -> float:
    """helm uninstall, then kubectl delete bp: seconds until nothing is left, its data included."""
    began_s = time.monotonic()
    helm("uninstall", platform.release, f"--namespace={platform.namespace}", "--wait", "--timeout=2m")
    platform.remove()
    wait_for("nothing of it is left", lambda: not platform.leftovers(), 120.0, lambda: str(platform.leftovers()))

    def data_is_gone() -> bool:
        return not any(retained(platform))

    wait_for("with deletionPolicy Delete its data is gone", data_is_gone, 60.0, lambda: str(retained(platform)))
    return round(time.monotonic() - began_s, 1)


def _apply_small(platform: Installed, database: dict[str, object]) -> None:
    """A platform of one pod each: both are on one machine."""
    resource = {
        "apiVersion": "selfhealing.bet/v1alpha1",
        "kind": "BettingPlatform",
        "metadata": {"name": platform.name},
        "spec": {
            "deletionPolicy": "Delete",
            "services": {each.field: {"replicas": 1} for each in PROCESSES if each.field},
            "redis": {"managed": {"replicas": 1}},
            "database": database,
        },
    }
    kubectl("apply", f"--namespace={platform.namespace}", "--filename=-", sent=json.dumps(resource))


def _told(platform: Installed, kind: str, word: str) -> bool:
    found = platform.condition(kind)
    return found.get("status") == "False" and word in found["message"]


def _said(platform: Installed, kind: str, word: str) -> float:
    """Seconds until a condition is False with this word in its message."""
    took_s = wait_for(f"{kind}=False names {word}", lambda: _told(platform, kind, word), SAID_S, platform.why)
    return round(took_s, 1)


def _generations(platform: Installed) -> dict[str, int]:
    """The generation of every object of the platform that has one: it goes up with each change of its spec."""
    kinds = "deployments,statefulsets,services,jobs,poddisruptionbudgets,networkpolicies"
    labels = "--selector=app.kubernetes.io/managed-by=betting-operator"
    found = got(kinds, f"--namespace={platform.namespace}", labels)["items"]
    return {f"{each['kind']}/{each['metadata']['name']}": each["metadata"].get("generation", 0) for each in found}


def bad_spec(scene: Scene) -> Facts:
    """A running platform whose spec turns bad goes on as it is: a missing Secret, a schema newer than the image"""
    platform, facts = scene.platform, Facts()
    before = _generations(platform)

    refused_at_admission: dict[str, dict[str, object]] = {
        "fewer shards": {"shardCount": 8},
        "least above most": {"services": {"betService": {"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}}},
        "two databases": {"database": {"external": {"dsnSecret": {"name": "x"}}}},
    }
    for what, change in refused_at_admission.items():
        try:
            platform.change(**change)
        except Failed as error:
            facts[f"refused_{what.replace(' ', '_')}"] = str(error).rpartition("spec")[2][:120]
        else:
            raise Failed(f"{what} was not refused at admission")

    platform.change(feeds={"theOddsApi": {"keySecret": {"name": "there-is-none"}}})
    facts["missing_secret_s"] = _said(platform, "Accepted", "spec.feeds.theOddsApi")
    facts["missing_secret"] = platform.condition("Accepted")["message"]
    stays("nothing is changed", lambda: _generations(platform) == before, 5.0)
    platform.change(feeds={"theOddsApi": None})
    wait_for("Accepted is True", lambda: platform.is_true("Accepted"), TOLD_S, platform.why)

    async def mark(connection: asyncpg.Connection) -> None:
        await connection.execute(
            "INSERT INTO public._yoyo_migration (migration_hash, migration_id, applied_at_utc) VALUES ($1, $1, now())",
            NEWER,
        )

    async def unmark(connection: asyncpg.Connection) -> None:
        await connection.execute("DELETE FROM public._yoyo_migration WHERE migration_id = $1", NEWER)

    platform.ask(mark)
    try:
        facts["newer_schema_s"] = _said(platform, "Migrated", NEWER)
        facts["newer_schema"] = platform.condition("Migrated")["message"]
        say(str(facts["newer_schema"]))
        stays("nothing is changed", lambda: _generations(platform) == before, 5.0)
    finally:
        platform.ask(unmark)
    platform.wait_ready()
    platform.wait_rolled_out()
    return facts


def no_room(scene: Scene) -> Facts:
    """A pod that asks for more than any node has: it is said in the scheduler's words, the old pods serve; then back

    kubectl patch bp/demo --type=merge --patch='{"spec": {"services": {"walletService": {"resources": {"cpu": …}}}}}'
    """
    platform = scene.platform
    before = {each["metadata"]["name"] for each in platform.pods("wallet-service")}
    platform.change(services={"walletService": {"resources": {"cpu": MORE_THAN_THERE_IS}}})
    said_s = _said(platform, "RolledOut", "Insufficient cpu")
    told = platform.condition("RolledOut")["message"]
    say(str(told))
    expect("make room" in told, f"it does not say what to do: {told}")
    ready = lambda: before <= platform.shown_ready()  # noqa: E731
    stays("the old pods serve", ready, 5.0)
    platform.change(services={"walletService": {"resources": None}})
    back_s = platform.wait_rolled_out(scene.images.current)
    return {"said_s": said_s, "told": told, "back_s": round(back_s, 1)}


def names_not_resolved(scene: Scene) -> Facts:
    """The cluster's DNS away for half a minute: it is said, whoever knows an address keeps it, and bets go on

    kubectl scale --namespace=kube-system deployment/coredns --replicas=0
    """
    at = "--namespace=kube-system"
    name = items("deployments", at, "--selector=k8s-app=kube-dns")[0]["metadata"]["name"]
    replicas = got("deployment", name, at)["spec"]["replicas"]

    def answers() -> bool:
        slices = items("endpointslices", at, "--selector=kubernetes.io/service-name=kube-dns")
        return any(found["conditions"].get("ready") for each in slices for found in each.get("endpoints") or ())

    kubectl("scale", f"deployment/{name}", at, "--replicas=0")
    try:
        wait_for("no DNS answers", lambda: not answers(), TOLD_S)
        began_s = time.monotonic()
        said_s = _said(scene.platform, "NamesResolved", "kube-dns")
        time.sleep(max(0.0, began_s + AWAY_S - time.monotonic()))  # the length of the outage is the fault
        expect(scene.platform.is_true("Ready"), f"bets are not taken: {scene.platform.why()}")
    finally:
        kubectl("scale", f"deployment/{name}", at, f"--replicas={replicas}")
    back_s = wait_for("DNS answers", lambda: scene.platform.is_true("NamesResolved"), TOLD_S, scene.platform.why)
    return {"away_s": AWAY_S, "said_s": said_s, "back_s": round(back_s, 1)}


def at_rest(scene: Scene) -> Facts:
    """The operator at rest for a minute: CPU, memory, calls to the API server, and no write but the Lease"""
    platform = scene.platform
    platform.wait_rolled_out()
    time.sleep(15.0)  # what came before has ended
    pods = [each["metadata"]["name"] for each in platform.pods(operator=True)]
    leader = platform.leader()
    before = {pod: _use(platform, pod) for pod in pods}
    began, began_s = api_calls.now(), time.monotonic()
    time.sleep(REST_S)
    until, took_s = api_calls.now(), time.monotonic() - began_s
    after = {pod: _use(platform, pod) for pod in pods}
    expect(platform.leader() == leader, "the leader changed meanwhile: the minute does not count")
    facts = Facts()
    for pod in pods:
        role = "leader" if pod == leader else "standby"
        facts[f"{role}_cpu_cores"] = round((after[pod][0] - before[pod][0]) / took_s, 3)
        facts[f"{role}_memory_mib"] = round(after[pod][1] / 2**20)
    try:
        calls = api_calls.of_operator(platform.namespace, began, until)
    except Skipped as error:
        return facts | {"api_calls": f"not known: {error}"}
    per_minute = Counter({what: round(count * 60 / took_s) for what, count in api_calls.counted(calls).items()})
    facts["api_calls_per_minute"] = sum(per_minute.values())
    facts["api_calls"] = dict(per_minute.most_common())
    api_calls.expect_evidence(calls, leader)
    refused = [each for each in calls if each.code in (401, 403)]
    expect(not refused, f"the operator may not {', '.join({f'{each.verb} {each.resource}' for each in refused})}")
    writes = Counter(f"{each.verb} {each.resource} {each.name}" for each in calls if each.is_write)
    others = {what: count for what, count in writes.items() if " leases " not in what}
    expect(not others, f"the operator writes at rest: {others}")
    return facts


def _use(platform: Installed, pod: str) -> tuple[float, int]:
    cpu, rss = kubectl("exec", pod, f"--namespace={platform.namespace}", "--", "python", "-c", _USE).split()
    return float(cpu), int(rss)


SCENARIOS = (
    Scenario("drift", drift),
    Scenario("bad-spec", bad_spec),
    Scenario("no-room", no_room),
    Scenario("dns", names_not_resolved),
    Scenario("neighbour", neighbour),
    Scenario("at-rest", at_rest, loaded=False, core=True),
)
