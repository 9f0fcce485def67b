"""The GitHub Actions workflow calls what is there: it is not run by these tests, so this is all that is known of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"


def _workflow() -> dict[str, Any]:
    # `on` is a boolean in YAML 1.1
    found: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    return found


def _steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in _workflow()["jobs"].items():
        for step in job["steps"]:
            yield name, step


def test_every_job_is_bounded_and_checks_the_repository_out_first() -> None:
    workflow = _workflow()
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 120, name
        assert job["steps"][0]["uses"].startswith("actions/checkout@"), name


def test_every_step_runs_a_command_or_a_pinned_action() -> None:
    for name, step in _steps():
        assert ("run" in step) != ("uses" in step), name
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w./-]+@v\d+(\.\d+)*", step["uses"]), step["uses"]


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    called = {target for _name, step in _steps() for target in re.findall(r"\bmake ([a-z0-9-]+)", step.get("run", ""))}
    assert {"lint", "test", "test-kubernetes", "e2e-core"} <= called
    assert called - targets == set()


def test_the_files_that_it_names_exist() -> None:
    for name, step in _steps():
        for setting in ("cache-dependency-path", "go-version-file"):
            if pattern := step.get("with", {}).get(setting):
                assert list(ROOT.glob(pattern)), (name, pattern)
