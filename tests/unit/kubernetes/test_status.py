"""What a platform's status says, by what was observed; of a roll that is under way or stuck: `test_rolled_out`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import platforms
import pytest
from statuses import NOW, RUNS, WELL, conditions_of, message_of, status_of

from betting_operator.kubernetes import status
from betting_operator.kubernetes.installation import Database
from betting_operator.kubernetes.manifests import Manifest
from betting_operator.kubernetes.reconcile import Facts, Key, Observed, key_of, plan

QUOTA = 'pods "x" is forbidden: exceeded quota: none'
LATER = "2026-01-01T00:01:00Z"


def test_a_platform_that_works_is_ready() -> None:
    found = status_of(platforms.settled(platforms.platform()))
    assert {each: value[0] for each, value in conditions_of(found).items()} == dict.fromkeys(
        ("Ready", *status.CONDITIONS, "RolledOut", "Healing"), "True"
    )
    assert (found["phase"], found["message"]) == ("Ready", "")
    assert found["shards"]["summary"] == "16/16"
    assert found["redis"]["primary"] == "demo-redis-0"
    assert found["image"] == "localhost/betting:1.0.0"


def test_a_new_platform_says_what_it_waits_for() -> None:
    found = status_of({}, None, problem="it has not answered yet")
    assert found["phase"] == "Installing"
    assert conditions_of(found)["Ready"] == ("False", "NotRunning")
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
    found = status_of(platforms.settled(platforms.platform()), facts)
    assert conditions_of(found)[condition][1] == reason
    assert conditions_of(found)["Ready"][0] == ready


def test_shards_of_nobody_that_runs_are_counted_where_people_look() -> None:
    """Not frozen ones: a person decides about those."""
    objects = platforms.settled(platforms.platform())
    found = status_of(objects, replace(WELL, owned=13))
    assert conditions_of(found)["Ready"] == ("False", "ShardsOrphaned")
    assert found["message"] == "3 of 16 shards are owned by no bet-service that runs"
    assert found["shards"]["summary"] == "13/16"
    both = status_of(objects, replace(WELL, owned=13, frozen=1))
    assert conditions_of(both)["Ready"] == ("False", "ShardsFrozen")
    assert both["message"].startswith("1 of 16 shards are frozen")
    assert both["message"].endswith("2 of 16 shards are owned by no bet-service that runs")


def test_a_platform_that_was_rolled_out_and_misses_something_is_degraded() -> None:
    objects = platforms.settled(platforms.platform())
    before = status_of(objects)
    assert status_of(objects, replace(WELL, primary=""), before=before)["phase"] == "Degraded"


def test_a_service_without_a_ready_pod_is_named_with_the_reason_of_the_kubelet() -> None:
    objects = platforms.settled(platforms.platform())
    wallet = objects[Key("Deployment", "demo-wallet-service")]
    objects[key_of(wallet)] = platforms.live(wallet, readyReplicas=0)
    pod = _pod("demo-wallet-service-1", "wallet-service", waiting={"reason": "ImagePullBackOff", "message": "no such"})
    objects[key_of(pod)] = pod
    found = status_of(objects)
    assert conditions_of(found)["Ready"] == ("False", "ServicesUnavailable")
    assert found["message"] == "wallet-service has no ready pod: demo-wallet-service-1: ImagePullBackOff: no such"


def test_of_jobs_and_stateful_sets_without_pods_it_is_said_why_none_was_made() -> None:
    objects = platforms.settled(platforms.platform())
    migration = plan(platforms.platform(), Observed(objects), platforms.new_password).migration
    del objects[Key("Job", migration)]
    keys = (Key("Job", migration), Key("StatefulSet", "demo-redis"), Key("StatefulSet", "demo-postgres"))
    found = status_of(objects, None, refusals=dict.fromkeys(keys, f"FailedCreate: {QUOTA}"))
    conditions = conditions_of(found)
    assert conditions["Migrated"] == conditions["RedisReady"] == conditions["DatabaseReady"] == ("False", "NotRunning")
    assert message_of(found, "Migrated") == f"Job {migration}: FailedCreate: {QUOTA}"
    assert message_of(found, "RedisReady") == f"FailedCreate: {QUOTA}"
    assert message_of(found, "DatabaseReady") == f"Postgres does not run: FailedCreate: {QUOTA}"


def test_what_cannot_be_listed_takes_back_what_the_leader_before_has_said() -> None:
    """But for what must outlive it: the installation, the image, and what an autoscaler reads."""
    before = status_of(platforms.settled(platforms.platform()), in_use=Database("a"))
    found = status.unlisted(before, ["ingresses: ingresses is forbidden"], LATER, 2)
    conditions = conditions_of(found)
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
    assert message_of(status_of(objects), "Migrated") == f"Job {name}: second"


def test_a_migration_that_fails_is_shown_in_its_own_words() -> None:
    platform = platforms.platform()
    objects = platforms.settled(platform)
    name = plan(platform, Observed(objects), platforms.new_password).migration
    del objects[Key("Job", name)]
    pod = _pod(f"{name}-x", "migrate", terminated={"exitCode": 1, "message": "betting migrate: role may not create\n"})
    pod["metadata"]["labels"]["job-name"] = name
    objects[key_of(pod)] = pod
    found = status_of(objects)
    assert message_of(found, "Migrated") == f"Job {name}: betting migrate: role may not create"


def test_while_a_secret_is_missing_nothing_is_said_of_a_migration_that_nobody_planned() -> None:
    found = status_of({}, None, platform=platforms.platform(database={"external": {"dsnSecret": {"name": "mine"}}}))
    assert conditions_of(found)["Accepted"] == ("False", "SecretMissing")
    assert conditions_of(found)["Migrated"] == ("Unknown", "SecretMissing")


def test_the_first_installation_that_is_found_is_recorded_and_stays() -> None:
    objects = platforms.settled(platforms.platform())
    assert "database" not in status_of(objects)
    assert "database" not in status_of(objects, in_use=Database("b"), offered=Database("a"))
    found = status_of(objects, in_use=Database("a"))
    assert status.recorded_installation(found) == "a"
    for later in (Database("b"), Database(""), Database()):
        assert status_of(objects, before=found, recorded="a", in_use=later)["database"] == {"installation": "a"}


def test_another_database_is_named_with_both_installations_and_its_shards_are_not_counted() -> None:
    objects = platforms.settled(platforms.platform())
    found = status_of(objects, recorded="a-id", in_use=Database("b-id"), before=status_of(objects))
    conditions = conditions_of(found)
    assert conditions["Accepted"] == conditions["DatabaseReady"] == conditions["Ready"] == ("False", "AnotherDatabase")
    assert conditions["Migrated"] == conditions["RolledOut"] == ("Unknown", "AnotherDatabase")
    assert conditions["ShardsOwned"] == ("Unknown", "DatabaseAway")
    message = message_of(found, "DatabaseReady")
    assert message.startswith("spec.database.managed: the database has installation b-id, this platform's is a-id: ")
    assert "docs/operator/install.md#another-database" in message
    assert "shards" not in found
    external = platforms.platform(database={"external": {"dsnSecret": {"name": "mine"}}})
    empty = status_of(objects, platform=external, recorded="a-id", in_use=Database(""))
    assert "external.dsnSecret: the database has no installation" in message_of(empty, "DatabaseReady")


def test_the_database_of_another_platform_is_not_recorded_as_this_ones() -> None:
    """Once it were, nothing would be said any more."""
    external = platforms.platform(database={"external": {"dsnSecret": {"name": "mine"}}})
    more = {"platform": external, "referenced": {"mine": {"data": {"dsn": "eA=="}}}}
    shared = status_of({}, in_use=Database("a", running=("live-bet-service-1",)), **more)
    assert conditions_of(shared)["Accepted"] == conditions_of(shared)["Healing"] == ("False", "DatabaseShared")
    assert "database" not in shared
    assert status.recorded_installation(status_of({}, in_use=Database("a"), **more)) == "a"


def test_a_cluster_without_dns_takes_bets_and_says_where_to_look() -> None:
    """It may be why the database does not answer: it is said first."""
    objects = platforms.settled(platforms.platform())
    before = status_of(objects)
    found = status_of(objects, unresolved="a.b is not resolved: no answer", before=before)
    assert conditions_of(found)["Ready"][0] == "True"
    assert (conditions_of(found)["NamesResolved"], found["phase"]) == (("False", "NoAnswer"), "Degraded")
    assert "a.b is not resolved: no answer; bets go on" in found["message"]
    assert "-l k8s-app=kube-dns" in found["message"]
    away = status_of(objects, None, unresolved="a.b is not resolved: no answer", before=before)
    assert conditions_of(away)["Ready"] == ("False", "NoAnswer")


def test_an_address_that_is_not_accepted_leaves_the_database_in_use_ready() -> None:
    external = platforms.platform(database={"external": {"dsnSecret": {"name": "mine"}}})
    more = {"referenced": {"mine": {"data": {"dsn": "eA=="}}}, "recorded": "a-id", "in_use": Database("a-id")}
    found = status_of({}, platform=external, offered=Database("b-id"), **more)
    assert conditions_of(found)["DatabaseReady"] == ("True", "Answers")
    assert conditions_of(found)["Accepted"] == ("False", "AnotherDatabase")
    message = message_of(found, "Accepted")
    assert message.startswith("spec.database.external.dsnSecret: the database has installation b-id")
    assert message.endswith("what runs keeps the address of before")
    away = status_of({}, platform=external, offered=Database(None, "127.0.0.1:1: refused"), **more)
    assert conditions_of(away)["Accepted"] == ("False", "DatabaseUnknown")
    assert "(127.0.0.1:1: refused)" in message_of(away, "Accepted")


def test_a_paused_platform_says_why_a_change_does_not_come() -> None:
    settled = platforms.settled(platforms.platform())
    same = status_of(settled, platform=platforms.platform(paused=True))
    assert conditions_of(same)["RolledOut"] == ("True", "RolledOut")
    changed = platforms.platform(paused=True, image={"repository": "betting", "tag": "2"})
    assert conditions_of(status_of(settled, platform=changed))["RolledOut"] == ("Unknown", "Paused")


def test_without_a_healer_it_is_said_why_there_is_no_redis_primary() -> None:
    facts = replace(WELL, primary="")
    off = platforms.platform(healing={"enabled": False})
    assert "spec.healing.enabled is false" in message_of(
        status_of(platforms.settled(off), facts, platform=off), "RedisReady"
    )
    assert "spec.healing" not in message_of(status_of(platforms.settled(platforms.platform()), facts), "RedisReady")


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
    before = status_of(objects, platform=platform)
    found = status_of(objects, platform=platform, before=before, healer=healer)
    assert conditions_of(found)["Healing"] == condition
    assert conditions_of(found)["Ready"] == ("True", "Ready")
    ended = "nothing is healed: the healer ended with exit code 2: healer: schema 9999"
    assert (found["phase"], found["message"]) == (phase, ended if phase == "Degraded" else "")


@pytest.mark.parametrize(
    ("healing", "switches", "reason", "message"),
    [
        ({}, {}, "Running", ""),
        ({"paused": "upgrade"}, {}, "Paused", "paused by spec.healing.paused: upgrade"),
        (
            {},
            {"healing_paused": "network"},
            "Paused",
            "paused by `betting heal pause`: network (to end it: betting heal resume)",
        ),
        (
            {"paused": "upgrade"},
            {"healing_paused": "network"},
            "Paused",
            "paused by spec.healing.paused: upgrade; paused by `betting heal pause`: network (to end it: betting heal "
            "resume)",
        ),
        ({"dryRun": True}, {}, "DryRun", "nothing is done: spec.healing.dryRun is true"),
        (
            {"paused": "upgrade"},
            {"healing_dry_run": True},
            "Paused",
            "paused by spec.healing.paused: upgrade; nothing is done by `betting heal dry-run` (to end it: betting "
            "heal dry-run off)",
        ),
    ],
)
def test_a_pause_and_a_dry_run_are_shown_with_the_place_that_they_come_from(
    healing: dict[str, Any], switches: dict[str, Any], reason: str, message: str
) -> None:
    """They are what people want: the platform is Ready."""
    platform = platforms.platform(healing=healing)
    objects = platforms.settled(platform)
    before = status_of(objects, platform=platform)
    found = status_of(objects, replace(WELL, **switches), platform=platform, before=before)
    assert conditions_of(found)["Healing"] == ("True" if reason == "Running" else "False", reason)
    assert message_of(found, "Healing") == message
    assert (found["phase"], found["message"]) == ("Ready", "")


def test_a_policy_that_the_healer_does_not_know_is_no_secret() -> None:
    """It may kill while the resource says that it is paused."""
    platform = platforms.platform(healing={"paused": "upgrade"})
    healer = status.Healer(runs=True, not_told="No space left on device")
    found = status_of(platforms.settled(platform), platform=platform, healer=healer)
    assert conditions_of(found)["Healing"] == ("False", "PolicyNotApplied")
    assert message_of(found, "Healing") == "spec.healing is not in force as it is now: No space left on device"


def test_what_cannot_be_applied_is_said_and_does_not_make_a_platform_that_works_unready() -> None:
    problem = "Service x exists and belongs to somebody else"
    objects = platforms.settled(platforms.platform())
    before = status_of(objects)
    found = status_of(objects, problems=(problem,), before=before)
    assert conditions_of(found)["Accepted"] == ("False", "NotApplied")
    assert conditions_of(found)["Ready"][0] == "True"
    assert (found["phase"], found["message"]) == ("NotApplied", problem)
    broken = status_of(objects, replace(WELL, owned=15), problems=(problem,), before=before)
    assert broken["phase"] == "Degraded", "what runs matters more than what could not be applied"


def test_a_running_platform_whose_secret_goes_missing_is_not_applied_and_not_refused() -> None:
    """Nothing is changed, and bets are taken: only a platform that nothing is done for is refused."""
    objects = platforms.settled(platforms.platform())
    before = status_of(objects)
    missing = platforms.platform(feeds={"theOddsApi": {"keySecret": {"name": "none"}}})
    found = status_of(objects, platform=missing, before=before)
    assert conditions_of(found)["Accepted"] == ("False", "SecretMissing")
    assert conditions_of(found)["Ready"][0] == "True"
    assert (found["phase"], found["message"]) == (
        "NotApplied",
        "spec.feeds.theOddsApi.keySecret: there is no Secret none",
    )
    assert status_of({}, None, platform=missing)["phase"] == "NotApplied"
    assert status.refused({}, "AnotherPlatform", "this operator owns demo", NOW, 1)["phase"] == "Refused"


def test_the_time_of_a_condition_is_that_of_its_last_change() -> None:
    objects = platforms.settled(platforms.platform())
    first = status_of(objects)
    same = status_of(objects, before=first, now=LATER)
    assert not status.changed(first, same)
    assert same == first
    other = status_of(objects, replace(WELL, owned=15), before=first, now=LATER)
    times = {each["type"]: each["lastTransitionTime"] for each in other["conditions"]}
    assert (times["ShardsOwned"], times["Ready"], times["Available"]) == (LATER, LATER, NOW)


def test_an_event_is_written_for_a_change_and_not_for_what_a_new_platform_does_not_have_yet() -> None:
    new = status_of({}, None)
    assert [each.type for each in status.transitions({}, new)] == ["Accepted", "NamesResolved", "Healing"]
    well = status_of(platforms.settled(platforms.platform()), before=new)
    assert {each.type for each in status.transitions(new, well)} == {
        *("Ready", "DatabaseReady", "Migrated", "RedisReady", "Available", "ShardsOwned", "RolledOut")
    }
    lost = status_of(platforms.settled(platforms.platform()), replace(WELL, owned=15), before=well)
    assert [each.type for each in status.transitions(well, lost)] == ["Ready", "ShardsOwned"]
    assert status.transitions(lost, lost) == []


def test_a_long_message_is_cut() -> None:
    found = status_of({}, None, problem="x" * 5_000, platform=platforms.platform(), problems=("y" * 5_000,))
    assert max(len(each["message"]) for each in found["conditions"]) == status.MESSAGE_LENGTH_MAX


def _pod(name: str, workload: str, **state: Any) -> Manifest:
    return {
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": workload}},
        "status": {"containerStatuses": [{"state": state}]},
    }
