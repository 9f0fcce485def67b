"""What Kubernetes does to a platform on an ordinary day, under load: nodes drained, operators and API server away."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack

import api_calls
from platform_under_test import Installed, seconds_since
from scene import Facts, Scenario, Scene
from tools import (
    Skipped,
    api_server_processes,
    expect,
    frozen,
    got,
    items,
    kubectl,
    only,
    operator_processes,
    require_signals,
    say,
    stays,
    wait_for,
)

API_AWAY_S = 60.0
# A leader that does not renew is replaced once its Lease has been unchanged for 6 s.
REPLACED_S = 45.0
PAST_LEASE_S = 12.0
AUDIT_FLUSH_S = 1.0


def drain(scene: Scene) -> Facts:
    """A node drained and back: kubectl drain --ignore-daemonsets --delete-emptydir-data; kubectl uncordon

    Not the node of Postgres: the managed one is a single pod on a local volume, so draining its node is an outage
    (that is what an external database is for). Of the others, one with a bet-service is taken.
    """
    platform = scene.platform
    database = platform.node_of(f"{platform.name}-postgres-0")
    nodes = {each["spec"]["nodeName"] for each in platform.pods("bet-service")} - {database}
    expect(nodes, f"every bet-service pod is on the node of Postgres, {database}")
    node = min(nodes)
    moved = [each["metadata"]["name"] for each in platform.pods() if each["spec"]["nodeName"] == node]
    say(f"draining {node} ({len(moved)} pods of the platform); Postgres is on {database}")
    began_s = time.monotonic()
    try:
        kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=240s")
        drained_s = seconds_since(began_s)
        wait_for("every pod is Ready elsewhere", lambda: all_ready(platform, node), 120.0, platform.why)
        whole_s = seconds_since(began_s)
    finally:
        wait_for(f"{node} takes pods again", lambda: kubectl("uncordon", node), 60.0)
    return {"node": node, "pods": len(moved), "drained_s": drained_s, "whole_again_s": whole_s}


def all_ready(platform: Installed, without_node: str = "") -> bool:
    """Whether every Deployment has its pods Ready, none of them on that node, and the platform is Ready."""
    labels = "--selector=app.kubernetes.io/managed-by=betting-operator"
    deployments = items("deployments", f"--namespace={platform.namespace}", labels)
    full = all(each["status"].get("readyReplicas", 0) == each["spec"]["replicas"] for each in deployments)
    elsewhere = all(each["spec"].get("nodeName") != without_node for each in platform.pods())
    return full and elsewhere and platform.is_true("Ready", "RedisReady")


def operator_pods(scene: Scene) -> Facts:
    """The operator's leader deleted, killed, and stopped past its Lease and continued: another acts, never two

    Whether one acts is tried each time: a PodDisruptionBudget is deleted and must come back.
    """
    platform = scene.platform
    began, facts = api_calls.now(), Facts()

    leader = platform.leader()
    kubectl("delete", "pod", leader, f"--namespace={platform.namespace}", "--wait=false")
    facts["deleted_repairs_s"] = replaced(platform, leader)
    facts["deleted_healer_shown_s"] = healer_shown(platform)

    killed = platform.leader()
    os.kill(only(operator_processes(killed), killed), signal.SIGKILL)
    facts["killed_repairs_s"] = repaired(platform)

    settle(platform)
    stopped = platform.leader()
    with frozen(only(operator_processes(stopped), stopped)):
        facts["stopped_repairs_s"] = replaced(platform, stopped)
        time.sleep(PAST_LEASE_S)
    say(f"{stopped} goes on after its Lease has ended")
    facts["stopped_healer_shown_s"] = healer_shown(platform)
    successor = platform.leader()
    stays("the one that was stopped stands by", lambda: platform.leader() == successor, 10.0)
    facts["continued_repairs_s"] = repaired(platform)
    settle(platform)

    time.sleep(AUDIT_FLUSH_S)
    try:
        calls = api_calls.of_operator(platform.namespace, began, api_calls.now())
    except Skipped as error:
        return facts | {"writes_without_the_lease": f"not known: {error}"}
    # Not of the first leader: it may have been deleted before it renewed.
    api_calls.expect_evidence(calls, killed, stopped, successor)
    writes = [each for each in calls if each.is_write and each.resource != "leases"]
    expect(writes, "the audit log has no write of the operator but the Lease, and it has repaired something four times")
    stray = api_calls.acted_without_lease(calls)
    first = "; ".join(f"{each.at:%H:%M:%S.%f} {each.pod} {each.verb} {each.resource} {each.name}" for each in stray[:3])
    expect(not stray, f"{len(stray)} writes by a pod that did not hold the Lease: {first}")
    return facts | {"writes": len(writes), "writes_without_the_lease": len(stray)}


def signals_to_operator(scene: Scene) -> None:
    """Raises Skipped where the operator's processes cannot be killed and stopped."""
    leader = scene.platform.leader()
    require_signals(lambda: operator_processes(leader), leader or "the operator: nobody leads")


def replaced(platform: Installed, leader: str) -> float:
    """Until another pod leads and has repaired something."""
    took_s = wait_for(
        f"another than {leader} leads", lambda: platform.leader() not in ("", leader), REPLACED_S, platform.leader
    )
    return round(took_s + repaired(platform), 1)


def healer_shown(platform: Installed) -> float:
    """Seconds until health-monitor shows the healer of the operator that leads as ready, and no other operator's."""

    def is_shown() -> bool:
        operators = {each["metadata"]["name"] for each in platform.pods(operator=True)}
        return platform.shown_ready() & operators == {platform.leader()}

    return round(wait_for("health-monitor shows the leader's healer", is_shown, REPLACED_S, platform.leader), 1)


def repaired(platform: Installed) -> float:
    """Seconds until a deleted object is back."""
    name, at = f"{platform.name}-bet-service", f"--namespace={platform.namespace}"
    uid = got("poddisruptionbudget", name, at)["metadata"]["uid"]
    kubectl("delete", "poddisruptionbudget", name, at)

    def is_back() -> bool:
        return bool(got("poddisruptionbudget", name, at)["metadata"]["uid"] != uid)

    return round(wait_for("the deleted PodDisruptionBudget is back", is_back, REPLACED_S, platform.leader), 1)


def settle(platform: Installed) -> None:
    """Until both pods of the operator are Ready."""

    def both() -> bool:
        conditions = [c for pod in platform.pods(operator=True) for c in pod["status"].get("conditions", ())]
        return [c["status"] for c in conditions if c["type"] == "Ready"] == ["True", "True"]

    wait_for("both pods of the operator are Ready", both, 120.0)


def api_server_away(scene: Scene) -> Facts:
    """The API server away for a minute (SIGSTOP): bets go on; then the operator acts again"""
    platform = scene.platform

    def acts() -> bool:
        repaired(platform)
        return True

    process = only(api_server_processes(), "the API server")
    settle(platform)
    with ExitStack() as stack:
        stack.enter_context(frozen(process))
        say(f"the API server stands still for {API_AWAY_S:.0f} s")
        time.sleep(API_AWAY_S)
    began_s = time.monotonic()
    wait_for("the API server answers", lambda: got("nodes"), 60.0)
    answers_s = seconds_since(began_s)
    wait_for("an operator leads", platform.leader, 60.0)
    repairs_s = wait_for("it acts", acts, 60.0)
    # Nodes that could not report count as lost for a moment; their pods stay where they are.
    wait_for("everything is Ready", lambda: all_ready(platform), 120.0, platform.why)
    return {"answers_s": answers_s, "repairs_s": round(repairs_s, 1), "whole_s": seconds_since(began_s)}


def signals_to_api_server(_: Scene) -> None:
    """Raises Skipped where the API server cannot be stopped."""
    require_signals(api_server_processes, "the API server")


SCENARIOS = (
    Scenario("drain", drain, core=True),
    Scenario("operator", operator_pods, core=True, require=signals_to_operator),
    Scenario("api-server", api_server_away, require=signals_to_api_server),
)
