"""gRPC channels and their options: matching keepalive on both ends, quick reconnects, no proxies."""

from __future__ import annotations

import json
from typing import Any

import grpc

KEEPALIVE_TIME_MS = 10_000
KEEPALIVE_TIMEOUT_MS = 3_000
# A restarted service must be found again well inside the two seconds its recovery may take.
RECONNECT_MIN_MS = 50
RECONNECT_MAX_MS = 1_000
CONNECT_TIMEOUT_MS = 2_000
METADATA_BYTES_MAX = 16 * 1024

Options = list[tuple[str, Any]]


def client_options(max_message_bytes: int) -> Options:
    """Options of a channel to one of our services. With several addresses behind a name, calls go round."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_MIN_MS),
        ("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_MS),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_MAX_MS),
        ("grpc.enable_http_proxy", 0),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
        ("grpc.use_local_subchannel_pool", 1),
    ]


def server_options(max_message_bytes: int) -> Options:
    """Options of our server: one owner per port, bounded messages and headers, pings as often as our clients send."""
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_TIME_MS // 2),
    ]


def open_channel(address: str, max_message_bytes: int) -> grpc.aio.Channel:
    """A channel to "host:port" (or any gRPC target name); it connects when first used, in the running event loop."""
    return grpc.aio.insecure_channel(address, options=client_options(max_message_bytes))
