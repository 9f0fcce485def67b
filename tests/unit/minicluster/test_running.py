"""What is done with a cluster that is up already, and with its volumes."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cluster
import pytest
from kind import engine as kind
from minicluster import engine, host, programs, storage
from minicluster import node as nodes
from minicluster.host import ClusterError

ONE = nodes.Node(1)


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """The program's handlers are not those of the tests."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a cluster's state."""
    monkeypatch.setattr(programs, "HTTP_PORT", tmp_path / "http-port")
    monkeypatch.setattr(programs, "BIN", tmp_path)
    monkeypatch.setattr(nodes, "RUN", tmp_path / "run")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return tmp_path


def test_a_cluster_that_is_up_is_not_another_one_silently(state: Path) -> None:
    (state / "http-port").write_text("19000", "utf-8")
    programs.refuse_other(3, None, None)
    programs.refuse_other(3, 3, 19000)
    with pytest.raises(ClusterError, match=r"has 3 nodes, not 5 and port 19000, not 18080: make cluster-down first"):
        programs.refuse_other(3, 5, 18080)
    with pytest.raises(ClusterError, match="has port 19000, not 18080"):
        programs.refuse_other(3, None, 18080)


@pytest.mark.parametrize("of", ["minicluster", "kind"])
def test_up_refuses_what_the_cluster_that_is_up_is_not(
    of: str, state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And prints the port that the cluster has."""
    (state / "http-port").write_text("19000", "utf-8")
    (state / "kubeconfig").touch()
    (state / "nodes.json").write_text("[1, 2, 3]", "utf-8")
    for name, answer in (("docker", ""), ("kind", f"echo {kind.NAME}")):
        (state / name).write_text(f"#!/bin/sh\n{answer}\n", "utf-8")
        (state / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(state), prepend=os.pathsep)
    monkeypatch.setenv("KIND_EXPERIMENTAL_PROVIDER", "")  # the program sets it
    monkeypatch.setattr(engine, "_NODES", state / "nodes.json")
    monkeypatch.setattr(engine, "is_up", lambda: of == "minicluster")
    monkeypatch.setattr(engine, "require_machine", lambda: None)
    monkeypatch.setattr(host, "_LOCK", state / "lock")
    monkeypatch.setattr(host, "MACHINE", state / "machine")
    monkeypatch.setattr(kind, "is_ours", lambda: of == "kind")
    monkeypatch.setattr(kind, "KUBECONFIG", state / "kubeconfig")

    def up(*options: str) -> int:
        monkeypatch.setattr(sys, "argv", ["cluster.py", "up", *options])
        return cluster.main()

    assert up() == 0
    assert "http://127.0.0.1:19000 leads to NodePort" in capsys.readouterr().out
    assert up("--nodes=3", "--http-port=19000") == 0
    assert up("--http-port=19999") == 1
    assert "the cluster that is up has port 19000, not 19999" in capsys.readouterr().err


def test_a_port_that_nobody_noted_is_not_guessed(state: Path) -> None:
    with pytest.raises(ClusterError, match=r"http-port does not say the cluster's port: make cluster-down"):
        programs.http_port()


class Cluster:
    """A kubectl that tells of these volumes and keeps what it was asked."""

    def __init__(self, folder: Path, phases: dict[str, str]) -> None:
        items = [{"metadata": {"name": name}, "status": {"phase": phase}} for name, phase in phases.items()]
        (folder / "volumes.json").write_text(json.dumps({"items": items}), "utf-8")
        self._asked = folder / "asked"
        script = f"""#!/bin/sh
        shift
        case $1 in
        get) cat {folder / "volumes.json"} ;;
        delete) echo "delete $3" >>{self._asked} ;;
        create) cat >>{self._asked}; echo >>{self._asked} ;;
        esac
        """
        (folder / "kubectl").write_text(script, "utf-8")
        (folder / "kubectl").chmod(0o755)

    def changes(self) -> list[str]:
        """Deletions and creations, in order."""
        lines = self._asked.read_text("utf-8").splitlines() if self._asked.exists() else []
        return [f"create {json.loads(line)['metadata']['name']}" if line[0] == "{" else line for line in lines]


def volume_folder(number: int) -> Path:
    return ONE.folder / "kubelet" / "local-volumes" / f"v{number}"


def test_only_the_clusters_own_released_or_missing_volumes_are_offered_again(state: Path) -> None:
    """Somebody else's volume stays; one that an interrupted run deleted and did not create is made."""
    for number in (1, 2, 3, 4):
        volume_folder(number).mkdir(parents=True)
        (volume_folder(number) / "data").touch()
    kubectl = Cluster(state, {"nfs": "Released", "n1-v1": "Released", "n1-v2": "Bound", "n1-v3": "Available"})
    said: list[Any] = []
    storage.clean([ONE], said.append)
    assert kubectl.changes() == ["delete n1-v1", "create n1-v1", "create n1-v4"]
    assert said == ["volume n1-v1 is empty and available", "volume n1-v4 is empty and available"]
    kept = {number: (volume_folder(number) / "data").exists() for number in (1, 2, 3, 4)}
    assert kept == {1: False, 2: True, 3: True, 4: False}


def test_volumes_are_cleaned_by_root_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(host.UnfitMachineError, match="root"):
        storage.clean([ONE], lambda _: None)
