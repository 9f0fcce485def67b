"""The GitHub Actions workflow calls what is there: it is not run by these tests, so this is all that is known of it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
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


@pytest.mark.parametrize(
    ("code", "ends_with", "last"),
    [
        (0, 0, "make e2e-heal-core"),
        (3, 0, "skipped: make e2e-core and e2e-heal-core need a cluster"),
        (1, 1, "make cluster failed with code 1"),
    ],
)
def test_ci_skips_the_cluster_only_where_the_machine_cannot_have_one(
    code: int, ends_with: int, last: str, tmp_path: Path
) -> None:
    """A cluster that does not come up, on a machine that can have one, is a failure."""
    programs = {"make": 'echo "make $*"', "python3": f"exit {code}", "id": "echo 0"} | dict.fromkeys(
        ("go", "apt-get", "dpkg"), "exit 0"
    )
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["bash", str(ROOT / ".ci" / "run")], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == ends_with, done.stderr
    assert done.stdout.splitlines()[-1].startswith(last)
    assert ("make cluster-down" in done.stdout) == (code == 0)
