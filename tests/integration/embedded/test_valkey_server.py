"""The embedded Valkey: password, replication, and nothing left after a kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import ValkeyServer


def test_a_replica_follows_its_primary_and_refuses_writes(
    tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    """WAIT sees the replica acknowledge; the replica has the value and is read-only."""
    first, second = unused_tcp_port_factory(), unused_tcp_port_factory()
    primary = ValkeyServer(tmp_path / "primary", first)
    password = tmp_path / "primary/password"
    replica = ValkeyServer(tmp_path / "replica", second, replica_of_port=first, password_file=password)
    try:
        primary.start()
        replica.start()
        with redis.Redis.from_url(primary.spec.url()) as client, redis.Redis.from_url(replica.spec.url()) as other:
            client.set("stake", "100")
            assert client.wait(1, 5_000) == 1
            assert other.get("stake") == b"100"
            with pytest.raises(redis.ReadOnlyError):
                other.set("stake", "1")
    finally:
        replica.stop()
        primary.stop()


def test_valkey_wants_its_password_and_never_evicts(valkey: Any) -> None:
    """No entry without the password; a full memory refuses writes instead of forgetting sessions."""
    with redis.Redis.from_url(valkey.url) as client:
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert client.dbsize() == 0
    with (
        redis.Redis(port=valkey.server.spec.port, retry=Retry(NoBackoff(), 0)) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()


def test_a_replica_that_starts_anew_is_empty(tmp_path: Path, unused_tcp_port_factory: Callable[[], int]) -> None:
    """The file of its last synchronisation is not taken for its data: it may be older than anything."""
    first, second = unused_tcp_port_factory(), unused_tcp_port_factory()
    primary = ValkeyServer(tmp_path / "primary", first)
    replica = ValkeyServer(
        tmp_path / "replica", second, replica_of_port=first, password_file=primary.spec.password_file
    )
    try:
        primary.start()
        with redis.Redis.from_url(primary.spec.url()) as client:
            client.set("stake", "100")
            replica.start()
            assert client.wait(1, 10_000) == 1
        primary.stop()
        replica.stop()
        replica.start()
        with redis.Redis.from_url(replica.spec.url()) as other:
            assert other.dbsize() == 0
    finally:
        replica.stop()
        primary.stop()
