"""What a platform's status says, by what was observed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import platforms
import pytest

from betting_operator.kubernetes import status
from betting_operator.kubernetes.manifests import Manifest
from betting_operator.kubernetes.reconcile import Facts, Key, Observed, key_of, plan

WELL = Facts(16, 16, 0, "0111", "demo-redis-0", "steady", 3)
NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"


def _status(objects: dict[Key, Manifest], facts: Facts | None = WELL, **more: Any) -> dict[str, Any]:
    platform = more.pop("platform", platforms.platform())
    before, now = more.pop("before", {}), more.pop("now", NOW)
    problems = more.pop("problems", ())
    observed = Observed(objects, facts=facts, **more)
    return status.status(platform, observed, plan(platform, observed, platforms.new_password), problems, before, now)


def _conditions(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in found["conditions"]}


def _message(found: dict[str, Any], kind: str) -> str:
    return str(next(each["message"] for each in found["conditions"] if each["type"] == kind))


def test_a_platform_that_works_is_ready() -> None:
    found = _status(platforms.settled(platforms.platform()))
    assert {each: value[0] for each, value in _conditions(found).items()} == dict.fromkeys(
        ("Ready", *status.CONDITIONS, "RolledOut"), "True"
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
    objects[key_of(wallet)] = platforms.live(wallet, availableReplicas=0)
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
    assert _message(found, "RolledOut") == ("demo-health-monitor: no progress; the pods of the version before serve on")
    assert (found["phase"], found["image"]) == ("Rolling", "localhost/betting:1.0.0")
    assert _conditions(found)["Ready"][0] == "True"


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


def test_what_cannot_be_applied_is_said_and_does_not_make_a_platform_that_works_unready() -> None:
    found = _status(
        platforms.settled(platforms.platform()), problems=("Service x exists and belongs to somebody else",)
    )
    assert _conditions(found)["Accepted"] == ("False", "NotApplied")
    assert _conditions(found)["Ready"][0] == "True"
    assert found["phase"] == "Refused"


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
    assert [each.type for each in status.transitions({}, new)] == ["Accepted"]
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
