"""Addresses of services: one, several, or a name."""

from __future__ import annotations

import pytest

from betting.runtime.channels import client_options, target_of
from betting.runtime.errors import ConfigurationError


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("127.0.0.1:7105", "127.0.0.1:7105"),
        ("odds-service:7105", "odds-service:7105"),
        ("dns:///odds-service.betting.svc:7105", "dns:///odds-service.betting.svc:7105"),
        ("10.0.0.1:7105,10.0.0.2:7105", "ipv4:10.0.0.1:7105,10.0.0.2:7105"),
        (" 10.0.0.1:7105, 10.0.0.2:7105,", "ipv4:10.0.0.1:7105,10.0.0.2:7105"),
        ("[::1]:1,[fd00::2]:2", "ipv6:[::1]:1,[fd00::2]:2"),
    ],
)
def test_an_address_may_be_several(address: str, target: str) -> None:
    """A list becomes gRPC's own form of one; everything else is handed on."""
    assert target_of(address) == target


@pytest.mark.parametrize("address", ["a:1,b:2", "10.0.0.1:1,odds:2", "10.0.0.1:1,[::1]:1", "10.0.0.1,10.0.0.2", ","])
def test_a_list_holds_ip_addresses(address: str) -> None:
    """gRPC resolves one name, not a list of them: said at the start, with what to do."""
    with pytest.raises(ConfigurationError, match="one DNS name that resolves to all"):
        target_of(address)


def test_dns_is_asked_again_within_a_second() -> None:
    """An instance that came back elsewhere is found soon."""
    assert ("grpc.dns_min_time_between_resolutions_ms", 1000) in client_options(1)
