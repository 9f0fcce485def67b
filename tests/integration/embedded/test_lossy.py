"""The path that loses packets, of the quiet runs: it leads here, and nothing of it stays."""

from __future__ import annotations

import socket
import subprocess

import pytest

from betting.embedded import lossy

pytestmark = pytest.mark.skipif(not lossy.is_possible(), reason="needs root and iptables with nat and statistic")


def rules() -> str:
    """Ours, as the kernel has them."""
    tables = [subprocess.run(["iptables", "-w", "-t", each, "-S"], capture_output=True, text=True, check=True).stdout
              for each in ("nat", "mangle")]  # fmt: skip
    return "\n".join(line for table in tables for line in table.splitlines() if "betting-quiet" in line)


def test_the_path_leads_here_loses_packets_when_told_and_goes_away() -> None:
    """Also what a run that was killed has left goes with the next one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        lossy._add(lossy._LOSE)  # left over
        with lossy.path() as host:
            assert "statistic" not in rules()
            socket.create_connection((host, port), timeout=5).close()
            with lossy.losing():
                assert "statistic" in rules()
            assert "statistic" not in rules()
    assert not rules()
