"""What counts as one address where people are told apart by theirs."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final

# Whoever has one IPv6 address usually has its whole /64. An IPv4 address is a network by itself: many people share one
# already, and a wider one would make strangers answer for each other.
_IPV6_INTERFACE_BITS: Final = 64


def network_of(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 that an IPv6 host usually has to itself.

    An IPv4 address inside an IPv6 one (::ffff:a.b.c.d) is that address; anything that is no address stays as it is.
    """
    return _network_of(address) if ":" in address else address


@lru_cache(maxsize=10_000)
def _network_of(address: str) -> str:
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    first = int(parsed) >> _IPV6_INTERFACE_BITS << _IPV6_INTERFACE_BITS
    return str(ipaddress.IPv6Network((first, 128 - _IPV6_INTERFACE_BITS)))
