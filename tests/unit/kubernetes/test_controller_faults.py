"""What controllers say of pods that they could not make."""

from __future__ import annotations

from typing import Any

import platforms

from betting_operator.kubernetes import controller_faults
from betting_operator.kubernetes.manifests import Manifest
from betting_operator.kubernetes.reconcile import Key, Observed, key_of, plan


def test_events_are_wanted_of_jobs_that_are_not_complete_and_stateful_sets_without_pods() -> None:
    objects = platforms.settled(platforms.platform())
    migration = plan(platforms.platform(), Observed(objects), platforms.new_password).migration
    sets = [Key("StatefulSet", "demo-postgres"), Key("StatefulSet", "demo-redis")]
    assert [key_of(each) for each in controller_faults.without_pods(objects)] == sets
    objects[Key("Job", migration)]["status"] = {}
    assert [key_of(each) for each in controller_faults.without_pods(objects)] == [Key("Job", migration), *sets]
    for name, workload in ((f"{migration}-x", "migrate"), ("demo-postgres-0", "postgres"), ("demo-redis-0", "redis")):
        labels = {"app.kubernetes.io/name": workload, "job-name": migration}
        objects[Key("Pod", name)] = {"kind": "Pod", "metadata": {"name": name, "labels": labels}}
    assert controller_faults.without_pods(objects) == []


def test_of_events_the_newest_counts_however_its_time_is_written() -> None:
    def event(message: str, **times: Any) -> Manifest:
        created = {"creationTimestamp": "2026-01-01T00:00:00Z"}
        return {"metadata": created, "reason": "FailedCreate", "message": message, **times}

    events = [
        event("counted", firstTimestamp="2026-01-01T00:00:00Z", lastTimestamp="2026-01-01T00:00:02Z", eventTime=None),
        event("series", eventTime="2026-01-01T00:00:00.000001Z", series={"lastObservedTime": "2026-01-01T00:00:03.5Z"}),
        event("new", lastTimestamp=None, eventTime="2026-01-01T00:00:01.123456Z"),
        event("bare"),
    ]
    for expected in ("series", "counted", "new", "bare"):
        assert controller_faults.newest_refusal(events) == f"FailedCreate: {expected}"
        events = [each for each in events if each["message"] != expected]
    assert controller_faults.newest_refusal([]) == ""


def test_a_refusal_counts_until_a_pod_is_made_and_reads_the_same_for_each_try() -> None:
    """The status would be written again at each try of a Job: its pods have random names."""

    def event(reason: str, message: str, second: int) -> Manifest:
        return {"metadata": {}, "reason": reason, "message": message, "lastTimestamp": f"2026-01-01T00:00:0{second}Z"}

    tries = [
        event("FailedCreate", f'Error creating: pods "demo-migrate-1a-{name}" is forbidden: exceeded quota: q', second)
        for second, name in enumerate(("x9k2l", "7bq4z"))
    ]
    told = [controller_faults.newest_refusal(tries[:count]) for count in (1, 2)]
    assert told == ["FailedCreate: Error creating: pods is forbidden: exceeded quota: q"] * 2
    other = event("Unhealthy", "of something else", 3)
    assert controller_faults.newest_refusal([*tries, other]) == told[0]
    assert controller_faults.newest_refusal([*tries, event("SuccessfulCreate", "Created pod", 4)]) == ""
