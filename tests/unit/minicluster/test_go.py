"""Which Go builds the cluster's programs: said the same wherever it is asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from minicluster import build

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without programs, where nothing was built."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("BETTING_CACHE", str(tmp_path / "cache"))
    return tmp_path


def install_go(machine: Path, version: str, toolchain: str) -> None:
    path = machine / "go"
    path.write_text(f"#!/bin/sh\necho '{version}'\necho '{toolchain}'\n", "utf-8")
    path.chmod(0o755)


def test_the_newest_version_that_a_module_requires_is_needed() -> None:
    assert build.go_needed(["kube-apiserver"]) == "1.24.0"
    assert build.go_needed(build.PROGRAMS) == "1.26.4"


@pytest.mark.usefixtures("machine")
def test_without_go_it_is_said_which_is_wanted_if_something_is_to_be_built() -> None:
    said = "Go 1.26.4 or newer, which builds Kubernetes once: https://go.dev/dl"
    assert build.go_problem(list(build.PROGRAMS)) == said
    assert build.go_problem([]) is None
    with pytest.raises(SystemExit, match=re.escape(f"this machine lacks {said}")):
        build.build(list(build.PROGRAMS))


@pytest.mark.parametrize(
    ("version", "toolchain", "problem"),
    [
        ("go1.26.4", "local", None),
        ("go1.26.8 X:nodwarf5", "local", None),
        ("go1.27rc1", "local", None),
        ("devel +abcdef", "local", None),  # the go command itself will say
        ("go1.26.3", "local", "go1.26.3 is here, and GOTOOLCHAIN=local keeps it from fetching that"),
        ("go1.24.2", "go1.24.2", "GOTOOLCHAIN=go1.24.2 keeps it"),
        ("go1.24.2", "auto", None),
        ("go1.21.0", "go1.21.0+auto", None),
        ("go1.19.8", "", "go1.19.8 is here, which cannot fetch it by itself: https://go.dev/dl"),
    ],
)
def test_an_old_go_is_enough_where_it_fetches_a_newer_one(
    machine: Path, version: str, toolchain: str, problem: str | None
) -> None:
    install_go(machine, version, toolchain)
    found = build.go_problem(["metrics-server"])
    if problem is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith("Go 1.26.4 or newer, which builds Kubernetes once: ")
        assert problem in found


def test_documents_name_the_version_that_is_needed() -> None:
    needed = build.go_needed(build.PROGRAMS)
    for name in ("CONTRIBUTING.md", "README.md", "docs/operator/cluster.md"):
        named = re.findall(r"\bGo (\d[\d.]*\d)", (ROOT / name).read_text("utf-8"))
        assert named, name
        assert set(named) == {needed}, name
