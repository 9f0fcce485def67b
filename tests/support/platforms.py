"""BettingPlatforms for tests of the operator."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import yaml

from betting_operator.kubernetes.manifests import Manifest
from betting_operator.kubernetes.reconcile import Key, Observed, key_of, plan
from betting_operator.kubernetes.spec import Image, Platform, parse

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
OWN_IMAGE = Image("localhost/betting:1.0.0", "IfNotPresent", ())


def resource(namespace: str = "betting", name: str = "demo", **spec: Any) -> dict[str, Any]:
    """A resource as the API server returns it; `spec` are its fields."""
    return {
        "apiVersion": "selfhealing.bet/v1alpha1",
        "kind": "BettingPlatform",
        "metadata": {"namespace": namespace, "name": name, "uid": "3c1f6d3e-0000-4000-8000-000000000001"},
        "spec": spec,
    }


def platform(namespace: str = "betting", name: str = "demo", **spec: Any) -> Platform:
    """The values of `resource`."""
    return parse(resource(namespace, name, **spec), OWN_IMAGE)


def example(file: str, namespace: str = "betting") -> dict[str, Any]:
    """The BettingPlatform of a file in examples/."""
    return read(EXAMPLES / file, namespace)


def read(path: Path, namespace: str = "betting") -> dict[str, Any]:
    """The BettingPlatform of a file, as the API server returns it."""
    found: dict[str, Any] = next(
        each for each in yaml.safe_load_all(path.read_text("utf-8")) if each["kind"] == "BettingPlatform"
    )
    found["metadata"] = {**resource(namespace)["metadata"], **found["metadata"]}
    return found


_passwords = itertools.count(1)


def new_password() -> str:
    """Another one each time."""
    return f"{next(_passwords):064x}"


def live(manifest: Manifest, **status: Any) -> Manifest:
    """An object as it is after it was applied, with the status that controllers give it when all is well."""
    found = copy.deepcopy(manifest)
    found["metadata"] |= {"generation": 1}
    well: dict[str, Any] = {}
    if found["kind"] == "Deployment":
        count = found["spec"].get("replicas", 1)
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        well = {"observedGeneration": 1, **dict.fromkeys(counts, count)}
    if found["kind"] == "StatefulSet":
        well = {"readyReplicas": found["spec"]["replicas"]}
    if found["kind"] == "Job":
        well = {"conditions": [{"type": "Complete", "status": "True"}]}
    found["status"] = well | status
    return found


def settled(wanted: Platform) -> dict[Key, Manifest]:
    """Every object of a platform, applied until nothing waits, all well."""
    objects: dict[Key, Manifest] = {}
    for _round in range(2):
        objects |= {key_of(each): live(each) for each in plan(wanted, Observed(objects), new_password).apply}
    return objects
