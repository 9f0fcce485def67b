"""gRPC channels and their options: matching keepalive on both ends, quick reconnects, no proxies."""

from __future__ import annotations

import json
import re
from typing import Any

import grpc

from betting.runtime.errors import ConfigurationError

KEEPALIVE_TIME_MS = 10_000
KEEPALIVE_TIMEOUT_MS = 3_000
# A restarted service must be found again well inside the two seconds its recovery may take.
RECONNECT_MIN_MS = 50
RECONNECT_MAX_MS = 1_000
CONNECT_TIMEOUT_MS = 2_000
# After a lost connection DNS is asked again this soon (gRPC's default is 30 s): instances come back elsewhere.
RESOLVE_AGAIN_MS = 1_000
# A look-up that takes longer is given up and made anew, from another socket. Where one of two name servers is on a lost
# node, a balancer sends all questions of one socket to the same one (kubernetes/kubeadm#2862), so that repeating them,
# which gRPC's resolver does for seconds, is of no use. What was found before stays in use meanwhile.
LOOK_UP_MS = 1_000
# A client asks DNS again only when a connection ends. Without an age a client that was told of a standby alone would
# never hear of the active instance, nor of instances added later. Calls and streams in flight go on as long as they
# need (gRPC's default grace): https://grpc.github.io/grpc/core/md_doc_keepalive.html and proposal A9.
CONNECTION_AGE_MAX_MS = 15_000
METADATA_BYTES_MAX = 16 * 1024

Options = list[tuple[str, Any]]

_LISTED = {
    "ipv4": re.compile(r"\d{1,3}(\.\d{1,3}){3}:\d{1,5}", re.ASCII),
    "ipv6": re.compile(r"\[[0-9a-fA-F:.]+\]:\d{1,5}", re.ASCII),
}


def client_options(max_message_bytes: int, *, serving_only: bool = False) -> Options:
    """Options of a channel to one of our services. With several addresses behind a name, calls go round.

    `serving_only`: an address is called only while its health says SERVING.
    """
    service_config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if serving_only:
        service_config["healthCheckConfig"] = {"serviceName": ""}
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_MIN_MS),
        ("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_MS),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_MAX_MS),
        ("grpc.dns_min_time_between_resolutions_ms", RESOLVE_AGAIN_MS),
        ("grpc.dns_ares_query_timeout", LOOK_UP_MS),
        ("grpc.enable_http_proxy", 0),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.service_config", json.dumps(service_config)),
        ("grpc.use_local_subchannel_pool", 1),
    ]


def server_options(max_message_bytes: int) -> Options:
    """Options of our server: one owner per port, bounded messages and headers, pings as often as our clients send.

    A connection is told to end after CONNECTION_AGE_MAX_MS, give or take a tenth; what is in flight on it goes on.
    """
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_connection_age_ms", CONNECTION_AGE_MAX_MS),
        ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_TIME_MS // 2),
    ]


def open_channel(address: str, max_message_bytes: int, *, serving_only: bool = False) -> grpc.aio.Channel:
    """A channel to one address or several, see `target_of`; it connects when first used, in the running event loop."""
    options = client_options(max_message_bytes, serving_only=serving_only)
    return grpc.aio.insecure_channel(target_of(address), options=options)


def target_of(address: str) -> str:
    """gRPC's name of a target. An address is one of these:

    - "host:port"; a host name may stand for several addresses.
    - Several IP addresses of one family, each with its port, separated by commas.
    - Any name that gRPC knows, as it is.

    Raises ConfigurationError for a list of anything else.
    """
    if "," not in address:
        return address
    parts = [part for each in address.split(",") if (part := each.strip())]
    for scheme, pattern in _LISTED.items():
        if parts and all(map(pattern.fullmatch, parts)):
            return f"{scheme}:{','.join(parts)}"
    raise ConfigurationError(
        f"{address!r}: in a list give IP addresses with ports, such as 10.0.0.1:7105,10.0.0.2:7105,"
        " or one DNS name that resolves to all of them"
    )
