"""What the cluster asks of a machine, and what it never does to it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
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


def test_everything_missing_is_said_at_once_with_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(host, "CNI_FOLDERS", (tmp_path,))
    lines = host.missing(needs_go=True)
    for name in ("containerd", "runc", "iptables", "ipset", "conntrack", "openssl", "Go ", "CNI plugins"):
        assert any(name in line for line in lines), name
    (command,) = (line for line in lines if "apt-get" in line)
    assert command.split("--yes ")[1].split() == [
        *("conntrack", "containerd", "containernetworking-plugins", "iproute2", "ipset", "iptables"),
        *("mount", "openssl", "runc", "util-linux"),
    ]


def test_go_is_asked_for_only_where_something_must_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not any("Go " in line for line in host.missing(needs_go=False))


def test_administrators_programs_are_found_where_path_leaves_them_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    host.find_programs()
    assert "/usr/sbin" in os.environ["PATH"].split(os.pathsep)
