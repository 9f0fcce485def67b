"""What a platform's status says, by what was observed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import kubelet
import platforms
import pytest

from betting_operator.kubernetes import status
from betting_operator.kubernetes.installation import Database
from betting_operator.kubernetes.manifests import Manifest
from betting_operator.kubernetes.reconcile import Facts, Key, Observed, key_of, plan, template_of

WELL = Facts(16, 16, 0, "0111", "demo-redis-0", "steady", 3)
RUNS = status.Healer(runs=True)
NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"


def _status(objects: dict[Key, Manifest], facts: Facts | None = WELL, **more: Any) -> dict[str, Any]:
    platform = more.pop("platform", platforms.platform())
    before, now = more.pop("before", {}), more.pop("now", NOW)
    problems, healer = more.pop("problems", ()), more.pop("healer", RUNS)
    observed = Observed(objects, facts=facts, **more)
    planned = plan(platform, observed, platforms.new_password)
    return status.status(platform, observed, planned, problems, before, now, healer)


def _conditions(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in found["conditions"]}


def _message(found: dict[str, Any], kind: str) -> str:
    return str(next(each["message"] for each in found["conditions"] if each["type"] == kind))


def test_a_platform_that_works_is_ready() -> None:
    found = _status(platforms.settled(platforms.platform()))
    assert {each: value[0] for each, value in _conditions(found).items()} == dict.fromkeys(
        ("Ready", *status.CONDITIONS, "RolledOut", "Healing"), "True"
    )
    assert (found["phase"], found["message"]) == ("Ready", "")
    assert found["shards"]["summary"] == "16/16"
    assert found["redis"]["primary"] == "demo-redis-0"
    assert found["image"] == "localhost/betting:1.0.0"


def test_a_new_platform_says_what_it_waits_for() -> None:
    found = _status({}, None, problem="it has not answered yet")
    assert found["phase"] == "Installing"
    assert _conditions(found)["Ready"] == ("False", "NotRunning")
    assert found["message"] == "Postgres does not run: its pod does not exist yet"
    assert "image" not in found


@pytest.mark.parametrize(
    ("facts", "condition", "reason", "ready"),
    [
        (replace(WELL, owned=15), "ShardsOwned", "ShardsOrphaned", "False"),
        (replace(WELL, owned=15, frozen=1), "ShardsOwned", "ShardsFrozen", "False"),
        (replace(WELL, primary=""), "RedisReady", "NoPrimary", "True"),
        (replace(WELL, redis_phase="fencing"), "RedisReady", "FailingOver", "True"),
        (replace(WELL, refusal="it has schema 9999"), "Migrated", "SchemaNewer", "True"),
        (None, "ShardsOwned", "DatabaseAway", "False"),
    ],
)
def test_ready_means_that_bets_are_taken(facts: Facts | None, condition: str, reason: str, ready: str) -> None:
    found = _status(platforms.settled(platforms.platform()), facts)
    assert _conditions(found)[condition][1] == reason
    assert _conditions(found)["Ready"][0] == ready


def test_shards_of_nobody_that_runs_are_counted_where_people_look() -> None:
    """Not frozen ones: a person decides about those."""
    objects = platforms.settled(platforms.platform())
    found = _status(objects, replace(WELL, owned=13))
    assert _conditions(found)["Ready"] == ("False", "ShardsOrphaned")
    assert found["message"] == "3 of 16 shards are owned by no bet-service that runs"
    assert found["shards"]["summary"] == "13/16"
    both = _status(objects, replace(WELL, owned=13, frozen=1))
    assert _conditions(both)["Ready"] == ("False", "ShardsFrozen")
    assert both["message"].startswith("1 of 16 shards are frozen")
    assert both["message"].endswith("2 of 16 shards are owned by no bet-service that runs")


def test_a_platform_that_was_rolled_out_and_misses_something_is_degraded() -> None:
    objects = platforms.settled(platforms.platform())
    before = _status(objects)
    assert _status(objects, replace(WELL, primary=""), before=before)["phase"] == "Degraded"


def test_a_service_without_a_ready_pod_is_named_with_the_reason_of_the_kubelet() -> None:
    objects = platforms.settled(platforms.platform())
    wallet = objects[Key("Deployment", "demo-wallet-service")]
    objects[key_of(wallet)] = platforms.live(wallet, readyReplicas=0)
    pod = _pod("demo-wallet-service-1", "wallet-service", waiting={"reason": "ImagePullBackOff", "message": "no such"})
    objects[key_of(pod)] = pod
    found = _status(objects)
    assert _conditions(found)["Ready"] == ("False", "ServicesUnavailable")
    assert found["message"] == "wallet-service has no ready pod: demo-wallet-service-1: ImagePullBackOff: no such"


def test_a_roll_that_makes_no_progress_says_so_and_that_the_old_pods_serve() -> None:
    objects = platforms.settled(platforms.platform())
    before = _status(objects)
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
    found = _status(objects, platform=after, before=before)
    assert _conditions(found)["RolledOut"] == ("False", "RollStuck")
    assert _message(found, "RolledOut") == (
        "demo-health-monitor: no progress; the pods of the version before serve on;"
        " correct the version or setting, or go back (docs/operator/upgrade.md)"
    )
    assert (found["phase"], found["image"]) == ("Rolling", "localhost/betting:1.0.0")
    assert _conditions(found)["Ready"][0] == "True"


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
    assert _conditions(_status(objects | pod))["RolledOut"] == ("False", reason)


def test_a_stuck_roll_names_the_pod_how_it_ended_and_what_to_do() -> None:
    objects, template = _rolling()
    before = {"image": "localhost/betting:0.9.0"}
    crashing = _bet_service(template, kubelet.container("bet-service", BACK_OFF, ONE_END, restarts=2, ready=False))
    assert _message(_status(objects | crashing, before=before), "RolledOut") == (
        "demo-bet-service: demo-bet-service-1: CrashLoopBackOff: it has ended 3 times, last with exit code 1:"
        " ImportError: no module x (kubectl logs demo-bet-service-1 --previous);"
        " the pods of the version before serve on;"
        " correct the version or setting, or go back (docs/operator/upgrade.md)"
    )
    boot_id = kubelet.terminated("0b8e7f6a5d4c3b2a", reason="OOMKilled")
    killed = _bet_service(template, kubelet.container("bet-service", BACK_OFF, boot_id, restarts=1, ready=False))
    assert _message(_status(objects | killed), "RolledOut").startswith(
        "demo-bet-service: demo-bet-service-1: CrashLoopBackOff: it has ended 2 times,"
        " last with OOMKilled, exit code 137 (kubectl logs"
    )


def test_pods_of_an_older_template_or_that_are_being_deleted_do_not_make_a_roll_stuck() -> None:
    """The version that is replaced may be the one that crashes."""
    objects, template = _rolling()
    crashing = kubelet.container("bet-service", BACK_OFF, ONE_END, restarts=5, ready=False)
    assert _conditions(_status(objects | _bet_service("older", crashing)))["RolledOut"] == ("False", "Rolling")
    [(key, pod)] = _bet_service(template, crashing).items()
    pod["metadata"]["deletionTimestamp"] = NOW
    assert _conditions(_status(objects | {key: pod}))["RolledOut"] == ("False", "Rolling")


def test_a_pod_that_has_no_node_yet_does_not_make_a_roll_stuck_before_its_deadline() -> None:
    """A node may be on its way."""
    objects, template = _rolling()
    pod = _bet_service(template)
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}
    next(iter(pod.values()))["status"] = {"conditions": [condition]}
    assert _conditions(_status(objects | pod))["RolledOut"] == ("False", "Rolling")
    bets = objects[Key("Deployment", "demo-bet-service")]
    bets["status"]["conditions"] = [{"type": "Progressing", "status": "False", "message": "deadline"}]
    found = _status(objects | pod)
    assert _conditions(found)["RolledOut"] == ("False", "RollStuck")
    assert "demo-bet-service-1: Unschedulable: no room" in _message(found, "RolledOut")


QUOTA = 'pods "x" is forbidden: exceeded quota: none'
REFUSED = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": QUOTA}


def test_a_deployment_whose_pods_are_refused_says_why() -> None:
    """There is no pod to look at."""
    objects = platforms.settled(platforms.platform())
    before = _status(objects)
    wallet = objects[Key("Deployment", "demo-wallet-service")]
    objects[key_of(wallet)] = platforms.live(
        wallet, replicas=0, updatedReplicas=0, readyReplicas=0, availableReplicas=0, conditions=[REFUSED]
    )
    found = _status(objects, before=before)
    assert _message(found, "Available") == f"wallet-service has no ready pod: FailedCreate: {QUOTA}"
    assert _conditions(found)["RolledOut"] == ("False", "RollStuck")
    assert _message(found, "RolledOut").startswith(
        f"demo-wallet-service: FailedCreate: {QUOTA}; the pods of the version"
    )
    objects[key_of(wallet)]["status"]["conditions"] = [REFUSED | {"status": "False"}]
    assert QUOTA not in str(_status(objects, before=before))
    uncreated = {
        "type": "Progressing",
        "status": "False",
        "reason": "ReplicaSetCreateError",
        "message": "no replicasets",
    }
    objects[key_of(wallet)]["status"]["conditions"] = [uncreated]
    assert "has no ready pod: ReplicaSetCreateError: no replicasets" in _message(_status(objects), "Available")


def test_where_every_deployment_is_refused_all_are_named_and_what_to_do() -> None:
    objects = platforms.settled(platforms.platform())
    for key, each in objects.items():
        if key.kind == "Deployment":
            refused = [REFUSED | {"message": "y" * 5_000}]
            objects[key] = platforms.live(each, updatedReplicas=0, readyReplicas=0, conditions=refused)
    found = _status(objects)
    for kind in ("Available", "RolledOut"):
        assert all(each in _message(found, kind) for each in ("wallet-service", "bet-service", "api-gateway"))
        assert _message(found, kind).count("yyy…") == status.REASONS_MAX
    assert _message(found, "RolledOut").endswith("or go back (docs/operator/upgrade.md)")


def test_a_refused_pod_of_a_scaled_deployment_does_not_make_it_a_roll() -> None:
    objects = platforms.settled(platforms.platform())
    bets = objects[Key("Deployment", "demo-bet-service")]
    well = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
    objects[key_of(bets)] = platforms.live(bets, availableReplicas=2, conditions=[well, REFUSED])
    assert _conditions(_status(objects))["RolledOut"] == ("True", "RolledOut")


def test_a_deployment_that_somebody_paused_makes_a_roll_stuck_at_once_and_says_how_to_go_on() -> None:
    objects, _template = _rolling()
    bets = objects[Key("Deployment", "demo-bet-service")]
    bets["spec"]["paused"] = True
    bets["status"]["conditions"] = [{"type": "Progressing", "status": "Unknown", "reason": "DeploymentPaused"}]
    found = _status(objects, before={"image": "localhost/betting:0.9.0"})
    assert _conditions(found)["RolledOut"] == ("False", "RollStuck")
    assert _message(found, "RolledOut") == (
        "demo-bet-service: paused: kubectl rollout resume deployment/demo-bet-service;"
        " the pods of the version before serve on"
    )
    at_rest = platforms.settled(platforms.platform())
    at_rest[key_of(bets)]["spec"]["paused"] = True
    assert _conditions(_status(at_rest))["RolledOut"] == ("True", "RolledOut"), "nothing waits for it"


def test_of_jobs_and_stateful_sets_without_pods_it_is_said_why_none_was_made() -> None:
    objects = platforms.settled(platforms.platform())
    migration = plan(platforms.platform(), Observed(objects), platforms.new_password).migration
    del objects[Key("Job", migration)]
    keys = (Key("Job", migration), Key("StatefulSet", "demo-redis"), Key("StatefulSet", "demo-postgres"))
    found = _status(objects, None, refusals=dict.fromkeys(keys, f"FailedCreate: {QUOTA}"))
    conditions = _conditions(found)
    assert conditions["Migrated"] == conditions["RedisReady"] == conditions["DatabaseReady"] == ("False", "NotRunning")
    assert _message(found, "Migrated") == f"Job {migration}: FailedCreate: {QUOTA}"
    assert _message(found, "RedisReady") == f"FailedCreate: {QUOTA}"
    assert _message(found, "DatabaseReady") == f"Postgres does not run: FailedCreate: {QUOTA}"


def test_what_cannot_be_listed_takes_back_what_the_leader_before_has_said() -> None:
    """But for what must outlive it: the installation, the image, and what an autoscaler reads."""
    before = _status(platforms.settled(platforms.platform()), in_use=Database("a"))
    found = status.unlisted(before, ["ingresses: ingresses is forbidden"], LATER, 2)
    conditions = _conditions(found)
    assert conditions.pop("Accepted") == ("False", "NotListed")
    assert conditions.pop("Healing") == ("False", "NotListed")
    assert set(conditions) == {"Ready", "RolledOut", *status.CONDITIONS} - {"Accepted"}
    assert set(conditions.values()) == {("Unknown", "NotListed")}
    assert found["message"] == (
        "the operator cannot list what exists: ingresses: ingresses is forbidden; until it can, nothing is changed and"
        " nothing is healed: give its ServiceAccount the Role of the chart"
    )
    assert (found["phase"], status.unlisted({}, ["x"], NOW, 1)["phase"]) == ("Degraded", "NotApplied")
    assert {name: found[name] for name in ("database", "image", "betService")} == {
        name: before[name] for name in ("database", "image", "betService")
    }
    assert found.keys().isdisjoint({"shards", "redis"})
    again = status.unlisted(found, ["ingresses: ingresses is forbidden"], NOW, 2)
    assert again == found


def test_a_crashing_pod_after_the_roll_does_not_make_it_stuck() -> None:
    objects = platforms.settled(platforms.platform())
    template = template_of(objects[Key("Deployment", "demo-bet-service")])
    pod = _bet_service(template, kubelet.container("bet-service", BACK_OFF, ONE_END, restarts=5, ready=False))
    assert _conditions(_status(objects | pod))["RolledOut"] == ("True", "RolledOut")


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
    assert _conditions(_status(objects))["RolledOut"] == ("True", "RolledOut")
    objects[key_of(bets)]["status"]["updatedReplicas"] = 1
    assert _conditions(_status(objects))["RolledOut"] == ("False", "Rolling")


def test_of_a_migration_that_fails_again_and_again_the_last_failure_is_shown() -> None:
    platform = platforms.platform()
    objects = platforms.settled(platform)
    name = plan(platform, Observed(objects), platforms.new_password).migration
    del objects[Key("Job", name)]
    for suffix, created, message in (("b", NOW, "first"), ("a", LATER, "second")):
        pod = _pod(f"{name}-{suffix}", "migrate", terminated={"exitCode": 1, "message": message})
        pod["metadata"] |= {"creationTimestamp": created}
        pod["metadata"]["labels"]["job-name"] = name
        objects[key_of(pod)] = pod
    assert _message(_status(objects), "Migrated") == f"Job {name}: second"


def test_a_migration_that_fails_is_shown_in_its_own_words() -> None:
    platform = platforms.platform()
    objects = platforms.settled(platform)
    name = plan(platform, Observed(objects), platforms.new_password).migration
    del objects[Key("Job", name)]
    pod = _pod(f"{name}-x", "migrate", terminated={"exitCode": 1, "message": "betting migrate: role may not create\n"})
    pod["metadata"]["labels"]["job-name"] = name
    objects[key_of(pod)] = pod
    found = _status(objects)
    assert _message(found, "Migrated") == f"Job {name}: betting migrate: role may not create"


def test_while_a_secret_is_missing_nothing_is_said_of_a_migration_that_nobody_planned() -> None:
    found = _status({}, None, platform=platforms.platform(database={"external": {"dsnSecret": {"name": "mine"}}}))
    assert _conditions(found)["Accepted"] == ("False", "SecretMissing")
    assert _conditions(found)["Migrated"] == ("Unknown", "SecretMissing")


def test_the_first_installation_that_is_found_is_recorded_and_stays() -> None:
    objects = platforms.settled(platforms.platform())
    assert "database" not in _status(objects)
    assert "database" not in _status(objects, in_use=Database("b"), offered=Database("a"))
    found = _status(objects, in_use=Database("a"))
    assert status.recorded_installation(found) == "a"
    for later in (Database("b"), Database(""), Database()):
        assert _status(objects, before=found, recorded="a", in_use=later)["database"] == {"installation": "a"}


def test_another_database_is_named_with_both_installations_and_its_shards_are_not_counted() -> None:
    objects = platforms.settled(platforms.platform())
    found = _status(objects, recorded="a-id", in_use=Database("b-id"), before=_status(objects))
    conditions = _conditions(found)
    assert conditions["Accepted"] == conditions["DatabaseReady"] == conditions["Ready"] == ("False", "AnotherDatabase")
    assert conditions["Migrated"] == conditions["RolledOut"] == ("Unknown", "AnotherDatabase")
    assert conditions["ShardsOwned"] == ("Unknown", "DatabaseAway")
    message = _message(found, "DatabaseReady")
    assert message.startswith("spec.database.managed: the database has installation b-id, this platform's is a-id: ")
    assert "docs/operator/install.md#another-database" in message
    assert "shards" not in found
    external = platforms.platform(database={"external": {"dsnSecret": {"name": "mine"}}})
    empty = _status(objects, platform=external, recorded="a-id", in_use=Database(""))
    assert "external.dsnSecret: the database has no installation" in _message(empty, "DatabaseReady")


def test_an_address_that_is_not_accepted_leaves_the_database_in_use_ready() -> None:
    external = platforms.platform(database={"external": {"dsnSecret": {"name": "mine"}}})
    more = {"referenced": {"mine": {"data": {"dsn": "eA=="}}}, "recorded": "a-id", "in_use": Database("a-id")}
    found = _status({}, platform=external, offered=Database("b-id"), **more)
    assert _conditions(found)["DatabaseReady"] == ("True", "Answers")
    assert _conditions(found)["Accepted"] == ("False", "AnotherDatabase")
    message = _message(found, "Accepted")
    assert message.startswith("spec.database.external.dsnSecret: the database has installation b-id")
    assert message.endswith("what runs keeps the address of before")
    away = _status({}, platform=external, offered=Database(None, "127.0.0.1:1: refused"), **more)
    assert _conditions(away)["Accepted"] == ("False", "DatabaseUnknown")
    assert "(127.0.0.1:1: refused)" in _message(away, "Accepted")


def test_a_paused_platform_says_why_a_change_does_not_come() -> None:
    settled = platforms.settled(platforms.platform())
    same = _status(settled, platform=platforms.platform(paused=True))
    assert _conditions(same)["RolledOut"] == ("True", "RolledOut")
    changed = platforms.platform(paused=True, image={"repository": "betting", "tag": "2"})
    assert _conditions(_status(settled, platform=changed))["RolledOut"] == ("Unknown", "Paused")


def test_without_a_healer_it_is_said_why_there_is_no_redis_primary() -> None:
    facts = replace(WELL, primary="")
    off = platforms.platform(healing={"enabled": False})
    assert "spec.healing.enabled is false" in _message(
        _status(platforms.settled(off), facts, platform=off), "RedisReady"
    )
    assert "spec.healing" not in _message(_status(platforms.settled(platforms.platform()), facts), "RedisReady")


@pytest.mark.parametrize(
    ("enabled", "healer", "condition", "phase"),
    [
        (True, RUNS, ("True", "Running"), "Ready"),
        (True, status.Healer(), ("Unknown", "Starting"), "Ready"),
        (True, status.Healer(ended="exit code 2: healer: schema 9999"), ("False", "Ended"), "Degraded"),
        (False, status.Healer(), ("False", "Disabled"), "Ready"),
        (False, status.Healer(ended="exit code 2"), ("False", "Disabled"), "Ready"),
    ],
)
def test_a_healer_that_ends_is_shown_and_bets_are_taken_all_the_same(
    enabled: bool, healer: status.Healer, condition: tuple[str, str], phase: str
) -> None:
    """One that is not wanted, or starts with each new leader, is as it should be."""
    platform = platforms.platform(healing={"enabled": enabled})
    objects = platforms.settled(platform)
    before = _status(objects, platform=platform)
    found = _status(objects, platform=platform, before=before, healer=healer)
    assert _conditions(found)["Healing"] == condition
    assert _conditions(found)["Ready"] == ("True", "Ready")
    ended = "nothing is healed: the healer ended with exit code 2: healer: schema 9999"
    assert (found["phase"], found["message"]) == (phase, ended if phase == "Degraded" else "")


def test_what_cannot_be_applied_is_said_and_does_not_make_a_platform_that_works_unready() -> None:
    problem = "Service x exists and belongs to somebody else"
    objects = platforms.settled(platforms.platform())
    before = _status(objects)
    found = _status(objects, problems=(problem,), before=before)
    assert _conditions(found)["Accepted"] == ("False", "NotApplied")
    assert _conditions(found)["Ready"][0] == "True"
    assert (found["phase"], found["message"]) == ("NotApplied", problem)
    broken = _status(objects, replace(WELL, owned=15), problems=(problem,), before=before)
    assert broken["phase"] == "Degraded", "what runs matters more than what could not be applied"


def test_a_running_platform_whose_secret_goes_missing_is_not_applied_and_not_refused() -> None:
    """Nothing is changed, and bets are taken: only a platform that nothing is done for is refused."""
    objects = platforms.settled(platforms.platform())
    before = _status(objects)
    missing = platforms.platform(feeds={"theOddsApi": {"keySecret": {"name": "none"}}})
    found = _status(objects, platform=missing, before=before)
    assert _conditions(found)["Accepted"] == ("False", "SecretMissing")
    assert _conditions(found)["Ready"][0] == "True"
    assert (found["phase"], found["message"]) == (
        "NotApplied",
        "spec.feeds.theOddsApi.keySecret: there is no Secret none",
    )
    assert _status({}, None, platform=missing)["phase"] == "NotApplied"
    assert status.refused({}, "AnotherPlatform", "this operator owns demo", NOW, 1)["phase"] == "Refused"


def test_the_time_of_a_condition_is_that_of_its_last_change() -> None:
    objects = platforms.settled(platforms.platform())
    first = _status(objects)
    same = _status(objects, before=first, now=LATER)
    assert not status.changed(first, same)
    assert same == first
    other = _status(objects, replace(WELL, owned=15), before=first, now=LATER)
    times = {each["type"]: each["lastTransitionTime"] for each in other["conditions"]}
    assert (times["ShardsOwned"], times["Ready"], times["Available"]) == (LATER, LATER, NOW)


def test_an_event_is_written_for_a_change_and_not_for_what_a_new_platform_does_not_have_yet() -> None:
    new = _status({}, None)
    assert [each.type for each in status.transitions({}, new)] == ["Accepted", "Healing"]
    well = _status(platforms.settled(platforms.platform()), before=new)
    assert {each.type for each in status.transitions(new, well)} == {
        *("Ready", "DatabaseReady", "Migrated", "RedisReady", "Available", "ShardsOwned", "RolledOut")
    }
    lost = _status(platforms.settled(platforms.platform()), replace(WELL, owned=15), before=well)
    assert [each.type for each in status.transitions(well, lost)] == ["Ready", "ShardsOwned"]
    assert status.transitions(lost, lost) == []


def test_a_long_message_is_cut() -> None:
    found = _status({}, None, problem="x" * 5_000, platform=platforms.platform(), problems=("y" * 5_000,))
    assert max(len(each["message"]) for each in found["conditions"]) == status.MESSAGE_LENGTH_MAX


def _pod(name: str, workload: str, **state: Any) -> Manifest:
    return {
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": workload}},
        "status": {"containerStatuses": [{"state": state}]},
    }
