"""What the condition RolledOut says of a roll that is under way, waits or is stuck, by what was observed."""

from __future__ import annotations

from typing import Any

import kubelet
import platforms
import pytest
from statuses import NOW, conditions_of, message_of, status_of

from betting_operator.kubernetes import status
from betting_operator.kubernetes.manifests import Manifest
from betting_operator.kubernetes.reconcile import Key, Observed, key_of, plan, template_of

QUOTA = 'pods "x" is forbidden: exceeded quota: none'


def test_a_roll_that_makes_no_progress_says_so_and_that_the_old_pods_serve() -> None:
    objects = platforms.settled(platforms.platform())
    before = status_of(objects)
    after = platforms.platform(image={"repository": "betting", "tag": "2"})
    objects |= {
        key_of(each): platforms.live(each) for each in plan(after, Observed(objects), platforms.new_password).apply
    }
    stuck = {"conditions": [{"type": "Progressing", "status": "False", "message": "no progress"}], "updatedReplicas": 0}
    monitor = next(
        each
        for each in plan(after, Observed(objects), platforms.new_password).apply
        if each["metadata"]["name"] == "demo-health-monitor" and each["kind"] == "Deployment"
    )
    objects[key_of(monitor)] = platforms.live(monitor, **stuck)
    found = status_of(objects, platform=after, before=before)
    assert conditions_of(found)["RolledOut"] == ("False", "RollStuck")
    assert message_of(found, "RolledOut") == (
        "demo-health-monitor: no progress; the pods of the version before serve on;"
        " correct the version or setting, or go back (docs/operator/upgrade.md)"
    )
    assert (found["phase"], found["image"]) == ("Rolling", "localhost/betting:1.0.0")
    assert conditions_of(found)["Ready"][0] == "True"


IMAGE_AWAY = kubelet.waiting("ErrImagePull", "not found")
BACK_OFF = kubelet.waiting("CrashLoopBackOff", "back-off 10s restarting failed container")
ONE_END = {"terminated": {"exitCode": 1, "reason": "Error", "message": "Traceback …\n\nImportError: no module x\n"}}


@pytest.mark.parametrize(
    ("state", "restarts", "ready", "reason"),
    [
        pytest.param(kubelet.running(), 0, False, "Rolling", id="starts"),
        pytest.param(ONE_END, 0, False, "Rolling", id="has ended once"),
        pytest.param(kubelet.running(), 1, False, "Rolling", id="starts for the second time"),
        pytest.param(BACK_OFF, 1, False, "RollStuck", id="has ended twice"),
        pytest.param(kubelet.running(), 2, False, "RollStuck", id="starts for the third time"),
        pytest.param(kubelet.running(), 2, True, "Rolling", id="is ready at the third time"),
        pytest.param(IMAGE_AWAY, 0, False, "RollStuck", id="its image cannot be pulled"),
        pytest.param(kubelet.waiting("ContainerCreating"), 0, False, "Rolling", id="is being made"),
    ],
)
def test_a_roll_is_stuck_as_soon_as_a_new_pod_keeps_failing_and_until_it_is_ready(
    state: dict[str, Any], restarts: int, ready: bool, reason: str
) -> None:
    """One end may be an accident, two are not: what a service needs, it waits for."""
    objects, template = _rolling()
    pod = _bet_service(template, kubelet.container("bet-service", state, ONE_END, restarts=restarts, ready=ready))
    assert conditions_of(status_of(objects | pod))["RolledOut"] == ("False", reason)


def test_a_stuck_roll_names_the_pod_how_it_ended_and_what_to_do() -> None:
    objects, template = _rolling()
    before = {"image": "localhost/betting:0.9.0"}
    crashing = _bet_service(template, kubelet.container("bet-service", BACK_OFF, ONE_END, restarts=2, ready=False))
    assert message_of(status_of(objects | crashing, before=before), "RolledOut") == (
        "demo-bet-service: demo-bet-service-1: CrashLoopBackOff: it has ended 3 times, last with exit code 1:"
        " ImportError: no module x (kubectl logs demo-bet-service-1 --previous);"
        " the pods of the version before serve on;"
        " correct the version or setting, or go back (docs/operator/upgrade.md)"
    )
    boot_id = kubelet.terminated("0b8e7f6a5d4c3b2a", reason="OOMKilled")
    killed = _bet_service(template, kubelet.container("bet-service", BACK_OFF, boot_id, restarts=1, ready=False))
    assert message_of(status_of(objects | killed), "RolledOut").startswith(
        "demo-bet-service: demo-bet-service-1: CrashLoopBackOff: it has ended 2 times,"
        " last with OOMKilled, exit code 137 (kubectl logs"
    )


def test_pods_of_an_older_template_or_that_are_being_deleted_do_not_make_a_roll_stuck() -> None:
    """The version that is replaced may be the one that crashes."""
    objects, template = _rolling()
    crashing = kubelet.container("bet-service", BACK_OFF, ONE_END, restarts=5, ready=False)
    assert conditions_of(status_of(objects | _bet_service("older", crashing)))["RolledOut"] == ("False", "Rolling")
    [(key, pod)] = _bet_service(template, crashing).items()
    pod["metadata"]["deletionTimestamp"] = NOW
    assert conditions_of(status_of(objects | {key: pod}))["RolledOut"] == ("False", "Rolling")


def test_a_pod_that_has_no_node_yet_does_not_make_a_roll_stuck_before_its_deadline() -> None:
    """A node may be on its way. It is said at once all the same."""
    objects, template = _rolling()
    pod = _bet_service(template)
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}
    next(iter(pod.values()))["status"] = {"conditions": [condition]}
    found = status_of(objects | pod)
    assert conditions_of(found)["RolledOut"] == ("False", "Rolling")
    assert message_of(found, "RolledOut") == (
        "demo-bet-service is being rolled out: demo-bet-service-1: Unschedulable: no room;"
        " make room for it, or let it ask for less (docs/operator/conditions.md)"
    )
    assert message_of(status_of(objects), "RolledOut") == "demo-bet-service is being rolled out"
    bets = objects[Key("Deployment", "demo-bet-service")]
    bets["status"]["conditions"] = [{"type": "Progressing", "status": "False", "message": "deadline"}]
    found = status_of(objects | pod)
    assert conditions_of(found)["RolledOut"] == ("False", "RollStuck")
    assert "demo-bet-service-1: Unschedulable: no room" in message_of(found, "RolledOut")


REFUSED = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": QUOTA}


def test_a_deployment_whose_pods_are_refused_says_why() -> None:
    """There is no pod to look at."""
    objects = platforms.settled(platforms.platform())
    before = status_of(objects)
    wallet = objects[Key("Deployment", "demo-wallet-service")]
    objects[key_of(wallet)] = platforms.live(
        wallet, replicas=0, updatedReplicas=0, readyReplicas=0, availableReplicas=0, conditions=[REFUSED]
    )
    found = status_of(objects, before=before)
    assert message_of(found, "Available") == f"wallet-service has no ready pod: FailedCreate: {QUOTA}"
    assert conditions_of(found)["RolledOut"] == ("False", "RollStuck")
    assert message_of(found, "RolledOut").startswith(
        f"demo-wallet-service: FailedCreate: {QUOTA}; the pods of the version"
    )
    objects[key_of(wallet)]["status"]["conditions"] = [REFUSED | {"status": "False"}]
    assert QUOTA not in str(status_of(objects, before=before))
    uncreated = {
        "type": "Progressing",
        "status": "False",
        "reason": "ReplicaSetCreateError",
        "message": "no replicasets",
    }
    objects[key_of(wallet)]["status"]["conditions"] = [uncreated]
    assert "has no ready pod: ReplicaSetCreateError: no replicasets" in message_of(status_of(objects), "Available")


def test_where_every_deployment_is_refused_all_are_named_and_what_to_do() -> None:
    objects = platforms.settled(platforms.platform())
    for key, each in objects.items():
        if key.kind == "Deployment":
            refused = [REFUSED | {"message": "y" * 5_000}]
            objects[key] = platforms.live(each, updatedReplicas=0, readyReplicas=0, conditions=refused)
    found = status_of(objects)
    for kind in ("Available", "RolledOut"):
        assert all(each in message_of(found, kind) for each in ("wallet-service", "bet-service", "api-gateway"))
        assert message_of(found, kind).count("yyy…") == status.REASONS_MAX
    assert message_of(found, "RolledOut").endswith("or go back (docs/operator/upgrade.md)")


def test_a_refused_pod_of_a_scaled_deployment_does_not_make_it_a_roll() -> None:
    objects = platforms.settled(platforms.platform())
    bets = objects[Key("Deployment", "demo-bet-service")]
    well = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
    objects[key_of(bets)] = platforms.live(bets, availableReplicas=2, conditions=[well, REFUSED])
    assert conditions_of(status_of(objects))["RolledOut"] == ("True", "RolledOut")


def test_a_deployment_that_somebody_paused_makes_a_roll_stuck_at_once_and_says_how_to_go_on() -> None:
    objects, _template = _rolling()
    bets = objects[Key("Deployment", "demo-bet-service")]
    bets["spec"]["paused"] = True
    bets["status"]["conditions"] = [{"type": "Progressing", "status": "Unknown", "reason": "DeploymentPaused"}]
    found = status_of(objects, before={"image": "localhost/betting:0.9.0"})
    assert conditions_of(found)["RolledOut"] == ("False", "RollStuck")
    assert message_of(found, "RolledOut") == (
        "demo-bet-service: paused: kubectl rollout resume deployment/demo-bet-service;"
        " the pods of the version before serve on"
    )
    at_rest = platforms.settled(platforms.platform())
    at_rest[key_of(bets)]["spec"]["paused"] = True
    assert conditions_of(status_of(at_rest))["RolledOut"] == ("True", "RolledOut"), "nothing waits for it"


def test_a_crashing_pod_after_the_roll_does_not_make_it_stuck() -> None:
    objects = platforms.settled(platforms.platform())
    template = template_of(objects[Key("Deployment", "demo-bet-service")])
    pod = _bet_service(template, kubelet.container("bet-service", BACK_OFF, ONE_END, restarts=5, ready=False))
    assert conditions_of(status_of(objects | pod))["RolledOut"] == ("True", "RolledOut")


def _rolling() -> tuple[dict[Key, Manifest], str]:
    """A platform whose bet-service has a new pod beside the old ones, and the hash of the new template."""
    objects = platforms.settled(platforms.platform())
    bets = objects[Key("Deployment", "demo-bet-service")]
    objects[key_of(bets)] = platforms.live(bets, replicas=3, updatedReplicas=1, availableReplicas=2)
    return objects, template_of(bets)


def _bet_service(template: str, *containers: dict[str, Any]) -> dict[Key, Manifest]:
    pod = kubelet.reported(kubelet.pod("bet-service", "demo-bet-service-1"), *containers)
    pod["metadata"]["annotations"] = {"selfhealing.bet/template": template}
    return {key_of(pod): pod}


def test_a_pod_that_fails_after_the_roll_does_not_make_it_a_roll_again() -> None:
    """Neither do the pods that an autoscaler adds: the Deployment says that its newest template is available."""
    objects = platforms.settled(platforms.platform())
    bets = objects[Key("Deployment", "demo-bet-service")]
    objects[key_of(bets)] = platforms.live(
        bets,
        conditions=[{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}],
        replicas=3,
        updatedReplicas=3,
        availableReplicas=1,
    )
    assert conditions_of(status_of(objects))["RolledOut"] == ("True", "RolledOut")
    objects[key_of(bets)]["status"]["updatedReplicas"] = 1
    assert conditions_of(status_of(objects))["RolledOut"] == ("False", "Rolling")
