"""What the cluster asks of a machine, and what it never does to it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from minicluster import host


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is no part of a cluster."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def test_a_process_that_is_not_in_the_clusters_groups_is_never_signalled(bystander: subprocess.Popen[bytes]) -> None:
    """An id that was noted for the cluster's may be another process's by now."""
    host.send(signal.SIGKILL, [bystander.pid])
    with pytest.raises(subprocess.TimeoutExpired):
        bystander.wait(0.5)


def test_a_process_that_has_gone_is_passed_over() -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    host.send(signal.SIGKILL, [process.pid])


def test_processes_are_found_while_other_groups_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the groups of a container do whose process has just been killed."""
    monkeypatch.setattr(host, "trees", lambda: [tmp_path])
    pods = tmp_path / host.NAME / "n1-pods"
    (pods / "kept").mkdir(parents=True)
    (pods / "kept" / "cgroup.procs").write_text("7\n8\n", "utf-8")
    done = threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            (pods / "passing" / "container").mkdir(parents=True)
            shutil.rmtree(pods / "passing")

    with ThreadPoolExecutor(1) as others:
        coming = others.submit(come_and_go)
        try:
            found = [host.members("n1-pods") for _ in range(1000)]
        finally:
            done.set()
        coming.result()
    assert all(each == {7, 8} for each in found)


def test_everything_missing_is_said_at_once_with_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(host, "CNI_FOLDERS", (tmp_path,))
    lines = host.missing(["kubelet"])
    for name in ("containerd", "runc", "iptables", "ipset", "conntrack", "openssl", "Go ", "CNI plugins"):
        assert any(name in line for line in lines), name
    (command,) = (line for line in lines if "apt-get" in line)
    assert command.split("--yes ")[1].split() == [
        *("conntrack", "containerd", "containernetworking-plugins", "iproute2", "ipset", "iptables"),
        *("mount", "openssl", "runc", "util-linux"),
    ]


def test_go_is_asked_for_only_where_something_must_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not any("Go " in line for line in host.missing([]))


def test_administrators_programs_are_found_where_path_leaves_them_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    host.find_programs()
    assert "/usr/sbin" in os.environ["PATH"].split(os.pathsep)


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(0o755)


def test_what_a_machine_forbids_is_said_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root of a container has all programs, and may not use them."""
    program(tmp_path, "unshare", "echo unshare failed: Operation not permitted >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(host, "trees", lambda: [Path("/proc")])  # nobody makes a folder there
    lines = host.forbidden()
    for what in ("namespaces of network and mounts", "network devices", "packet filters", "control groups of its own"):
        assert any(line.startswith(f"{what}: ") for line in lines), what
    assert "namespaces of network and mounts: unshare failed: Operation not permitted" in lines


def test_an_unfit_machine_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    """CI skips what needs a cluster there, and nowhere else."""
    hack = Path(host.__file__).parents[1]
    up = [sys.executable, str(hack / "cluster.py"), "up", "--engine=minicluster"]
    lacking = {"PATH": str(tmp_path), "BETTING_CACHE": str(tmp_path)}
    done = subprocess.run(up, env=lacking, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "this machine lacks" in done.stderr or "this needs root" in done.stderr
    wrong = subprocess.run([*up, "--nodes=0"], env=lacking, capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stderr) == (1, "error: --nodes 0: from 1 to 9\n")
