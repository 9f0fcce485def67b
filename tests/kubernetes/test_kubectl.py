"""What docs/operator says that a person sees and types, with the real kubectl."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from typing import Any

import platforms
import pytest
from kube_api import KubeApi

from betting_operator.kubernetes.client import Client, configuration
from betting_operator.kubernetes.manifests import MANAGED_BY_LABEL
from betting_operator.kubernetes.reconcile import KINDS, key_of
from betting_operator.kubernetes.reconciler import PLATFORMS, Reconciler
from betting_operator.kubernetes.workloads import OPERATOR

Kubectl = Callable[..., str]
EXAMPLE = platforms.EXAMPLES / "production.yaml"


@pytest.fixture
def run(kube_api: KubeApi, kubectl: str, namespace: str) -> Kubectl:
    """kubectl in the test's namespace; raises CalledProcessError."""
    kubeconfig = kube_api.kubeconfig(namespace=namespace)

    def run(*arguments: str) -> str:
        command = [kubectl, f"--kubeconfig={kubeconfig}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return run


@pytest.fixture
async def reconcile(kube_api: KubeApi, namespace: str) -> AsyncIterator[Callable[[], Any]]:
    """One round of the operator."""
    async with Client(configuration(kube_api.kubeconfig())) as client:
        reconciler = Reconciler(client, namespace, platforms.OWN_IMAGE)

        async def round_() -> None:
            resources = (await client.list(PLATFORMS, namespace)).objects
            objects = {}
            for kind in KINDS.values():
                listed = await client.list(kind, namespace, f"{MANAGED_BY_LABEL}={OPERATOR}")
                objects |= {key_of(each): each for each in listed.objects}
            await reconciler.reconcile(list(resources), objects)

        yield round_
        await reconciler.close()


async def test_a_platform_is_applied_looked_at_and_scaled(run: Kubectl, reconcile: Callable[[], Any]) -> None:
    run("apply", f"--filename={EXAMPLE}")
    run("create", "secret", "generic", "live-odds-api", "--from-literal=key=k")
    await reconcile()
    columns, row = run("get", "bp").splitlines()
    assert columns.split() == ["NAME", "READY", "REASON", "SHARDS", "REDIS", "AGE"]
    assert row.split()[:3] == ["live", "False", "SecretMissing"]
    described = run("describe", "bp", "live")
    assert "spec.database.external.dsnSecret: there is no Secret live-database" in described
    dsn = "--from-literal=dsn=postgresql://betting:p@127.0.0.1:1/betting"
    run("create", "secret", "generic", "live-database", dsn)
    await reconcile()
    described = run("describe", "bp", "live")
    assert "Accepted is True" in described.partition("Events:")[2]
    run("wait", "--for=condition=Accepted", "bp/live", "--timeout=5s")
    run("scale", "bp", "live", "--replicas=25")
    assert run("get", "bp", "live", "-o=jsonpath={.spec.services.betService.replicas}") == "25"


async def test_events_tell_what_changed(run: Kubectl, reconcile: Callable[[], Any]) -> None:
    """By the commands of docs/operator/conditions.md."""
    run("apply", f"--filename={EXAMPLE}")
    run("create", "secret", "generic", "live-odds-api", "--from-literal=key=k")
    dsn = "--from-literal=dsn=postgresql://betting:p@127.0.0.1:1/betting"
    run("create", "secret", "generic", "live-database", dsn)
    await reconcile()
    run("delete", "secret", "live-database")
    await reconcile()
    told = run("events", "--for", "bp/live")
    missing = "Accepted is False: spec.database.external.dsnSecret: there is no Secret live-database"
    assert re.search(r"Normal +Accepted +BettingPlatform/live +Accepted is True", told)
    assert re.search(rf"Warning +SecretMissing +BettingPlatform/live +{missing}", told)
    warnings = run("get", "events", "--field-selector", "involvedObject.kind=BettingPlatform,type=Warning")
    assert missing in warnings
    assert "Accepted is True" not in warnings


async def test_a_wrong_platform_is_refused_with_the_reason(run: Kubectl) -> None:
    run("apply", f"--filename={EXAMPLE}")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        run("patch", "bp", "live", "--type=merge", "--patch", '{"spec":{"shardCount":64}}')
    assert 'The BettingPlatform "live" is invalid: spec.shardCount' in refused.value.stderr
    assert "shardCount can never change" in refused.value.stderr


async def test_data_is_kept_unless_the_platform_says_delete(run: Kubectl, reconcile: Callable[[], Any]) -> None:
    """The commands of docs/operator/uninstall.md. Nothing has a finalizer."""
    run("apply", f"--filename={platforms.EXAMPLES / 'platform.yaml'}")
    run("patch", "bp", "demo", "--type=merge", "--patch", '{"spec":{"gateway":{"service":{"nodePort":null}}}}')
    await reconcile()
    assert run("get", "bp", "demo", "-o=jsonpath={.metadata.finalizers}") == ""
    label = "app.kubernetes.io/instance=demo"
    secrets = run("get", "secret", "-l", label, "-o=name").split()
    assert secrets == [f"secret/demo-{name}" for name in ("internal", "operator-login", "postgres", "redis")]
    owner = "{.metadata.ownerReferences[0].kind}"
    assert run("get", "secret", "demo-internal", f"-o=jsonpath={owner}") == ""
    run("patch", "bp", "demo", "--type", "merge", "-p", '{"spec":{"deletionPolicy":"Delete"}}')
    await reconcile()
    run("wait", f"--for=jsonpath={owner}=BettingPlatform", "secret/demo-internal", "--timeout=5s")
    retention = "{.spec.persistentVolumeClaimRetentionPolicy.whenDeleted}"
    assert run("get", "statefulset", "demo-postgres", f"-o=jsonpath={retention}") == "Delete"
    run("delete", "bp", "demo", "--timeout=20s")


async def test_a_new_password_reaches_the_address_that_is_made_of_it(
    run: Kubectl, reconcile: Callable[[], Any]
) -> None:
    """The command of docs/operator/keys.md. One that Redis would not start with is named, and goes nowhere."""
    run("apply", f"--filename={platforms.EXAMPLES / 'platform.yaml'}")
    run("patch", "bp", "demo", "--type=merge", "--patch", '{"spec":{"gateway":{"service":{"nodePort":null}}}}')
    await reconcile()
    template = "-o=go-template={{.data.url | base64decode}}"
    before = run("get", "secret", "demo-redis", template)
    run("patch", "secret", "demo-redis", "--type", "merge", "-p", '{"stringData":{"password":"pa/ss@word?"}}')
    await reconcile()
    assert run("get", "secret", "demo-redis", template) == before
    told = "{.status.conditions[?(@.type=='Accepted')]['reason','message']}"
    assert run("get", "bp", "demo", f"-o=jsonpath={told}").startswith("SecretInvalid the password in the Secret demo-r")
    password = "0123456789abcdef-new"
    run("patch", "secret", "demo-redis", "--type", "merge", "-p", json.dumps({"stringData": {"password": password}}))
    await reconcile()
    assert run("get", "secret", "demo-redis", template) == f"redis+dns://:{password}@demo-redis:6379/0"
