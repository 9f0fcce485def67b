"""spec.healing at a real API server: a policy that cannot work is refused, one that can reaches the healer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import platforms
import pytest
from kube_api import KubeApi, KubeError
from operator_rounds import PLATFORMS_PATH
from pod_processes import POD_RULES, environment_of_a_healer

from betting_operator.flight_files import records
from betting_operator.healing.policy import Policy
from betting_operator.kubernetes.healer_process import HealerProcess
from betting_operator.kubernetes.spec import parse

TIMEOUT_S = 60.0


def created(kube_api: KubeApi, namespace: str, healing: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """The resource with this healing policy, as the API server has it. Raises KubeError."""
    new = platforms.resource(namespace, "demo", healing=healing, **spec)
    new["metadata"].pop("uid")
    return kube_api.request("POST", PLATFORMS_PATH.format(namespace), new)


def service(**limits: Any) -> dict[str, Any]:
    """Limits of the bet-service, which has two pods unless the spec says otherwise."""
    return {"services": {"betService": limits}}


def window(**fields: Any) -> dict[str, Any]:
    """One maintenance window."""
    return {"maintenanceWindows": [{"start": "02:00", "durationMinutes": 60, **fields}]}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"budget": 0}, "spec.healing.budget: Invalid value: 0"),
    ({"coolDownSeconds": 300}, "coolDownSeconds must be less than 300: budget counts the actions of five minutes"),
    ({"coolDownSeconds": -1}, "spec.healing.coolDownSeconds: Invalid value: -1"),
    ({"paused": True}, "must be of type string"),
    ({"paused": "  "}, "paused is the reason of the pause"),
    ({"paused": "two\nlines"}, "paused is the reason of the pause"),
    ({"paused": "x" * 201}, "spec.healing.paused: Too long"),
    ({"dryRun": "yes"}, "must be of type boolean"),
    ({"rebalancing": "Never"}, 'supported values: \\"Automatic\\", \\"Approve\\"'),
    ({"services": {"bet-service": {}}}, "healing.services has names of spec.services: healthMonitor, userService"),
    ({"services": {"postgres": {"budget": 1}}}, "healing.services has names of spec.services"),
    (service(budget=0), "spec.healing.services.betService.budget"),
    (service(minHealthyPercent=100), "minHealthyPercent must be less than 100: an instance that needs an action"),
    (service(minHealthyPercent=101), "should be less than or equal to 100"),
    (service(minHealthyPercent=51), "healing.services.betService.minHealthyPercent is more than all of its replicas"),
    (window(durationMinutes=0), "durationMinutes must be at least 15"),
    (window(durationMinutes=1_441), "should be less than or equal to 1440"),
    (window(start="24:00"), "maintenanceWindows[0].start"),
    (window(start="2:00"), "maintenanceWindows[0].start"),
    (window(days=[]), "maintenanceWindows[0].days"),
    (window(days=["Sunday", "Sunday"]), "Duplicate value"),
    (window(days=["Sun"]), "Unsupported value"),
    ({"maintenanceWindows": [{"start": "02:00"}]}, "durationMinutes: Required value"),
    ({"maintenanceWindows": [{"durationMinutes": 60}]}, "start: Required value"),
]


@pytest.mark.parametrize(("healing", "reason"), REFUSED, ids=[str(healing)[:50] for healing, _reason in REFUSED])
def test_a_policy_that_cannot_work_is_refused_with_the_reason(
    kube_api: KubeApi, namespace: str, healing: dict[str, Any], reason: str
) -> None:
    with pytest.raises(KubeError) as refused:
        created(kube_api, namespace, healing)
    assert refused.value.code == 422
    assert reason in refused.value.message


@pytest.mark.parametrize(
    ("replicas", "autoscaling", "percent", "accepted"),
    [
        (2, None, 50, True),
        (3, None, 66, True),
        (3, None, 67, False),
        (1, None, 99, True),  # the last one is never spared
        (20, None, 95, True),
        (20, None, 96, False),
        (20, {"minReplicas": 2, "maxReplicas": 40}, 75, False),
        (2, {"minReplicas": 4, "maxReplicas": 40}, 75, True),
    ],
)
def test_a_share_must_be_one_that_the_replicas_without_one_can_be(
    kube_api: KubeApi, namespace: str, replicas: int, autoscaling: dict[str, int] | None, percent: int, accepted: bool
) -> None:
    """Else nothing would be done about one that fails, however well the others are."""
    bets: dict[str, Any] = {"replicas": replicas}
    if autoscaling:
        bets["autoscaling"] = autoscaling
    expected = nullcontext() if accepted else pytest.raises(KubeError, match="With 2 replicas it is at most 50")
    with expected:
        created(kube_api, namespace, service(minHealthyPercent=percent), services={"betService": bets})


def test_scaling_a_service_below_what_its_share_needs_is_refused_too(kube_api: KubeApi, namespace: str) -> None:
    """By `kubectl scale` as well."""
    bets = {"betService": {"replicas": 4}}
    created(kube_api, namespace, service(minHealthyPercent=75), services=bets)
    path = f"{PLATFORMS_PATH.format(namespace)}/demo/scale"
    with pytest.raises(KubeError) as refused:
        kube_api.request("PATCH", path, {"spec": {"replicas": 3}}, "application/merge-patch+json")
    assert "healing.services.betService.minHealthyPercent" in refused.value.message
    kube_api.request("PATCH", path, {"spec": {"replicas": 5}}, "application/merge-patch+json")


def test_the_policy_of_a_resource_is_one_that_the_healer_accepts(kube_api: KubeApi, namespace: str) -> None:
    """At the ends of what the API server lets through, with the defaults that it fills in."""
    healing = {
        "budget": 10_000,
        "coolDownSeconds": 299,
        "services": {"betService": {"minHealthyPercent": 99, "budget": 1}, "userService": {}},
        "maintenanceWindows": [{"start": "23:59", "durationMinutes": 1_440}],
    }
    bets = {"betService": {"replicas": 1}}
    found = parse(created(kube_api, namespace, healing, services=bets), platforms.OWN_IMAGE).healing.policy
    found.check()
    assert found == platforms.platform(healing=healing, services=bets).healing.policy


@asynccontextmanager
async def running(healer: HealerProcess) -> AsyncIterator[None]:
    """The healer's process, for as long as the block lasts."""
    task = asyncio.create_task(healer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_change_of_policy_is_in_force_within_a_tick_and_starts_no_new_healer(
    kube_api: KubeApi, namespace: str, dsn: str, tmp_path: Path
) -> None:
    """A new one would begin without evidence: its process and its term are the same ones."""
    kubeconfig = kube_api.service_account(namespace, "betting-operator", POD_RULES)
    environment = environment_of_a_healer(kubeconfig, namespace, dsn, tmp_path)
    healer = HealerProcess(tmp_path / "policy.json")
    healer.want(environment, Policy())
    async with running(healer):
        first = await recorded(tmp_path, "")
        pids = healer.pids()
        healer.want(environment, Policy(paused="upgrade"))
        assert await recorded(tmp_path, "upgrade (spec.healing.paused)") == first
        healer.want(environment, Policy())
        assert await recorded(tmp_path, "") == first
        assert healer.pids() == pids
        assert not healer.state().not_told


async def recorded(folder: Path, paused: str) -> int:
    """The term of the newest tick in the flight record, once that was decided under such a policy."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            newest = list(await asyncio.to_thread(lambda: list(records(folder / "flight"))))[-1:]
            if newest and newest[0].policy.paused == paused:
                return newest[0].seen.term
            await asyncio.sleep(0.1)


def test_a_policy_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """The healer goes on by the one before."""
    healer = HealerProcess(tmp_path / "none" / "policy.json")
    healer.want({}, Policy(paused="upgrade"))
    assert "No such file or directory" in healer.state().not_told
    (tmp_path / "none").mkdir()
    healer.want({}, Policy(paused="upgrade"))
    assert healer.state().not_told == ""
