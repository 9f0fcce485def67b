"""From what a kubelet reports to instances, phases and ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubelet import Json, container, on_node, pod, reported, running, terminated, waiting

from betting.life import Life
from betting_operator.healing.signals import Phase
from betting_operator.platforms import pods
from betting_operator.platforms.pods import Pod

NAME = "demo-bet-service-6d8f9c7b5d-x2lqm"
BOOT, EARLIER = "0f3c9a8b7c6d5e4f", "8a7b6c5d4e3f2a1b"
CRASH_LOOP = waiting("CrashLoopBackOff", "back-off 20s restarting failed container=bet-service pod=demo-bet-service")


def bet_service(*containers: Json, **more: str) -> Json:
    return reported(on_node(pod("bet-service", NAME)), *containers, **more)


def read(found: Json) -> Pod:
    known = pods.read(found)
    assert known is not None
    return known


def test_a_pod_is_an_instance_with_addresses_by_its_ip_and_the_node_it_runs_on() -> None:
    """Named as the pod; the ports are the platform's own."""
    found = read(bet_service(container("bet-service", running("containerd://c1"))))
    assert (found.workload, found.name, found.node) == ("bet-service", NAME, "node-1")
    assert (found.address, found.health_address) == ("10.201.1.7:7100", "10.201.1.7:7101")
    assert found.container == "containerd://c1"
    assert (found.is_instance, found.phase, found.restarts, found.ended) == (True, Phase.RUNNING, 0, ())


def test_redis_is_reached_at_its_own_port_and_postgres_is_not_asked() -> None:
    """Redis' pods are the nodes that the healer fails over; both IP families can be written as an address."""
    redis = read(reported(on_node(pod("redis", "demo-redis-0")), container("redis", running()), ip="fd00:10:244::7"))
    assert (redis.workload, redis.address, redis.health_address) == ("valkey", "[fd00:10:244::7]:6379", "")
    postgres = read(reported(on_node(pod("postgres", "demo-postgres-0")), container("postgres", running())))
    assert (postgres.workload, postgres.address, postgres.health_address) == ("postgres", "", "")


@pytest.mark.parametrize(
    ("found", "phase"),
    [
        (pod("bet-service", NAME), Phase.STARTING),
        (bet_service(container("bet-service", waiting("ContainerCreating")), ip="", phase="Pending"), Phase.STARTING),
        (bet_service(container("bet-service", waiting("ImagePullBackOff")), phase="Pending"), Phase.STARTING),
        (bet_service(container("bet-service", running(), started=False, ready=False)), Phase.STARTING),
        (bet_service(container("bet-service", running(), ready=False)), Phase.RUNNING),
        (bet_service(container("bet-service", terminated(BOOT))), Phase.DOWN),
        (bet_service(container("bet-service", CRASH_LOOP, terminated(BOOT), restarts=3)), Phase.DOWN),
        (bet_service(container("bet-service", running(), terminated(BOOT), restarts=1)), Phase.RUNNING),
    ],
    ids=[
        "unscheduled", "image", "no image", "startup probe", "not ready", "ended", "crash loop", "restarted",
    ],
)  # fmt: skip
def test_phases(found: Json, phase: Phase) -> None:
    """A pod that is not ready runs: a standby is not ready for days, and Postgres is none of its own business."""
    assert read(found).phase is phase


@pytest.mark.parametrize("state", [running(), terminated(BOOT, 0, reason="Completed")])
def test_a_pod_that_is_being_deleted_is_stopping_on_purpose(state: Json) -> None:
    """Also on a node that is lost, where nobody confirms its end, so that its object stays."""
    found = bet_service(container("bet-service", dict(state), ready=False))
    found["metadata"] |= {"deletionTimestamp": "2026-11-29T09:45:00Z", "deletionGracePeriodSeconds": 45}
    assert read(found).phase is Phase.STOPPING
    assert read(found).is_instance


def test_a_pod_that_was_evicted_from_its_node_is_no_instance_and_its_end_is_told() -> None:
    """Its owner makes another one; the object stays until it is collected."""
    found = bet_service(container("bet-service", terminated(BOOT)), phase="Failed")
    found["status"] |= {"reason": "Evicted", "message": "The node was low on resource: memory."}
    assert not read(found).is_instance
    assert [each.life.boot_id for each in read(found).ended] == [BOOT]


def test_what_is_no_instance_of_the_platform_is_left_out() -> None:
    """The migration runs once; what has no label of ours is somebody else's."""
    assert pods.read(on_node(pod("migration", "demo-migration-0-1-0-7k2bx", restartPolicy="Never"))) is None
    assert pods.read(on_node(pod("migration", "demo-migration-0-1-0-7k2bx", restartPolicy="OnFailure"))) is None
    foreign = on_node(pod("bet-service", NAME))
    del foreign["metadata"]["labels"]
    assert pods.read(foreign) is None


def test_every_end_that_the_status_holds_is_told_with_its_boot_id_and_how() -> None:
    """The one before last first: what ran before, and what has just ended."""
    found = read(
        bet_service(
            container(
                "bet-service",
                terminated(BOOT, 137, reason="OOMKilled", at="2026-11-29T09:43:00Z"),
                terminated(EARLIER, 2),
                restarts=1,
            )
        )
    )
    assert [(each.life, each.how) for each in found.ended] == [
        (Life("bet-service", NAME, EARLIER), "exit code 2"),
        (Life("bet-service", NAME, BOOT), "OOMKilled, killed by SIGKILL"),
    ]
    first, last = (each.at_s for each in found.ended)
    assert first is not None
    assert last is not None
    assert last - first == 103


def test_an_end_is_ordered_if_its_pod_was_being_deleted_by_then() -> None:
    """The life before that one ended by itself."""
    found = bet_service(container("bet-service", terminated(BOOT, 0), terminated(EARLIER), restarts=1))
    assert [each.ordered for each in read(found).ended] == [False, False]
    found["metadata"]["deletionTimestamp"] = "2026-11-29T09:45:00Z"
    assert [each.ordered for each in read(found).ended] == [False, True]


def test_a_container_that_the_kubelet_cannot_find_any_more_has_not_ended() -> None:
    """Its message is the kubelet's own."""
    lost = terminated("", 137, reason="ContainerStatusUnknown")
    lost["terminated"]["message"] = "The container could not be located when the pod was terminated"
    assert read(bet_service(container("bet-service", lost))).ended == ()


def test_what_ended_before_it_had_a_boot_id_is_named_after_its_container() -> None:
    """It proves the end of nobody else, and counts where a program crashes at its start again and again."""
    ended = [
        read(
            bet_service(container("bet-service", terminated("", code, container_id=f"containerd://{each * 64}")))
        ).ended
        for code, each in ((128, "a"), (1, "b"))
    ]
    lives = [each.life for [each] in ended]
    assert lives == [
        Life("bet-service", NAME, "container-aaaaaaaaaaaa"),
        Life("bet-service", NAME, "container-bbbbbbbbbbbb"),
    ]


def test_another_container_of_the_pod_is_not_its_life() -> None:
    """Something injected beside it comes and goes by itself."""
    proxy = container("istio-proxy", terminated("abc", 0, reason="Completed"))
    found = read(bet_service(proxy, container("bet-service", running("containerd://c1"))))
    assert (found.container, found.phase, found.ended) == ("containerd://c1", Phase.RUNNING, ())


@pytest.mark.parametrize(
    ("code", "how"),
    [(0, "exit code 0"), (143, "killed by SIGTERM"), (139, "killed by SIGSEGV"), (255, "exit code 255")],
)
def test_how_it_ended_is_told_as_on_one_machine(code: int, how: str) -> None:
    """A container's exit code is 128 and the signal that ended it."""
    [ended] = read(bet_service(container("bet-service", terminated(BOOT, code)))).ended
    assert ended.how == how


_KEYS = st.sampled_from(
    ["metadata", "labels", "name", "spec", "status", "phase", "podIP", "state", "running", "lastState", "terminated"]
)


@given(st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), st.none() | st.dictionaries(_KEYS, st.none())))
def test_a_pod_with_parts_missing_or_null_is_read_without_error(found: Json) -> None:
    """The API leaves out what is empty; a pod that was made a moment ago has hardly anything."""
    found.setdefault("metadata", {})
    found["metadata"] = {**(found["metadata"] or {}), "labels": {"app.kubernetes.io/name": "bet-service"}}
    assert read(found).phase is Phase.STARTING
