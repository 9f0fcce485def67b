"""Ports that are held: the system gives them to nobody else, and our servers can listen there."""

from __future__ import annotations

import socket
import sys

import pytest

from betting.embedded import ports_plan
from betting.embedded.ports import HOST, held_ports, is_free

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets others listen on a port that is held")


def test_nobody_else_gets_a_held_port() -> None:
    """It refuses connections, as long as no server listens; afterwards it is free."""
    with held_ports(1) as [port]:
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind((HOST, port))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, port))
    with socket.socket() as stranger:
        stranger.bind((HOST, port))


def test_a_server_can_listen_on_a_held_port_again_and_again() -> None:
    """Also right after it ended connections itself, as a process that is started again does."""
    with held_ports(1) as [port]:
        for _ in range(3):
            with socket.create_server((HOST, port)) as server, socket.create_connection((HOST, port)) as client:
                assert not is_free(port)
                accepted, _address = server.accept()
                accepted.close()
                assert client.recv(1) == b""
            assert is_free(port)


def test_two_platforms_that_start_at_once_have_no_port_in_common() -> None:
    """Many start before any of their servers listens."""
    instances = [f"instance-{number}" for number in range(30)]
    taken: list[int] = []
    with ports_plan.held(instances) as first, ports_plan.held(instances) as second, ports_plan.held(instances) as third:
        for ports in (first, second, third):
            taken += ports.values()
    assert len(taken) == len(set(taken)) == 3 * len(ports_plan.fixed(instances))
