"""What the operator makes of a few platforms is what was read and found right (tests/golden/kubernetes)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import golden_manifests
import platforms
import pytest
import yaml

from betting_operator.kubernetes import drill_values
from betting_operator.kubernetes.schema import spec_schema

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", golden_manifests.INPUTS)
def test_the_manifests_are_those_that_were_read(name: str) -> None:
    """After a change that is meant: `make golden-manifests`, and read the difference."""
    assert golden_manifests.path(name).read_text("utf-8") == golden_manifests.rendered(name)


def test_every_field_of_the_resource_is_given_in_one_of_them() -> None:
    """A field that nobody sets could change nothing, and no golden file would show it."""
    given: set[str] = set()
    for name in golden_manifests.INPUTS:
        given |= set(_given(golden_manifests.resource(name)["spec"], spec_schema()))
    assert set(_fields(spec_schema())) - given == set()


def test_every_example_of_a_platform_is_one_of_them() -> None:
    """So the API server and the operator accept it too: tests/kubernetes/test_manifests.py."""
    files = platforms.EXAMPLES.glob("*.yaml")
    found = {file for file in files if "kind: BettingPlatform" in file.read_text("utf-8").splitlines()}
    assert len(found) >= 2
    assert found <= set(golden_manifests.INPUTS.values())


def test_drills_of_the_production_example_come_round_before_the_alert_says_they_are_overdue() -> None:
    wanted = drill_values.parse(platforms.example("production.yaml"))
    assert wanted is not None
    assert wanted.every_s == 24 * 3_600
    days_a_week = len({day for window in wanted.windows for day in window.days})
    values = yaml.safe_load((ROOT / "charts" / "betting-platform" / "values.yaml").read_text("utf-8"))
    assert len(wanted.objectives) * 7 / days_a_week < values["monitoring"]["drillOverdueDays"]


def _fields(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        yield path + name
        yield from _fields(field, f"{path}{name}.")


def _given(spec: Mapping[str, Any], schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, value in spec.items():
        field = schema["properties"][name]
        yield path + name
        if "properties" in field:
            yield from _given(value, field, f"{path}{name}.")
