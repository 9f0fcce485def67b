"""What is applied, deleted and held back, by what is there."""

from __future__ import annotations

import base64
import copy
from dataclasses import replace
from typing import Any

import kubelet
import platforms
import pytest

from betting_operator.kubernetes import databases
from betting_operator.kubernetes.installation import Database
from betting_operator.kubernetes.manifests import Manifest
from betting_operator.kubernetes.reconcile import (
    Facts,
    Key,
    Objects,
    Observed,
    Plan,
    is_of_newest_template,
    is_ours,
    key_of,
    plan,
)
from betting_operator.kubernetes.spec import Platform
from betting_operator.kubernetes.workloads import PROCESSES

OURS, ANOTHER = "11111111-0000-4000-8000-000000000001", "22222222-0000-4000-8000-000000000002"
IMAGE_MISSING = {"waiting": {"reason": "ImagePullBackOff"}}
INSTALLED = {"recorded": OURS, "in_use": Database(OURS)}


def _planned(platform: Platform, objects: Objects, **more: Any) -> Plan:
    return plan(platform, Observed(objects, **more), platforms.new_password)


def _names(planned: Plan, kind: str) -> list[str]:
    return [each["metadata"]["name"] for each in planned.apply if each["kind"] == kind]


def test_a_new_platform_is_created_at_once_but_for_the_migration_which_waits_for_postgres() -> None:
    """Services wait for their schema by themselves: starting beside Postgres they are ready sooner."""
    planned = _planned(platforms.platform(), {})
    assert len(_names(planned, "Deployment")) == len([each for each in PROCESSES if each.field])
    assert _names(planned, "Job") == []
    assert planned.waits == (f"{planned.migration} waits: StatefulSet demo-postgres is not ready",)


def test_the_migration_is_made_when_postgres_is_ready() -> None:
    platform = platforms.platform()
    objects = {key_of(each): platforms.live(each) for each in _planned(platform, {}).apply}
    planned = _planned(platform, objects)
    assert _names(planned, "Job") == [planned.migration]
    assert planned.waits == ()


def test_with_an_external_database_the_migration_is_made_at_once() -> None:
    platform = platforms.platform(database={"external": {"dsnSecret": {"name": "mine"}}})
    planned = _planned(platform, {}, referenced={"mine": {"data": {"dsn": "eA=="}}})
    assert _names(planned, "Job") == [planned.migration]
    assert "demo-postgres" not in str(planned.apply)


def test_a_settled_platform_asks_for_the_same_objects_again() -> None:
    platform = platforms.platform()
    objects = platforms.settled(platform)
    planned = _planned(platform, objects)
    assert {key_of(each) for each in planned.apply} == set(objects)
    assert (planned.waits, planned.delete) == ((), ())
    for each in planned.apply:
        assert each.get("spec") == objects[key_of(each)].get("spec"), each["metadata"]["name"]
        assert each.get("data") == objects[key_of(each)].get("data"), each["metadata"]["name"]


def test_a_new_version_migrates_first_then_rolls_wave_by_wave() -> None:
    before = platforms.platform()
    objects = platforms.settled(before)
    after = platforms.platform(image={"repository": "betting", "tag": "2"})

    planned = _planned(after, objects)
    assert _names(planned, "Deployment") == []
    assert _names(planned, "Job") == [planned.migration]
    assert all("has not succeeded" in each for each in planned.waits)
    assert Key("Job", _planned(before, objects).migration) in planned.delete

    objects |= {key_of(each): platforms.live(each) for each in planned.apply if each["kind"] == "Job"}
    rolled: list[list[str]] = []
    while (names := _changed(planned := _planned(after, objects), objects)) != []:
        rolled.append(names)
        objects |= {key_of(each): platforms.live(each) for each in planned.apply}
    assert [sorted(wave) for wave in rolled] == [
        sorted(f"demo-{each.name}" for each in PROCESSES if each.wave == wave and each.field) for wave in range(4)
    ]


def test_a_wave_that_does_not_become_available_stops_the_roll_there() -> None:
    objects = platforms.settled(platforms.platform())
    after = platforms.platform(image={"repository": "betting", "tag": "2"})
    objects |= {key_of(each): platforms.live(each) for each in _planned(after, objects).apply}
    objects |= {key_of(each): platforms.live(each, availableReplicas=0) for each in _planned(after, objects).apply}
    planned = _planned(after, objects)
    assert _changed(planned, objects) == []
    assert "demo-bet-service waits: demo-health-monitor is not rolled out" in planned.waits


def test_a_wave_whose_pods_fail_long_after_its_roll_holds_nothing_back() -> None:
    """A mending version of bet-service must not wait for a health-monitor that has begun to fail."""
    objects = platforms.settled(platforms.platform())
    after = platforms.platform(services={"betService": {"resources": {"memory": "1Gi", "memoryLimit": "2Gi"}}})
    key = Key("Deployment", "demo-health-monitor")
    told = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
    objects[key] = platforms.live(objects[key], availableReplicas=0, conditions=[told])
    assert _changed(_planned(after, objects), objects) == ["demo-bet-service"]


@pytest.mark.parametrize("found", [[], [{"running": {}}], [{"waiting": {"reason": "ContainerCreating"}}]])
def test_an_image_that_nobody_could_pull_yet_does_not_reach_the_databases(found: list[Any]) -> None:
    """Their next pod, after an eviction or a kill by the healer, would not come back. What else changes does."""
    objects = platforms.settled(platforms.platform())
    for state in found:
        objects |= _pod("postgres", state) | _pod("redis", state)
    after = platforms.platform(
        image={"repository": "betting", "tag": "typo"}, redis={"managed": {"replicas": 3}}, deletionPolicy="Delete"
    )
    planned = _planned(after, objects, **INSTALLED)
    sets = {each["metadata"]["name"]: each for each in planned.apply if each["kind"] == "StatefulSet"}
    for name, each in sets.items():
        live = objects[Key("StatefulSet", name)]
        assert each["spec"]["template"] == live["spec"]["template"]
        assert each["metadata"]["annotations"] == live["metadata"]["annotations"]
        assert f"the template of {name} waits: no pod of Job {planned.migration} has run" in planned.waits
    assert sets["demo-redis"]["spec"]["replicas"] == 3
    assert sets["demo-postgres"]["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"


@pytest.mark.parametrize(
    "state", [{"running": {}}, {"terminated": {"exitCode": 1}}, {"waiting": {"reason": "CrashLoopBackOff"}}]
)
def test_databases_get_a_template_once_a_pod_of_the_job_has_run(state: Any) -> None:
    """Also where the Job fails: it may need what the template brings, more connections say."""
    objects = platforms.settled(platforms.platform())
    after = platforms.platform(image={"repository": "betting", "tag": "2"})
    job = _planned(after, objects, **INSTALLED).migration
    pod = _pod("migrate", state)
    [found] = pod.values()
    found["metadata"]["labels"]["job-name"] = job
    found["status"]["containerStatuses"][0]["restartCount"] = int("waiting" in state)
    assert _templates(_planned(after, objects | pod, **INSTALLED)) != _templates(_planned(after, objects, **INSTALLED))
    found["status"]["containerStatuses"] = [{"state": IMAGE_MISSING, "restartCount": 0}]
    assert _templates(_planned(after, objects | pod, **INSTALLED)) == _templates(_planned(after, objects, **INSTALLED))


def test_a_database_whose_own_image_is_gone_gets_the_next_template_at_once() -> None:
    """The Job of the right one waits for Postgres."""
    objects = platforms.settled(platforms.platform(image={"repository": "betting", "tag": "gone"}))
    objects |= _pod("postgres", IMAGE_MISSING) | _pod("redis", {"running": {}})
    planned = _planned(platforms.platform(), objects, **INSTALLED)
    assert [each for each in planned.waits if "template" in each] == [
        f"the template of demo-redis waits: no pod of Job {planned.migration} has run"
    ]


@pytest.mark.parametrize("state", [None, IMAGE_MISSING, {"waiting": {"reason": "ContainerCreating"}}, {"running": {}}])
def test_a_mistake_in_a_platform_that_has_no_installation_yet_can_be_corrected(state: Any) -> None:
    """The Job waits for Postgres, so Postgres must not wait for the Job."""
    objects = platforms.settled(platforms.platform(scheduling={"nodeSelector": {"no": "such"}}))
    objects |= _pod("postgres", state) if state else {}
    objects[Key("StatefulSet", "demo-postgres")]["status"] = {"readyReplicas": 0}
    planned = _planned(platforms.platform(), objects)
    assert [each for each in planned.waits if "template" in each] == []
    assert f"{planned.migration} waits: StatefulSet demo-postgres is not ready" in planned.waits


def test_a_managed_redis_that_is_left_stays_until_the_last_pod_works_with_the_other() -> None:
    """And the network lets the pods of before out to it."""
    objects = platforms.settled(platforms.platform())
    after = platforms.platform(redis={"external": {"urlSecret": {"name": "mine"}, "cidrs": ["10.9.0.0/16"]}})
    mine = {"mine": {"data": {"url": "eA=="}}}
    key = Key("NetworkPolicy", "demo-bet-service")
    to_redis, to_other = objects[key]["spec"]["egress"][2], {"to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}]}
    while _changed(planned := _planned(after, objects, referenced=mine), objects):
        assert [each for each in planned.delete if "redis" in each.name] == []
        policy = {key_of(each): each for each in planned.apply}[key]
        assert to_redis in policy["spec"]["egress"]
        assert to_other in policy["spec"]["egress"]
        objects |= {key_of(each): platforms.live(each) for each in planned.apply}
    draining = _pod("api-gateway", {"running": {}})
    [pod] = draining.values()
    pod["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "annotations": {"selfhealing.bet/template": "old"}}
    waits = _planned(after, objects | draining, referenced=mine)
    assert [each for each in waits.delete if "redis" in each.name] == []
    assert to_redis in {key_of(each): each for each in waits.apply}[key]["spec"]["egress"]
    pod["status"]["phase"] = "Failed"
    assert _planned(after, objects | draining, referenced=mine) == planned
    assert {Key("StatefulSet", "demo-redis"), Key("Service", "demo-redis")} <= set(planned.delete)
    assert to_redis not in {key_of(each): each for each in planned.apply}[key]["spec"]["egress"]


@pytest.mark.parametrize("password", ["pa/ss@word?pa/ss@word?", "short", "x" * 129, "0123456789abcde\n"])
@pytest.mark.parametrize("server", ["postgres", "redis"])
def test_a_password_that_a_server_would_not_start_with_is_not_handed_on(server: str, password: str) -> None:
    """Neither into the address that is made of it, nor to any pod that is not there yet."""
    platform = platforms.platform()
    objects = platforms.settled(platform)
    secret = objects[Key("Secret", f"demo-{server}")]
    secret["data"]["password"] = base64.b64encode(password.encode()).decode()
    planned = _planned(platform, objects)
    assert (planned.apply, planned.delete, planned.reason) == ((), (), "SecretInvalid")
    [told] = planned.missing
    assert told.startswith(f"the password in the Secret demo-{server} cannot be used: give 16 to 128 letters")
    assert password not in told


@pytest.mark.parametrize("updated", [0, 1, 2])
def test_a_pod_that_restarts_makes_no_roll_of_a_deployment_that_is_paused(updated: int) -> None:
    """Of one that is paused Kubernetes does not say whether its last roll was over; the pods do."""
    deployment = platforms.settled(platforms.platform())[Key("Deployment", "demo-bet-service")]
    told = {"type": "Progressing", "status": "Unknown", "reason": "DeploymentPaused"}
    found = platforms.live(deployment, updatedReplicas=updated, availableReplicas=1, conditions=[told])
    assert is_of_newest_template(found) is (updated == 2)


def test_while_a_new_template_waits_the_number_of_pods_follows_the_spec() -> None:
    """A version that does not start must not keep anybody from adding pods of the one that serves."""
    objects = platforms.settled(platforms.platform())
    bigger = platforms.platform(
        image={"repository": "betting", "tag": "2"}, services={"betService": {"replicas": 5}, "apiGateway": {}}
    )
    planned = _planned(bigger, objects)
    assert "Deployment" not in {each["kind"] for each in planned.apply}
    assert planned.scale == {Key("Deployment", "demo-bet-service"): 5}


def test_nothing_is_changed_while_a_secret_that_the_spec_names_is_missing() -> None:
    platform = platforms.platform(database={"external": {"dsnSecret": {"name": "mine"}}})
    planned = _planned(platform, {})
    assert (planned.apply, planned.delete) == ((), ())
    assert planned.missing == ("spec.database.external.dsnSecret: there is no Secret mine",)
    planned = _planned(platform, {}, referenced={"mine": {"data": {"other": "eA=="}}})
    assert planned.missing == ("spec.database.external.dsnSecret: the Secret mine has no key dsn",)


EXTERNAL = {"external": {"dsnSecret": {"name": "mine"}}}


@pytest.mark.parametrize("database", [{"managed": {}}, EXTERNAL], ids=["managed", "external"])
@pytest.mark.parametrize("found", [ANOTHER, ""], ids=["of another platform", "empty"])
def test_nothing_is_applied_to_a_database_that_is_not_the_platforms(database: Any, found: str) -> None:
    """The address that is in use leads to it: a volume was lost, or the server was made anew."""
    platform = platforms.platform(database=database)
    secret = {"mine": {"data": {"dsn": "eA=="}}}
    planned = _planned(platform, {}, referenced=secret, recorded=OURS, in_use=Database(found))
    assert (planned.apply, planned.delete, planned.reason) == ((), (), "AnotherDatabase")
    assert OURS in planned.missing[0]
    assert found in planned.missing[0]
    for well in ({"recorded": OURS, "in_use": Database(OURS)}, {"in_use": Database(found)}):
        assert _planned(platform, {}, referenced=secret, **well).apply


@pytest.mark.parametrize("offered", [None, Database(ANOTHER, running=("live-bet-service-1",))])
def test_a_database_that_another_platform_works_with_is_taken_by_nobody_else(offered: Database | None) -> None:
    """Also where it is not the address in use. Its own pods are nobody else's; who has a record has used it."""
    platform = platforms.platform(database=EXTERNAL)
    secret = {"mine": {"data": {"dsn": "eA=="}}}
    in_use = Database() if offered else Database(ANOTHER, running=("demo-bet-service-1", "live-bet-service-1"))
    pods = {Key("Pod", "demo-bet-service-1"): kubelet.pod("bet-service", "demo-bet-service-1")}
    planned = _planned(platform, pods, referenced=secret, in_use=in_use, offered=offered)
    assert (planned.apply, planned.delete, planned.reason) == ((), (), "DatabaseShared")
    assert "its bet-services run: live-bet-service-1; two would" in planned.missing[0]
    own = Database(OURS, running=("demo-bet-service-1",))
    assert _planned(platform, pods, referenced=secret, in_use=own).apply
    assert _planned(platform, pods, referenced=secret, in_use=Database(OURS, running=("x",)), recorded=OURS).apply


@pytest.mark.parametrize(
    ("recorded", "offered", "reason"),
    [
        (OURS, ANOTHER, "AnotherDatabase"),
        (OURS, "", "AnotherDatabase"),
        (OURS, None, "DatabaseUnknown"),
        ("", None, "DatabaseUnknown"),
        (OURS, OURS, ""),
        ("", ANOTHER, ""),
        ("", "", ""),
    ],
)
def test_pods_get_another_address_only_when_its_database_is_the_platforms(
    recorded: str, offered: str | None, reason: str
) -> None:
    platform = platforms.platform(database=EXTERNAL)
    before = {"mine": {"data": {"dsn": "YmVmb3Jl"}}}
    objects = {key_of(each): platforms.live(each) for each in _planned(platform, {}, referenced=before).apply}
    address = Key("Secret", "demo-database-address")
    assert objects[address]["data"] == {"dsn": "YmVmb3Jl"}
    after = {"mine": {"data": {"dsn": "YWZ0ZXI="}}}
    planned = _planned(
        *(platform, objects),
        referenced=after,
        recorded=recorded,
        in_use=Database(OURS),
        offered=Database(offered),
    )
    assert planned.reason == reason
    applied = {key_of(each): each for each in planned.apply}
    assert bool(applied) == (not reason)
    if not reason:
        assert applied[address]["data"] == after["mine"]["data"]
        assert planned.waits  # the pods, for the migration


def test_a_database_that_does_not_answer_is_not_migrated_once_the_platform_has_one() -> None:
    """When it is back it may be another one."""
    platform = platforms.platform(database=EXTERNAL)
    secret = {"mine": {"data": {"dsn": "eA=="}}}
    planned = _planned(platform, {}, referenced=secret, recorded=OURS)
    assert _names(planned, "Job") == []
    assert planned.waits == (f"{planned.migration} waits: the database does not answer",)


def test_other_keys_of_a_secret_that_are_no_text_do_not_matter() -> None:
    """A Secret of somebody else's may have a key store in it."""
    secret = {
        "data": {"dsn": base64.b64encode(b"postgresql://x").decode(), "store": base64.b64encode(b"\xff").decode()}
    }
    assert databases.decoded(secret)["dsn"] == "postgresql://x"


def test_another_value_of_a_secret_starts_the_pods_that_read_it_anew() -> None:
    platform = platforms.platform(redis={"external": {"urlSecret": {"name": "mine"}}})
    first = _planned(platform, {}, referenced={"mine": {"data": {"url": "eA=="}}})
    objects = {key_of(each): platforms.live(each) for each in first.apply}
    second = _planned(platform, objects, referenced={"mine": {"data": {"url": "eQ=="}}})
    readers = {f"demo-{each.name}" for each in PROCESSES if each.uses_redis}
    held = {line.partition(" ")[0] for line in second.waits if "demo-migrate" not in line.partition(" ")[0]}
    assert held == readers


def test_another_number_of_redis_nodes_starts_no_pod_of_a_service_anew() -> None:
    """Clients find all nodes behind one name. Redis' own pods change where the primary begins to wait for a replica,
    from three nodes on: each when a person deletes it.
    """
    for before, after, is_same in ((1, 2, True), (2, 3, False), (3, 5, True)):
        objects = platforms.settled(platforms.platform(redis={"managed": {"replicas": before}}))
        planned = _planned(platforms.platform(redis={"managed": {"replicas": after}}), objects)
        assert planned.waits == ()
        assert _changed(planned, objects) == []
        redis = next(each for each in planned.apply if key_of(each) == Key("StatefulSet", "demo-redis"))
        assert redis["spec"]["replicas"] == after
        assert redis["spec"]["updateStrategy"] == {"type": "OnDelete"}
        assert (redis["spec"]["template"] == objects[key_of(redis)]["spec"]["template"]) is is_same
        waits = {"name": "BETTING_REDIS_MIN_REPLICAS", "value": "1"}
        assert (waits in redis["spec"]["template"]["spec"]["containers"][0]["env"]) is (after >= 3)


def test_what_is_no_longer_wanted_is_deleted_but_never_a_secret_or_what_is_not_ours() -> None:
    objects = platforms.settled(platforms.platform(feeds={"seasonReplay": {}}))
    foreign = copy.deepcopy(objects[Key("Deployment", "demo-season-replay")])
    foreign["metadata"] |= {"name": "demo-other", "ownerReferences": [{"uid": "somebody"}]}
    objects[Key("Deployment", "demo-other")] = foreign
    secret = copy.deepcopy(objects[Key("Secret", "demo-internal")])
    secret["metadata"]["name"] = "demo-former"
    objects[Key("Secret", "demo-former")] = secret
    assert _planned(platforms.platform(), objects).delete == (
        Key("Deployment", "demo-season-replay"),
        Key("NetworkPolicy", "demo-season-replay"),
        Key("Service", "demo-season-replay"),
    )


def test_passwords_are_made_once() -> None:
    platform = platforms.platform()
    objects = platforms.settled(platform)
    again = {key_of(each): each for each in _planned(platform, objects).apply}
    for key, found in objects.items():
        if key.kind == "Secret":
            assert again[key]["data"] == found["data"]
    lost = {key: found for key, found in objects.items() if key != Key("Secret", "demo-redis")}
    assert {key_of(each): each for each in _planned(platform, lost).apply}[Key("Secret", "demo-redis")][
        "data"
    ] != objects[Key("Secret", "demo-redis")]["data"]


def test_a_secret_of_somebody_else_in_the_place_of_ours_stops_everything() -> None:
    """Any password that is made beside it would be another one each time, and roll every pod each time."""
    platform = platforms.platform()
    objects = platforms.settled(platform)
    objects[Key("Secret", "demo-redis")]["metadata"]["labels"] = {}
    planned = _planned(platform, objects)
    assert (planned.apply, planned.delete) == ((), ())
    assert planned.missing == ("the Secret demo-redis exists and belongs to somebody else: rename or remove it",)


def test_the_service_of_the_redis_primary_stays_while_the_database_does_not_say_who_that_is() -> None:
    platform = platforms.platform()
    facts = Facts(16, 16, 0, "0111", "demo-redis-1", "steady", 3)
    service = Key("Service", "demo-redis-primary")
    made = {key_of(each): each for each in _planned(platform, platforms.settled(platform), facts=facts).apply}
    objects = platforms.settled(platform) | {service: made[service]}
    planned = _planned(platform, objects, facts=None, problem="no answer")
    assert planned.delete == ()
    assert {key_of(each): each for each in planned.apply}[service] == made[service]
    assert service in _planned(platform, objects, facts=replace(facts, primary="")).delete


def test_a_migration_that_has_given_up_is_made_anew() -> None:
    platform = platforms.platform()
    objects = platforms.settled(platform)
    job = Key("Job", _planned(platform, objects).migration)
    objects[job]["status"] = {"conditions": [{"type": "Failed", "status": "True"}]}
    assert _planned(platform, objects).delete == (job,)
    del objects[job]
    assert _names(_planned(platform, objects), "Job") == [job.name]


def test_what_a_policy_allows_is_applied_before_the_one_that_denies() -> None:
    """The operator may end between two of them."""
    policies = _names(_planned(platforms.platform(), {}), "NetworkPolicy")
    assert policies.index("demo-default-deny") == len(policies) - 1


def test_data_and_passwords_have_an_owner_only_where_they_may_be_deleted_with_the_platform() -> None:
    """Garbage collection takes what has an owner."""
    kept = {key_of(each): each for each in _planned(platforms.platform(), {}).apply}
    gone = {key_of(each): each for each in _planned(platforms.platform(deletionPolicy="Delete"), {}).apply}
    for key, each in kept.items():
        assert ("ownerReferences" in each["metadata"]) == (key.kind != "Secret"), key
        assert "ownerReferences" in gone[key]["metadata"], key
    postgres = Key("StatefulSet", "demo-postgres")
    policy = "persistentVolumeClaimRetentionPolicy"
    assert kept[postgres]["spec"][policy]["whenDeleted"] == "Retain"
    assert gone[postgres]["spec"][policy]["whenDeleted"] == "Delete"


def test_ours_is_what_names_this_platform_as_its_owner_or_a_kept_secret_of_it() -> None:
    platform = platforms.platform()
    settled = platforms.settled(platform)
    assert all(is_ours(platform, each) for each in settled.values())
    assert not any(
        is_ours(platforms.platform(name="other"), each) for key, each in settled.items() if key.kind == "Secret"
    )
    other_life = copy.deepcopy(settled[Key("Service", "demo-gateway")])
    other_life["metadata"]["ownerReferences"][0]["uid"] = "of the platform before"
    assert not is_ours(platform, other_life)


def _changed(planned: Plan, objects: Objects) -> list[str]:
    """The Deployments that get another template."""
    return [
        each["metadata"]["name"]
        for each in planned.apply
        if each["kind"] == "Deployment" and each["spec"]["template"] != objects[key_of(each)]["spec"]["template"]
    ]


def _templates(planned: Plan) -> list[Any]:
    return [each["spec"]["template"] for each in planned.apply if each["kind"] == "StatefulSet"]


def _pod(server: str, state: Manifest) -> dict[Key, Manifest]:
    labels = {"app.kubernetes.io/name": server, "app.kubernetes.io/instance": "demo"}
    name = f"demo-{server}-0"
    return {
        Key("Pod", name): {
            "metadata": {"name": name, "labels": labels},
            "status": {"containerStatuses": [{"state": state}]},
        }
    }
