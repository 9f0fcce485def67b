"""The chart, as Helm brings it to a real API server: definitions that are shared, upgraded and kept."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from kube_api import KubeApi, KubeError

from betting.release import version

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "betting-platform"
CRDS = sorted(path.stem for path in (ROOT / "crds").glob("*.yaml"))
CRDS_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CRD_PATH = f"{CRDS_PATH}/bettingplatforms.selfhealing.bet"


class Helm:
    """Helm at the test's API server."""

    def __init__(self, program: str, kubeconfig: Path, folder: Path) -> None:
        self._program = program
        self._kubeconfig = kubeconfig
        self._folder = folder

    def __call__(self, *arguments: str) -> str:
        """What it prints. Raises CalledProcessError."""
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self._folder),
            "KUBECONFIG": str(self._kubeconfig),
        }
        command = [self._program, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


@pytest.fixture
def helm_there(helm: str, kube_api: KubeApi, tmp_path: Path) -> Iterator[Helm]:
    """Helm, and no CustomResourceDefinition yet: as in a cluster that has never seen the chart. Put back afterwards."""
    _without_crd(kube_api)
    yield Helm(helm, kube_api.kubeconfig(), tmp_path)
    _without_crd(kube_api)
    kube_api.install((ROOT / "crds").glob("*.yaml"))


def _without_crd(kube_api: KubeApi) -> None:
    """Returns when they are gone, with all platforms that there were."""
    while found := _crds(kube_api):
        for name in found:
            with suppress(KubeError):  # it is gone by now
                kube_api.request("DELETE", f"{CRDS_PATH}/{name}")


def _crds(kube_api: KubeApi) -> set[str]:
    found = kube_api.request("GET", CRDS_PATH)["items"]
    return {each["metadata"]["name"] for each in found} & set(CRDS)


def test_an_upgrade_brings_a_new_field_and_uninstalling_keeps_the_definition(
    helm_there: Helm, kube_api: KubeApi, namespace: str, tmp_path: Path
) -> None:
    """Helm never upgrades what is in a chart's crds/ folder: this one is a template."""
    before = tmp_path / "before"
    shutil.copytree(CHART, before)
    template = before / "templates" / "crd.yaml"
    template.write_text(template.read_text().replace("              paused:\n", "              halted:\n"))
    helm_there("install", "betting", str(before), "--namespace", namespace)
    assert "halted" in _fields(kube_api)
    helm_there("upgrade", "betting", str(CHART), "--namespace", namespace)
    assert "paused" in _fields(kube_api)
    assert "halted" not in _fields(kube_api)
    helm_there("rollback", "betting", "1", "--namespace", namespace)
    assert "halted" in _fields(kube_api)
    helm_there("uninstall", "betting", "--namespace", namespace)
    assert "halted" in _fields(kube_api)
    helm_there("install", "betting", str(CHART), "--namespace", namespace)
    assert "paused" in _fields(kube_api), "the release of the same name takes it over"


def _fields(kube_api: KubeApi) -> set[str]:
    versions = kube_api.request("GET", CRD_PATH)["spec"]["versions"]
    return set(versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"])


def test_a_second_operator_is_told_how_to_share_the_definition(
    helm_there: Helm, kube_api: KubeApi, namespace: str
) -> None:
    """There is one definition in a cluster, of the release that installed it."""
    second = f"{namespace}-second"
    kube_api.create_namespace(second)
    helm_there("install", "betting", str(CHART), "--namespace", namespace)
    install = ("install", "betting", str(CHART), "--namespace", second)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        helm_there(*install)
    assert f"belongs to release betting in namespace {namespace}, which upgrades it" in refused.value.stderr
    assert "--set crds.install=false" in refused.value.stderr
    notes = helm_there(*install, "--set", "crds.install=false")
    assert "This release does not touch the CustomResourceDefinitions" in notes
    helm_there("uninstall", "betting", "--namespace", second)
    assert _crds(kube_api) == set(CRDS)


def test_a_definition_that_was_applied_by_hand_can_be_given_to_a_release(
    helm_there: Helm, kube_api: KubeApi, namespace: str
) -> None:
    """By the annotations and the label that docs/operator/install.md names."""
    kube_api.install((ROOT / "crds").glob("*.yaml"))
    install = ("install", "betting", str(CHART), "--namespace", namespace)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        helm_there(*install)
    assert "was not made by Helm" in refused.value.stderr
    given = {
        "annotations": {"meta.helm.sh/release-name": "betting", "meta.helm.sh/release-namespace": namespace},
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
    }
    for name in CRDS:
        kube_api.request("PATCH", f"{CRDS_PATH}/{name}", {"metadata": given}, "application/merge-patch+json")
    helm_there(*install)


def test_the_notes_name_the_namespace_and_the_image(helm_there: Helm, namespace: str) -> None:
    arguments = (str(CHART), "--namespace", namespace, "--set", "image.registry=localhost")
    notes = helm_there("install", "betting", *arguments)
    assert f"The operator betting-operator runs in namespace {namespace}" in notes
    assert f"localhost/betting:{version()}" in notes
    assert f"kubectl -n {namespace} apply -f examples/platform.yaml" in notes
    upgraded = helm_there("upgrade", "betting", *arguments)
    assert "apply -f" not in upgraded
    assert "now rolls to this one" in upgraded
