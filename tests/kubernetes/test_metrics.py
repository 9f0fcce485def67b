"""What docs and chart say to Prometheus finds everything that serves metrics."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden_manifests
import platforms
import yaml

from betting_operator.kubernetes.manifests import LEADER_LABEL, NAME_LABEL
from betting_operator.kubernetes.spec import parse
from betting_operator.kubernetes.workloads import OPERATOR, PROCESSES

ROOT = Path(__file__).resolve().parents[2]
Chart = Callable[..., list[dict[str, Any]]]
Scraped = set[tuple[str, str, int]]


def _scraped(chart: Chart, picks: Callable[[dict[str, str], str], bool]) -> Scraped:
    """Workload, leader or not, and port, of what is picked by a pod's labels and a port's name."""
    operator = next(each for each in chart("betting") if each["kind"] == "Deployment")
    templates = [operator["spec"]["template"]] * 2
    for each in golden_manifests.manifests(parse(golden_manifests.resource("managed"), platforms.OWN_IMAGE)):
        if "template" in each.get("spec", {}):
            templates.append(each["spec"]["template"])
    found = set()
    for number, template in enumerate(templates):
        labels = template["metadata"]["labels"] | ({LEADER_LABEL: "true"} if number == 0 else {})
        for port in template["spec"]["containers"][0].get("ports", ()):
            if picks(labels, port["name"]):
                found.add((labels[NAME_LABEL], labels.get(LEADER_LABEL, ""), port["containerPort"]))
    return found


EXPECTED: Scraped = {
    *((each.name, "", 7102) for each in PROCESSES),
    (OPERATOR, "true", 8081),
    (OPERATOR, "", 8081),
    (OPERATOR, "true", 7102),
}


def test_the_monitors_of_the_chart_find_all_that_serves_metrics_and_nothing_else(chart: Chart) -> None:
    """The healer only where the operator leads: a standby has none, and would be shown as down."""
    manifests = chart("betting", "--set", "monitoring.enabled=true", "--api-versions", "monitoring.coreos.com/v1")
    monitors = [each for each in manifests if each["kind"] == "PodMonitor"]
    assert {each["metadata"]["namespace"] for each in monitors} == {"betting"}, "each reads its own namespace"

    def picks(labels: dict[str, str], port: str) -> bool:
        return any(
            monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
            and port in {each["port"] for each in monitor["spec"]["podMetricsEndpoints"]}
            for monitor in monitors
        )

    assert _scraped(chart, picks) == EXPECTED


def test_the_scrape_configuration_of_the_page_finds_the_same(chart: Chart) -> None:
    """Evaluated as Prometheus does: the values joined by a semicolon, the whole of it against the expression."""
    page = (ROOT / "docs" / "operator" / "metrics.md").read_text("utf-8")
    [configuration] = re.findall(r"^```yaml\n(scrape_configs:.*?)^```", page, re.MULTILINE | re.DOTALL)
    [job] = yaml.safe_load(configuration)["scrape_configs"]
    [keep] = [each for each in job["relabel_configs"] if each.get("action") == "keep"]

    def picks(labels: dict[str, str], port: str) -> bool:
        meta = {f"__meta_kubernetes_pod_label_{re.sub('[^A-Za-z0-9_]', '_', k)}": v for k, v in labels.items()}
        meta["__meta_kubernetes_pod_container_port_name"] = port
        return bool(re.fullmatch(keep["regex"], ";".join(meta.get(name, "") for name in keep["source_labels"])))

    assert _scraped(chart, picks) == EXPECTED
