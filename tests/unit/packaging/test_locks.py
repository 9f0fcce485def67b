"""The lock for run time: what an image installs. It is part of the development lock and has nothing of development."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def locked(name: str) -> dict[str, str]:
    """Each package and its version."""
    text = (ROOT / name).read_text("utf-8")
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", text, re.MULTILINE))


def named(requirements: list[str]) -> set[str]:
    """The packages of requirement lines."""
    return {re.split(r"[\[>=;<! ]", each, maxsplit=1)[0].lower() for each in requirements}


def test_all_locks_have_the_same_versions() -> None:
    """What is tested is what runs, and what builds here builds the image."""
    assert locked("requirements-run.lock").items() <= locked("requirements.lock").items()
    assert locked("requirements-build.lock").items() <= locked("requirements.lock").items()


def test_the_lock_for_the_build_has_what_builds_the_wheel() -> None:
    """Everything that pyproject.toml asks for."""
    system = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"]
    assert named(system["requires"]) <= locked("requirements-build.lock").keys()


def test_the_lock_for_run_time_has_every_dependency_and_no_tool() -> None:
    """Nothing that only builds, tests or checks."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    runs = locked("requirements-run.lock").keys()
    assert named(project["dependencies"]) <= runs
    assert not named(project["optional-dependencies"]["dev"]) & runs


def test_every_package_has_hashes_and_no_registry_is_named() -> None:
    """An install can require hashes, from whichever registry it uses."""
    for name in ("requirements.lock", "requirements-run.lock"):
        text = (ROOT / name).read_text("utf-8")
        packages = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
        assert all("--hash=sha256:" in each for each in packages)
        assert not re.search(r"^\s*--(index-url|extra-index-url|find-links)|://", text, re.MULTILINE)
