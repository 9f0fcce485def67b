"""The operator makes a platform on a real API server, with the rights that its chart gives it and no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import platforms
import psycopg
import pytest
from kube_api import KubeApi, KubeError

from betting.embedded.ports import held_ports
from betting.embedded.postgres import PostgresServer
from betting.journal.migrate import migrate
from betting_operator.kubernetes.client import Client, KubernetesError, configuration
from betting_operator.kubernetes.elector import NotLeadingError
from betting_operator.kubernetes.healer_process import HealerProcess
from betting_operator.kubernetes.kinds import PODS
from betting_operator.kubernetes.main import _reconcile, healer_environment
from betting_operator.kubernetes.manifests import MANAGED_BY_LABEL
from betting_operator.kubernetes.reconcile import KINDS, Key, key_of
from betting_operator.kubernetes.reconciler import PLATFORMS, Reconciler
from betting_operator.kubernetes.settings import OperatorSettings
from betting_operator.kubernetes.watching import Watched, Watching
from betting_operator.kubernetes.workloads import OPERATOR

PLATFORMS_PATH = "/apis/selfhealing.bet/v1alpha1/namespaces/{}/bettingplatforms"
MERGE = "application/merge-patch+json"


class Operator:
    """A reconciler of one namespace, one round at a time."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.reconciler = Reconciler(client, namespace, platforms.OWN_IMAGE)

    async def round(self) -> None:
        resources = list((await self.client.list(PLATFORMS, self.namespace)).objects)
        await self.reconciler.reconcile(resources, await self.objects())

    async def objects(self) -> dict[Key, Any]:
        """Every object with the operator's label."""
        found: dict[Key, Any] = {}
        for kind in KINDS.values():
            listed = await self.client.list(kind, self.namespace, f"{MANAGED_BY_LABEL}={OPERATOR}")
            found |= {key_of(each): each for each in listed.objects}
        return found


@pytest.fixture
async def operator(operators_rights: Path, namespace: str) -> AsyncIterator[Operator]:
    async with _operator(operators_rights, namespace) as found:
        yield found


@asynccontextmanager
async def _operator(kubeconfig: Path, namespace: str) -> AsyncIterator[Operator]:
    async with Client(configuration(kubeconfig)) as client:
        made = Operator(client, namespace)
        try:
            yield made
        finally:
            await made.reconciler.facts.close()


@pytest.fixture
def demo(kube_api: KubeApi, namespace: str) -> str:
    """The path of the example platform, created."""
    example = platforms.example("platform.yaml", namespace)
    example["metadata"].pop("uid")
    example["spec"]["gateway"]["service"].pop("nodePort")  # there is one of each number in a cluster
    kube_api.request("POST", PLATFORMS_PATH.format(namespace), example)
    return f"{PLATFORMS_PATH.format(namespace)}/demo"


def _condition(resource: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in resource["status"]["conditions"] if each["type"] == kind)
    return found


async def test_a_platform_is_made_with_the_rights_of_the_chart(
    kube_api: KubeApi, demo: str, operator: Operator
) -> None:
    await operator.round()
    objects = await operator.objects()
    assert {key.kind for key in objects} == set(KINDS) - {"Job", "HorizontalPodAutoscaler", "Ingress"}
    resource = kube_api.request("GET", demo)
    assert resource["status"]["phase"] == "Installing"
    assert _condition(resource, "Accepted")["status"] == "True"
    assert _condition(resource, "Ready")["reason"] == "NotRunning"
    assert _condition(resource, "Ready")["observedGeneration"] == resource["metadata"]["generation"]


async def test_nothing_is_written_while_nothing_changes(
    kube_api: KubeApi, demo: str, operator: Operator, operators_rights: Path
) -> None:
    """Also by an operator that has just started: an apply that changes nothing keeps the resourceVersion."""
    await operator.round()
    before = {key: each["metadata"]["resourceVersion"] for key, each in (await operator.objects()).items()}
    status = kube_api.request("GET", demo)["metadata"]["resourceVersion"]
    writes = _counted(operator.client)
    await operator.round()
    assert writes == []
    async with _operator(operators_rights, operator.namespace) as second:
        await second.round()
    assert {key: each["metadata"]["resourceVersion"] for key, each in (await operator.objects()).items()} == before
    assert kube_api.request("GET", demo)["metadata"]["resourceVersion"] == status


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/apis/apps/v1/namespaces/{}/deployments/demo-bet-service", {"spec": {"replicas": 9}}),
        (
            "/apis/apps/v1/namespaces/{}/deployments/demo-wallet-service",
            {"spec": {"template": {"spec": {"enableServiceLinks": True}}}},
        ),
        ("/api/v1/namespaces/{}/services/demo-gateway", {"spec": {"selector": {"app.kubernetes.io/name": "other"}}}),
        (
            "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies/demo-default-deny",
            {"spec": {"policyTypes": ["Ingress"]}},
        ),
        ("/api/v1/namespaces/{}/secrets/demo-redis", {"data": {"url": "eA=="}}),
    ],
)
async def test_drift_is_repaired(
    kube_api: KubeApi, demo: str, operator: Operator, path: str, change: dict[str, Any]
) -> None:
    await operator.round()
    path = path.format(operator.namespace)
    before = kube_api.request("GET", path)
    kube_api.request("PATCH", path, change, MERGE)
    await operator.round()
    after = kube_api.request("GET", path)
    assert (after.get("spec"), after.get("data")) == (before.get("spec"), before.get("data"))


async def test_what_was_deleted_is_made_again(kube_api: KubeApi, demo: str, operator: Operator) -> None:
    await operator.round()
    path = f"/api/v1/namespaces/{operator.namespace}/services/demo-gateway"
    kube_api.request("DELETE", path)
    await operator.round()
    assert kube_api.request("GET", path)["spec"]["type"] == "NodePort"


async def test_what_the_watch_has_not_told_yet_is_not_made_anew(
    kube_api: KubeApi, demo: str, operator: Operator
) -> None:
    """A Secret would get another password, a Deployment the number of pods that it starts with."""
    scaling = {"services": {"betService": {"autoscaling": {"minReplicas": 2, "maxReplicas": 9}}}}
    resource = kube_api.request("PATCH", demo, {"spec": scaling}, MERGE)
    await operator.reconciler.reconcile([resource], {})
    bets = f"/apis/apps/v1/namespaces/{operator.namespace}/deployments/demo-bet-service"
    kube_api.request("PATCH", f"{bets}/scale", {"spec": {"replicas": 6}}, MERGE)
    before = await operator.objects()
    for _round in range(2):
        await operator.reconciler.reconcile([resource], {})
    after = await operator.objects()
    assert {key: each.get("data") for key, each in before.items()} == {
        key: each.get("data") for key, each in after.items()
    }
    assert after[Key("Deployment", "demo-bet-service")]["spec"]["replicas"] == 6


async def test_objects_that_lost_their_labels_get_them_back_and_are_else_as_they_were(
    kube_api: KubeApi, namespace: str, operator: Operator
) -> None:
    """The watch tells of them no more, also to an operator that has just started."""
    resource = platforms.resource(namespace, "demo", deletionPolicy="Delete")
    resource["metadata"].pop("uid")
    scaling = {"betService": {"autoscaling": {"minReplicas": 2, "maxReplicas": 9}}}
    kube_api.request("POST", PLATFORMS_PATH.format(namespace), resource | {"spec": {"services": scaling}})
    kube_api.request("PATCH", f"{PLATFORMS_PATH.format(namespace)}/demo", {"spec": {"deletionPolicy": "Delete"}}, MERGE)
    await operator.round()
    bets = f"/apis/apps/v1/namespaces/{namespace}/deployments/demo-bet-service"
    kube_api.request("PATCH", f"{bets}/scale", {"spec": {"replicas": 6}}, MERGE)
    before = await operator.objects()
    for path in (bets, f"/api/v1/namespaces/{namespace}/secrets/demo-postgres"):
        kube_api.request("PATCH", path, {"metadata": {"labels": None}}, MERGE)
    operator.reconciler = Reconciler(operator.client, namespace, platforms.OWN_IMAGE)
    for _round in range(2):
        await operator.round()
    after = await operator.objects()
    assert {key: each.get("data") for key, each in before.items()} == {
        key: each.get("data") for key, each in after.items()
    }
    assert after[Key("Deployment", "demo-bet-service")]["spec"]["replicas"] == 6


async def test_no_pods_are_made_with_a_password_that_cannot_be_stored(
    kube_api: KubeApi, demo: str, namespace: str, operator: Operator
) -> None:
    """Each round would make another one, and roll all pods."""
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": {"hard": {"count/secrets": "0"}},
    }
    kube_api.request("POST", f"/api/v1/namespaces/{namespace}/resourcequotas", quota)
    kube_api.request(
        "PATCH",
        f"/api/v1/namespaces/{namespace}/resourcequotas/none/status",
        {"status": {"hard": {"count/secrets": "0"}, "used": {"count/secrets": "0"}}},
        MERGE,
    )
    await operator.round()
    accepted = _condition(kube_api.request("GET", demo), "Accepted")
    assert accepted["reason"] == "NotApplied"
    assert "Secret demo-internal" in accepted["message"]
    assert {key.kind for key in await operator.objects()} == {"NetworkPolicy", "Service"}


async def test_an_object_that_the_api_server_cannot_take_does_not_stop_the_others(
    kube_api: KubeApi, demo: str, namespace: str, operator: Operator
) -> None:
    """What is not of an object's schema, or an admission webhook that is away, has status 500."""
    webhook = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": f"away-{namespace}"},
        "webhooks": [
            {
                "name": "away.example.com",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "clientConfig": {"url": "https://127.0.0.1:1/"},
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "rules": [
                    {
                        "apiGroups": ["networking.k8s.io", "apps"],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE", "DELETE"],
                        "resources": ["networkpolicies", "statefulsets"],
                    }
                ],
            }
        ],
    }
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    await operator.round()
    kube_api.request("PATCH", demo, {"spec": {"feeds": {"seasonReplay": None}}}, MERGE)
    kube_api.request("DELETE", f"/apis/apps/v1/namespaces/{namespace}/statefulsets/demo-redis")
    kube_api.request("POST", path, webhook)
    try:
        until_refused(kube_api, namespace)
        await operator.round()
    finally:
        kube_api.request("DELETE", f"{path}/away-{namespace}")
    accepted = _condition(kube_api.request("GET", demo), "Accepted")
    assert accepted["reason"] == "NotApplied"
    assert "StatefulSet demo-redis: " in accepted["message"]
    assert "NetworkPolicy demo-season-replay: " in accepted["message"]
    assert Key("Deployment", "demo-season-replay") not in await operator.objects()


def until_refused(kube_api: KubeApi, namespace: str) -> None:
    """Returns once the API server has taken note of the webhook."""
    path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    probe = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "probe"}}
    while True:
        try:
            kube_api.request("POST", f"{path}?dryRun=All", probe | {"spec": {"podSelector": {}}})
        except KubeError:
            return
        time.sleep(0.05)


async def test_an_object_of_somebody_else_is_not_touched(kube_api: KubeApi, demo: str, operator: Operator) -> None:
    path = f"/api/v1/namespaces/{operator.namespace}/services"
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "demo-gateway"},
        "spec": {"ports": [{"port": 1}], "selector": {"app": "theirs"}},
    }
    kube_api.request("POST", path, theirs)
    await operator.round()
    assert kube_api.request("GET", f"{path}/demo-gateway")["spec"]["selector"] == {"app": "theirs"}
    accepted = _condition(kube_api.request("GET", demo), "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "NotApplied")
    assert "Service demo-gateway exists and belongs to somebody else" in accepted["message"]
    kube_api.request("DELETE", f"{path}/demo-gateway")
    await operator.round()
    assert _condition(kube_api.request("GET", demo), "Accepted")["status"] == "True"


async def test_a_second_platform_in_the_namespace_is_refused_and_left_alone(
    kube_api: KubeApi, demo: str, operator: Operator
) -> None:
    await operator.round()
    second = platforms.resource(operator.namespace, "second")
    second["metadata"].pop("uid")
    kube_api.request("POST", PLATFORMS_PATH.format(operator.namespace), second)
    await operator.round()
    ready = _condition(kube_api.request("GET", f"{PLATFORMS_PATH.format(operator.namespace)}/second"), "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "AnotherPlatform")
    assert not [key for key in await operator.objects() if key.name.startswith("second")]


async def test_a_missing_secret_is_named_and_what_runs_is_left_as_it_is(
    kube_api: KubeApi, namespace: str, operator: Operator
) -> None:
    resource = platforms.resource(namespace, "demo", database={"external": {"dsnSecret": {"name": "mine"}}})
    resource["metadata"].pop("uid")
    kube_api.request("POST", PLATFORMS_PATH.format(namespace), resource)
    await operator.round()
    path = f"{PLATFORMS_PATH.format(namespace)}/demo"
    accepted = _condition(kube_api.request("GET", path), "Accepted")
    assert accepted["reason"] == "SecretMissing"
    assert accepted["message"] == "spec.database.external.dsnSecret: there is no Secret mine"
    assert await operator.objects() == {}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "mine"},
        "stringData": {"dsn": "postgresql://x"},
    }
    kube_api.request("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)
    await operator.round()
    assert _condition(kube_api.request("GET", path), "Accepted")["status"] == "True"
    assert Key("Deployment", "demo-bet-service") in await operator.objects()


async def test_the_healer_of_a_platform_with_external_databases_gets_their_addresses(
    kube_api: KubeApi, namespace: str, operator: Operator
) -> None:
    """Their Secrets are not ours and do not have our labels."""
    spec = {
        "database": {"external": {"dsnSecret": {"name": "mine"}}},
        "redis": {"external": {"urlSecret": {"name": "mine"}}},
    }
    resource = platforms.resource(namespace, "demo", **spec)
    resource["metadata"].pop("uid")
    created = kube_api.request("POST", PLATFORMS_PATH.format(namespace), resource)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "mine"},
        "stringData": {"dsn": "postgresql://u:p@127.0.0.1:1/d", "url": "redis://127.0.0.1:1"},
    }
    kube_api.request("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)
    found = await operator.reconciler.reconcile([created], {})
    assert found is not None
    configured = OperatorSettings(pod="o", namespace=namespace, pod_ip="10.0.0.1", image="betting:1")
    environment = healer_environment(configured, *found)
    assert environment is not None
    assert environment["BETTING_POSTGRES_DSN"] == "postgresql://u:p@127.0.0.1:1/d"
    assert environment["BETTING_REDIS_URL"] == "redis://127.0.0.1:1"


async def test_a_password_is_made_once_also_when_the_watch_does_not_tell_of_its_secret(
    kube_api: KubeApi, demo: str, operator: Operator
) -> None:
    """Another one would lock everybody out of the database that was made with the first."""
    resource = kube_api.request("GET", demo)
    path = f"/api/v1/namespaces/{operator.namespace}/secrets"
    await operator.reconciler.reconcile([resource], {})
    first = {each["metadata"]["name"]: each["data"] for each in kube_api.request("GET", path)["items"]}
    await operator.reconciler.reconcile([resource], {})
    assert {each["metadata"]["name"]: each["data"] for each in kube_api.request("GET", path)["items"]} == first


async def test_the_healer_goes_on_when_a_secret_that_it_was_started_with_goes_away(
    kube_api: KubeApi, namespace: str, operators_rights: Path
) -> None:
    """So do the services: they have read it."""
    spec = {"database": {"external": {"dsnSecret": {"name": "mine"}}}}
    resource = platforms.resource(namespace, "demo", **spec)
    resource["metadata"].pop("uid")
    path = f"{PLATFORMS_PATH.format(namespace)}/demo"
    kube_api.request("POST", PLATFORMS_PATH.format(namespace), resource)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "mine"},
        "stringData": {"dsn": "postgresql://u:p@127.0.0.1:1/d"},
    }
    kube_api.request("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)
    wanted: list[Mapping[str, str] | None] = []

    class Noted(HealerProcess):
        def want(self, environment: Mapping[str, str] | None) -> None:
            wanted.append(environment)
            super().want(environment)

    async with _reconciling(operators_rights, namespace, Noted()):
        while not wanted:  # noqa: ASYNC110  (the operator adds to it)
            await asyncio.sleep(0.02)
        kube_api.request("DELETE", f"/api/v1/namespaces/{namespace}/secrets/mine")
        while _condition(kube_api.request("GET", path), "Accepted")["reason"] != "SecretMissing":  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        seen = len(wanted)
        assert None not in wanted
        kube_api.request("PATCH", path, {"spec": {"healing": {"enabled": False}}}, MERGE)
        while len(wanted) == seen:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert wanted[seen] is None


async def test_an_object_that_somebody_else_deletes_meanwhile_does_not_stop_the_round(
    kube_api: KubeApi, demo: str, operator: Operator
) -> None:
    """Neither when another one of its name is there already: a delete names the uid."""
    await operator.round()
    path = f"/apis/networking.k8s.io/v1/namespaces/{operator.namespace}/networkpolicies/demo-season-replay"
    seen = await operator.objects()
    replaced = kube_api.request("GET", path)
    kube_api.request("DELETE", path)
    replaced["metadata"] = {each: replaced["metadata"][each] for each in ("name", "labels", "ownerReferences")}
    kube_api.request("POST", path.removesuffix("/demo-season-replay"), replaced)
    resource = kube_api.request("PATCH", demo, {"spec": {"feeds": {"seasonReplay": None}}}, MERGE)
    await operator.reconciler.reconcile([resource], seen)
    assert kube_api.request("GET", path)
    await operator.reconciler.reconcile([resource], await operator.objects())
    assert Key("NetworkPolicy", "demo-season-replay") not in await operator.objects()


@pytest.mark.parametrize(
    ("image", "reason"),
    [({}, "SchemaNewer"), ({"repository": "betting", "tag": "99"}, "Migrating")],
    ids=["the operator's own image", "another one"],
)
async def test_a_schema_that_the_operator_does_not_know_is_judged_only_for_its_own_image(
    kube_api: KubeApi, namespace: str, operator: Operator, newer_dsn: str, image: dict[str, str], reason: str
) -> None:
    """Another image of a platform may be of a newer release, which made that schema."""
    resource = platforms.resource(
        namespace, "demo", database={"external": {"dsnSecret": {"name": "mine"}}}, image=image
    )
    resource["metadata"].pop("uid")
    kube_api.request("POST", PLATFORMS_PATH.format(namespace), resource)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "stringData": {"dsn": newer_dsn}}
    kube_api.request("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)
    await operator.round()
    found = kube_api.request("GET", f"{PLATFORMS_PATH.format(namespace)}/demo")
    assert _condition(found, "DatabaseReady")["status"] == "True"
    assert _condition(found, "Migrated")["reason"] == reason


@pytest.fixture(scope="module")
def newer_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database that a newer release has migrated."""
    with held_ports(1) as [port]:
        server = PostgresServer(tmp_path_factory.mktemp("postgres") / "pg", port, durable=False)
        server.start()
        try:
            dsn = server.spec.dsn("postgres")
            migrate(dsn)
            with psycopg.connect(dsn) as connection:
                connection.execute(
                    "UPDATE _yoyo_migration SET migration_id = '9999.newer'"
                    " WHERE migration_id = (SELECT max(migration_id) FROM _yoyo_migration)"
                )
            yield dsn
        finally:
            server.stop()


async def test_a_paused_platform_is_reported_on_and_not_changed(
    kube_api: KubeApi, demo: str, operator: Operator
) -> None:
    await operator.round()
    kube_api.request("PATCH", demo, {"spec": {"paused": True, "gateway": {"service": {"type": "LoadBalancer"}}}}, MERGE)
    writes = _counted(operator.client)
    await operator.round()
    assert all("/status" in path or "/events" in path for path in writes)
    assert _condition(kube_api.request("GET", demo), "RolledOut")["reason"] == "Paused"
    service = kube_api.request("GET", f"/api/v1/namespaces/{operator.namespace}/services/demo-gateway")
    assert service["spec"]["type"] == "NodePort"


async def test_events_are_counted_not_repeated(kube_api: KubeApi, demo: str, operator: Operator) -> None:
    await operator.round()
    path = f"/api/v1/namespaces/{operator.namespace}/events"
    first = {each["metadata"]["name"]: each["count"] for each in kube_api.request("GET", path)["items"]}
    assert first
    assert set(first.values()) == {1}
    kube_api.request("PATCH", f"{demo}/status", {"status": {"conditions": []}}, MERGE)
    await operator.round()
    second = {each["metadata"]["name"]: each["count"] for each in kube_api.request("GET", path)["items"]}
    assert second == dict.fromkeys(first, 2)


async def test_the_autoscaler_keeps_the_number_of_pods_that_it_has_set(
    kube_api: KubeApi, demo: str, operator: Operator
) -> None:
    scaling = {"services": {"betService": {"autoscaling": {"minReplicas": 2, "maxReplicas": 9}}}}
    kube_api.request("PATCH", demo, {"spec": scaling}, MERGE)
    await operator.round()
    path = f"/apis/apps/v1/namespaces/{operator.namespace}/deployments/demo-bet-service"
    assert kube_api.request("GET", path)["spec"]["replicas"] == 2
    kube_api.request("PATCH", f"{path}/scale", {"spec": {"replicas": 6}}, MERGE)
    for _round in range(3):
        await operator.round()
        assert kube_api.request("GET", path)["spec"]["replicas"] == 6


async def test_a_deployment_whose_new_template_waits_is_scaled(
    kube_api: KubeApi, demo: str, operator: Operator
) -> None:
    await operator.round()
    change = {"image": {"repository": "betting", "tag": "2"}, "services": {"betService": {"replicas": 5}}}
    kube_api.request("PATCH", demo, {"spec": change}, MERGE)
    await operator.round()
    bets = kube_api.request("GET", f"/apis/apps/v1/namespaces/{operator.namespace}/deployments/demo-bet-service")
    assert bets["spec"]["replicas"] == 5
    assert bets["spec"]["template"]["spec"]["containers"][0]["image"] == platforms.OWN_IMAGE.reference
    writes = _counted(operator.client)
    await operator.round()
    assert writes == []


async def test_an_event_that_cannot_be_written_does_not_end_the_round(
    kube_api: KubeApi, demo: str, namespace: str, chart: Callable[..., list[dict[str, Any]]]
) -> None:
    role = next(each for each in chart(namespace, "--set", "crds.install=false") if each["kind"] == "Role")
    rules = [each for each in role["rules"] if each["resources"] != ["events"]]
    async with _operator(kube_api.service_account(namespace, "mute", rules), namespace) as mute:
        await mute.round()
    assert kube_api.request("GET", f"/api/v1/namespaces/{namespace}/events")["items"] == []
    assert _condition(kube_api.request("GET", demo), "Accepted")["status"] == "True"


async def test_a_write_that_came_too_late_for_the_lease_leaves_the_end_to_the_elector(
    kube_api: KubeApi, demo: str, namespace: str, operators_rights: Path
) -> None:
    """It makes the process anew in its container: one that ended would be started later and later by the kubelet."""
    refused = 0

    def not_leading() -> None:
        nonlocal refused
        refused += 1
        raise NotLeadingError("too late")

    async with _reconciling(operators_rights, namespace, HealerProcess(), before_write=not_leading):
        while refused < 2:  # noqa: ASYNC110  (a thread counts)
            await asyncio.sleep(0.02)


async def test_a_fault_of_the_operator_in_one_round_ends_neither_it_nor_the_healer(
    kube_api: KubeApi, demo: str, namespace: str, operators_rights: Path
) -> None:
    """The next round looks anew."""
    failed = 0

    def fails_at_first() -> None:
        nonlocal failed
        failed += 1
        if failed < 3:
            raise LookupError("a fault of ours")

    async with _reconciling(operators_rights, namespace, HealerProcess(), before_write=fails_at_first):
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        while not kube_api.request("GET", path)["items"]:  # noqa: ASYNC110  (the operator makes them)
            await asyncio.sleep(0.1)
    assert failed > 2


async def test_a_right_that_is_missing_is_named(kube_api: KubeApi, demo: str, namespace: str) -> None:
    rules = [{"apiGroups": ["selfhealing.bet"], "resources": ["bettingplatforms"], "verbs": ["get", "list"]}]
    async with _operator(kube_api.service_account(namespace, "poor", rules), namespace) as poor:
        with pytest.raises(KubernetesError, match="networkpolicies"):
            await poor.round()


@asynccontextmanager
async def _reconciling(
    kubeconfig: Path, namespace: str, healer: HealerProcess, before_write: Callable[[], None] = lambda: None
) -> AsyncIterator[None]:
    """What the leader runs, without the healer's process, for as long as the block lasts."""
    configured = OperatorSettings(pod="o", namespace=namespace, pod_ip="10.0.0.1", image="betting:1")
    read = partial(configuration, kubeconfig)
    wake = asyncio.Event()
    async with Client(read(), before_write=before_write) as client, asyncio.TaskGroup() as group:
        watched = [Watched(each) for each in (PLATFORMS, *KINDS.values(), PODS)]
        watching = Watching(client, read, namespace, watched, lambda _key: wake.set())
        reconciler = Reconciler(client, namespace, platforms.OWN_IMAGE)
        running = [
            group.create_task(watching.run()),
            group.create_task(_reconcile(watching, wake, configured, reconciler, healer)),
        ]
        yield
        for each in running:
            each.cancel()


def _counted(client: Client) -> list[str]:
    """The paths of all writes of a client from now on."""
    writes: list[str] = []
    write = client._write  # the one place that all writes go through

    async def counted(method: str, path: str, *arguments: Any, **more: Any) -> Any:
        writes.append(path)
        return await write(method, path, *arguments, **more)

    client._write = counted  # type: ignore[method-assign]
    return writes
