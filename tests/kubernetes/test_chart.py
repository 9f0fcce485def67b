"""The chart: what each of its values changes, what is refused, and which rights it gives."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import platforms
import pytest
import yaml
from kube_api import KubeApi

from betting.release import version
from betting_operator.kubernetes.elector import LEASES
from betting_operator.kubernetes.events import EVENTS
from betting_operator.kubernetes.healing_actions import HEALING_ACTIONS
from betting_operator.kubernetes.kinds import PLATFORMS, PODS, Resource
from betting_operator.kubernetes.rebalancing import REBALANCES
from betting_operator.kubernetes.reconcile import KINDS, wanted
from betting_operator.kubernetes.rollbacks import REPLICA_SETS
from betting_operator.kubernetes.spec import parse

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "betting-platform"
CRDS = sorted(path.stem for path in (ROOT / "crds").glob("*.yaml"))
DIGEST = "sha256:" + "0" * 64
MONITORING = "monitoring.coreos.com/v1"

Manifest = dict[str, Any]
Chart = Callable[..., list[Manifest]]


def _one(manifests: list[Manifest], kind: str) -> Manifest:
    found: Manifest = next(each for each in manifests if each["kind"] == kind)
    return found


def _pod(manifests: list[Manifest]) -> Manifest:
    pod: Manifest = _one(manifests, "Deployment")["spec"]["template"]["spec"]
    return pod


def _container(manifests: list[Manifest]) -> Manifest:
    container: Manifest = _pod(manifests)["containers"][0]
    return container


def _environment(manifests: list[Manifest]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in _container(manifests)["env"] if "value" in each}


def _image(manifests: list[Manifest]) -> str:
    """The image of the operator, which it gives to the platforms too."""
    image: str = _container(manifests)["image"]
    assert _environment(manifests)["OPERATOR_IMAGE"] == image
    return image


def _pull_secrets(manifests: list[Manifest]) -> object:
    return (
        [each["name"] for each in _pod(manifests).get("imagePullSecrets", ())],
        _environment(manifests)["OPERATOR_IMAGE_PULL_SECRETS"],
    )


def _monitoring(manifests: list[Manifest]) -> list[Manifest]:
    return [each for each in manifests if each["apiVersion"] == MONITORING]


def _alert(manifests: list[Manifest], name: str) -> Manifest:
    groups = _one(manifests, "PrometheusRule")["spec"]["groups"]
    found: Manifest = next(rule for group in groups for rule in group["rules"] if rule["alert"] == name)
    return found


# Every value: another one, what shows it, what that is with the defaults, and what it is then.
VALUES: dict[str, tuple[object, Callable[[list[Manifest]], object], object, object]] = {
    "image.registry": ("r.example.com:5000", _image, "betting:{version}", "r.example.com:5000/betting:{version}"),
    "image.repository": ("mine/betting", _image, "betting:{version}", "mine/betting:{version}"),
    "image.tag": ("7", _image, "betting:{version}", "betting:7"),
    "image.digest": (DIGEST, _image, "betting:{version}", f"betting@{DIGEST}"),
    "image.pullPolicy": ("Always", lambda found: _container(found)["imagePullPolicy"], "IfNotPresent", "Always"),
    "image.pullSecrets": (["a", "b"], _pull_secrets, ([], ""), (["a", "b"], "a,b")),
    "replicas": (3, lambda found: _one(found, "Deployment")["spec"]["replicas"], 2, 3),
    "resources.cpu": ("1", lambda found: _container(found)["resources"]["requests"]["cpu"], "50m", "1"),
    "resources.memory": ("1Gi", lambda found: _container(found)["resources"]["requests"]["memory"], "192Mi", "1Gi"),
    "resources.memoryLimit": ("2Gi", lambda found: _container(found)["resources"]["limits"]["memory"], "768Mi", "2Gi"),
    "logLevel": ("debug", lambda found: _environment(found)["OPERATOR_LOG_LEVEL"], "info", "debug"),
    "metrics.scrapeFrom": (
        [{"namespaceSelector": {"matchLabels": {"a": "b"}}}],
        lambda found: _one(found, "NetworkPolicy")["spec"]["ingress"][1:],
        [],
        [
            {
                "from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}],
                "ports": [{"protocol": "TCP", "port": 8081}, {"protocol": "TCP", "port": 7102}],
            }
        ],
    ),
    "monitoring.enabled": (
        False,
        lambda found: sorted(each["kind"] for each in _monitoring(found)),
        ["PodMonitor", "PodMonitor", "PodMonitor", "PrometheusRule"],
        [],
    ),
    "monitoring.labels": (
        {"release": "prometheus"},
        lambda found: [each["metadata"]["labels"].get("release") for each in _monitoring(found)],
        [None] * 4,
        ["prometheus"] * 4,
    ),
    "monitoring.runbookBaseUrl": (
        "https://git.example.com/betting",
        lambda found: _alert(found, "BettingDatabaseAway")["annotations"]["runbook_url"],
        "docs/runbooks/database-away.md",
        "https://git.example.com/betting/docs/runbooks/database-away.md",
    ),
    "monitoring.drillOverdueDays": (
        30,
        lambda found: _alert(found, "BettingDrillOverdue")["expr"].rpartition(" > ")[2],
        "691200",
        "2592000",
    ),
    "crds.install": (
        False,
        lambda found: sorted(e["metadata"]["name"] for e in found if e["kind"] == "CustomResourceDefinition"),
        CRDS,
        [],
    ),
    "serviceAccount.annotations": (
        {"a": "b"},
        lambda found: _one(found, "ServiceAccount")["metadata"].get("annotations"),
        None,
        {"a": "b"},
    ),
    **{
        f"access.{role}": (
            [{"kind": "Group", "name": "on-call"}, {"kind": "ServiceAccount", "name": "bot"}],
            lambda found, role=role: [
                (each["kind"], each["name"], each.get("namespace"))
                for binding in found
                if binding["kind"] == "RoleBinding" and binding["roleRef"]["name"] == f"betting-{role}"
                for each in binding["subjects"]
            ],
            [],
            [("Group", "on-call", None), ("ServiceAccount", "bot", "betting")],
        )
        for role in ("view", "operate", "approve")
    },
    "nodeSelector": ({"a": "b"}, lambda found: _pod(found).get("nodeSelector"), None, {"a": "b"}),
    "tolerations": (
        [{"key": "a", "operator": "Exists"}],
        lambda found: _pod(found)["tolerations"][2:],
        [],
        [{"key": "a", "operator": "Exists"}],
    ),
    "priorityClassName": ("high", lambda found: _pod(found).get("priorityClassName"), None, "high"),
    "podAnnotations": (
        {"a": "b"},
        lambda found: _one(found, "Deployment")["spec"]["template"]["metadata"].get("annotations"),
        None,
        {"a": "b"},
    ),
}
# Values that are maps of the user's own keys.
FREE = {"serviceAccount.annotations", "monitoring.labels", "nodeSelector", "podAnnotations"}


def _leaves(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, value in values.items():
        here = f"{path}{name}"
        if isinstance(value, dict) and here not in FREE:
            yield from _leaves(value, f"{here}.")
        else:
            yield here


def test_every_value_is_tested_here_documented_and_known_to_the_schema() -> None:
    page = (ROOT / "docs" / "operator" / "install.md").read_text()
    assert [name for name in VALUES if f"`{name}`" not in page] == []
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(_leaves(values)) == set(VALUES)
    schema = json.loads((CHART / "values.schema.json").read_text())
    for path in VALUES:
        node = schema
        for name in path.split("."):
            assert node["additionalProperties"] is False
            node = node["properties"][name]


@pytest.mark.parametrize("name", VALUES)
def test_a_value_changes_what_it_says(chart: Chart, name: str) -> None:
    value, shown, before, after = VALUES[name]
    assert shown(chart("betting", *_with_monitoring(name))) == _with_version(before)
    changed = _with_monitoring(name, "--set-json", f"{name}={json.dumps(value)}")
    assert shown(chart("betting", *changed)) == _with_version(after)


def _with_monitoring(name: str, *arguments: str) -> tuple[str, ...]:
    """The arguments, and what it takes to see a value of monitoring."""
    shown = (
        ("--set-json", "monitoring.enabled=true", "--api-versions", MONITORING)
        if name.startswith("monitoring.")
        else ()
    )
    return (*shown, *arguments)


def test_monitoring_is_refused_where_nobody_knows_its_kinds(chart: Chart) -> None:
    """Without it nobody would be alerted, and nobody would notice."""
    with pytest.raises(subprocess.CalledProcessError) as refused:
        chart("betting", "--set", "monitoring.enabled=true")
    assert (
        f"monitoring.enabled: this cluster has no {MONITORING}. Install the Prometheus Operator" in refused.value.stderr
    )


def test_the_alerts_of_the_chart_are_those_of_its_file_about_its_namespace(chart: Chart) -> None:
    """The definitions of the Prometheus Operator are not here: of the object, what it cannot do without."""
    [rule] = [each for each in chart("mine", *_with_monitoring("monitoring.")) if each["kind"] == "PrometheusRule"]
    assert rule["apiVersion"] == MONITORING
    assert rule["metadata"]["name"] == "betting-alerts"
    written = yaml.safe_load((CHART / "rules" / "alerts.yaml").read_text("utf-8"))
    text = json.dumps(written).replace("NAMESPACE", "mine").replace("RUNBOOKS/", "")
    assert rule["spec"] == json.loads(text.replace("DRILL_OVERDUE_SECONDS", "691200"))
    for group in rule["spec"]["groups"]:
        assert set(group) == {"name", "rules"}
        for each in group["rules"]:
            assert set(each) - {"for"} == {"alert", "expr", "labels", "annotations"}
            assert all(isinstance(value, str) for value in (*each["labels"].values(), *each["annotations"].values()))


def _with_version(expected: object) -> object:
    return expected.replace("{version}", version()) if isinstance(expected, str) else expected


REFUSED: list[tuple[str, object, str]] = [
    ("image.registry", "https://r.example.com", "/image/registry"),
    ("image.repository", "Betting", "/image/repository"),
    ("image.repository", "", "/image/repository"),
    ("image.tag", "a b", "/image/tag"),
    ("image.tag", 1, "/image/tag"),
    ("image.digest", "sha256:abc", "/image/digest"),
    ("image.pullPolicy", "Sometimes", "/image/pullPolicy"),
    ("image.pullSecrets", "one", "/image/pullSecrets"),
    ("image.pullSecrets", [""], "/image/pullSecrets/0"),
    ("image.registery", "r.example.com", "'registery' not allowed"),
    ("replicas", 0, "/replicas"),
    ("replicas", 6, "/replicas"),
    ("replicas", "two", "/replicas"),
    ("resources.cpu", "lots", "/resources/cpu"),
    ("resources.memory", "1 Gi", "/resources/memory"),
    ("resources.memoryLimit", True, "/resources/memoryLimit"),
    ("resources.cpuLimit", "1", "'cpuLimit' not allowed"),
    ("logLevel", "loud", "/logLevel"),
    ("metrics.scrapeFrom", {"namespaceSelector": {}}, "/metrics/scrapeFrom"),
    ("metrics.scrapeFrom", [{}], "/metrics/scrapeFrom/0"),
    ("metrics.scrapeFrom", [{"namespace": "monitoring"}], "'namespace' not allowed"),
    ("metrics.scrapeFrom", [{"podSelector": {"app": "a"}}], "'app' not allowed"),
    ("metrics.scrapeFrom", [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}], "/metrics/scrapeFrom/0"),
    ("metrics.from", [], "'from' not allowed"),
    ("monitoring.enabled", "yes", "/monitoring/enabled"),
    ("monitoring.labels", {"release": 1}, "/monitoring/labels/release"),
    ("monitoring.runbookBaseUrl", "git.example.com", "/monitoring/runbookBaseUrl"),
    ("monitoring.runbookBaseUrl", "https://git.example.com/", "/monitoring/runbookBaseUrl"),
    ("monitoring.drillOverdueDays", 0, "/monitoring/drillOverdueDays"),
    ("monitoring.interval", "30s", "'interval' not allowed"),
    ("crds.install", "perhaps", "/crds/install"),
    ("serviceAccount.annotations", {"a": 1}, "/serviceAccount/annotations/a"),
    ("access.view", {"kind": "User", "name": "a"}, "/access/view"),
    ("access.operate", [{"kind": "Robot", "name": "a"}], "/access/operate/0/kind"),
    ("access.approve", [{"kind": "User"}], "/access/approve/0"),
    ("access.own", [], "'own' not allowed"),
    ("nodeSelector", {"a": True}, "/nodeSelector/a"),
    ("tolerations", ["a"], "/tolerations/0"),
    ("priorityClassName", 7, "/priorityClassName"),
    ("podAnnotations", {"a": 1}, "/podAnnotations/a"),
    ("replica", 2, "'replica' not allowed"),
]


@pytest.mark.parametrize(("name", "value", "place"), REFUSED, ids=[f"{name}={value}" for name, value, _ in REFUSED])
def test_a_wrong_value_is_refused_and_named(chart: Chart, name: str, value: object, place: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        chart("betting", "--set-json", f"{name}={json.dumps(value)}")
    assert place in refused.value.stderr


def test_each_value_has_a_wrong_one_that_is_refused() -> None:
    assert set(VALUES) <= {name for name, _value, _place in REFUSED}


def test_tag_and_digest_exclude_each_other(chart: Chart) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        chart("betting", "--set-string", f"image.tag=1,image.digest={DIGEST}")
    assert "image.tag and image.digest are both given: leave one of them empty" in refused.value.stderr


def test_helm_lint_finds_nothing(helm: str) -> None:
    """Also as strict as it can be."""
    subprocess.run([helm, "lint", "--strict", "--quiet", str(CHART)], check=True, stdout=subprocess.PIPE)


def test_the_chart_is_of_the_version_of_the_code() -> None:
    """appVersion is the tag of the image where no other one is given."""
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert about["appVersion"] == version()


def test_the_list_of_images_is_all_that_operator_and_platforms_run(chart: Chart) -> None:
    """A site without the Internet copies what this annotation lists."""
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    listed = {each["image"] for each in yaml.safe_load(about["annotations"]["artifacthub.io/images"])}
    used = {_image(chart("betting"))}
    for file in ("platform.yaml", "production.yaml"):
        platform = parse(platforms.example(file), platforms.OWN_IMAGE)
        for each in wanted(platform, existing={}, hashes={}, primary="", new_password=lambda: "ab" * 32):
            for container in each.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ()):
                used.add("betting:" + version() if container["image"] == platforms.OWN_IMAGE.reference else "other")
    assert used == listed


def test_every_manifest_is_accepted_where_pod_security_is_restricted(
    kube_api: KubeApi, chart: Chart, restricted: str
) -> None:
    """In a dry run with field validation; the pods themselves too, as a Deployment is only warned about."""
    arguments = ["--set", "image.pullSecrets={one},priorityClassName=,nodeSelector.a=b,podAnnotations.a=b"]
    arguments += ["--set-json", 'access.operate=[{"kind":"User","name":"a"},{"kind":"ServiceAccount","name":"b"}]']
    arguments += ["--set-json", 'metrics.scrapeFrom=[{"podSelector":{"matchLabels":{"a":"b"}}}]']
    manifests = chart(restricted, *arguments)
    assert len(manifests) >= 7
    for each in manifests:
        kube_api.request(
            "PATCH",
            f"{_path(each)}?dryRun=All&fieldManager=helm&fieldValidation=Strict&force=true",
            each,
            "application/apply-patch+yaml",
        )
    kube_api.apply(_path(_one(manifests, "ServiceAccount")), _one(manifests, "ServiceAccount"))
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator"}, "spec": _pod(manifests)}
    assert all(each["emptyDir"]["sizeLimit"] for each in pod["spec"]["volumes"])
    kube_api.request("POST", f"/api/v1/namespaces/{restricted}/pods?dryRun=All&fieldValidation=Strict", pod)


def _path(manifest: Manifest) -> str:
    api_version, metadata = manifest["apiVersion"], manifest["metadata"]
    plural = {"NetworkPolicy": "networkpolicies"}.get(manifest["kind"], manifest["kind"].lower() + "s")
    return Resource(api_version, manifest["kind"], plural).path(metadata.get("namespace"), metadata["name"])


# What the code asks the API server for, by its modules: the reconciler and watches, the healer's port, the elector.
_MADE = ("get", "list", "watch", "create", "patch", "delete")
RIGHTS = {
    **dict.fromkeys(KINDS.values(), _MADE),
    PODS: ("get", "list", "watch", "create", "patch", "delete"),
    Resource("v1", "Pod", "pods/eviction"): ("create",),
    KINDS["Secret"]: ("get", "list", "watch", "create", "patch"),
    PLATFORMS: ("get", "list", "watch"),
    Resource(PLATFORMS.api_version, PLATFORMS.kind, f"{PLATFORMS.plural}/status"): ("patch",),
    Resource(PLATFORMS.api_version, PLATFORMS.kind, f"{PLATFORMS.plural}/scale"): ("patch",),
    Resource(PLATFORMS.api_version, PLATFORMS.kind, f"{PLATFORMS.plural}/finalizers"): ("update",),
    REPLICA_SETS: ("list",),
    EVENTS: ("get", "list", "create", "patch"),
    HEALING_ACTIONS: ("get", "list", "create", "patch", "delete"),
    REBALANCES: ("list", "watch", "create", "delete"),
    Resource(REBALANCES.api_version, REBALANCES.kind, f"{REBALANCES.plural}/status"): ("patch",),
    LEASES: ("get", "create", "update"),
}


def test_the_role_has_the_rights_that_the_code_uses_and_no_others(chart: Chart) -> None:
    """In the operator's namespace only. tests/kubernetes/test_reconciler.py runs the reconciler with just these."""
    manifests = chart("betting")
    granted = {
        (group, resource, verb)
        for rule in _one(manifests, "Role")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    used = {
        (resource.api_version.rpartition("/")[0], resource.plural, verb)
        for resource, verbs in RIGHTS.items()
        for verb in verbs
    }
    assert granted == used
    kinds = {each["kind"] for each in manifests}
    assert not {kind for kind in kinds if kind.startswith("Cluster")}
