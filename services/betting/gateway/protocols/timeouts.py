"""How long a caller is willing to wait, as gRPC and Connect write it."""

from __future__ import annotations

import re

from betting.gateway.protocols.failures import malformed

# gRPC PROTOCOL-HTTP2: at most eight digits and a unit.
_GRPC = re.compile(r"([0-9]{1,8})([HMSmun])", re.ASCII)
_UNIT_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
# Connect: at most ten digits, milliseconds.
_CONNECT = re.compile(r"[0-9]{1,10}", re.ASCII)


def grpc_timeout_s(value: str | None) -> float | None:
    """Seconds in a grpc-timeout header; None when there is none."""
    if value is None:
        return None
    match = _GRPC.fullmatch(value)
    if match is None:
        raise malformed("TIMEOUT", f"grpc-timeout {value[:20]!r} is not one to eight digits and one of H M S m u n")
    return int(match[1]) * _UNIT_S[match[2]]


def connect_timeout_s(value: str | None) -> float | None:
    """Seconds in a Connect-Timeout-Ms header; None when there is none."""
    if value is None:
        return None
    if _CONNECT.fullmatch(value) is None:
        raise malformed("TIMEOUT", f"Connect-Timeout-Ms {value[:20]!r} is not one to ten digits (milliseconds)")
    return int(value) / 1000
