"""What the database containers are told, and what they make of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from betting.containers import postgres, redis
from betting.containers.settings import PostgresSettings, RedisSettings
from betting.runtime.errors import ConfigurationError
from betting.runtime.settings import load

PASSWORD = "0123456789abcdef"


def settings_of_redis(**more: object) -> RedisSettings:
    """As from an environment with a password."""
    return RedisSettings.model_validate({"redis_password": PASSWORD, **more})


def test_a_redis_starts_fenced_under_its_boot_id() -> None:
    """A replica of nobody that has its password, keeps nothing and names its life."""
    lines = redis.configuration(settings_of_redis(), "b001d").splitlines()
    assert {"replicaof 127.0.0.1 1", "replica-read-only yes", "availability-zone b001d"} <= set(lines)
    assert {f"requirepass {PASSWORD}", f"primaryauth {PASSWORD}", 'save ""', "appendonly no"} <= set(lines)


def test_a_redis_waits_for_as_many_replicas_as_it_is_told_to() -> None:
    """Alone unless it is told; a replica counts for two seconds after its last word."""
    alone = redis.configuration(settings_of_redis(), "b001d").splitlines()
    assert {"min-replicas-to-write 0", "min-replicas-max-lag 2"} <= set(alone)
    assert "min-replicas-to-write 1" in redis.configuration(settings_of_redis(redis_min_replicas=1), "b").splitlines()


def test_a_redis_that_nobody_heals_starts_as_primary() -> None:
    """It follows nobody; port, folder and memory are those of the settings."""
    told = settings_of_redis(redis_role="primary", redis_port=7000, redis_folder="/else/where", redis_max_memory_mib=64)
    lines = redis.configuration(told, "b001d").splitlines()
    assert not [line for line in lines if line.startswith("replicaof")]
    assert {"port 7000", 'dir "/else/where"', "maxmemory 64mb"} <= set(lines)


def test_postgres_listens_for_everybody_with_a_password() -> None:
    """Every interface, keepalives that end the sessions of a lost node, the database made with the cluster."""
    spec = postgres.spec_of(PostgresSettings.model_validate({"postgres_password": PASSWORD, "postgres_folder": "/x"}))
    assert (spec.folder, spec.port, spec.password, spec.databases) == (Path("/x"), 5432, PASSWORD, ("betting",))
    assert spec.settings["listen_addresses"] == "*"
    assert spec.settings["hba_file"] == Path("/x/access.conf")
    assert spec.settings["tcp_keepalives_idle"] == 5
    assert spec.settings["tcp_user_timeout"] == 10_000
    assert PASSWORD not in repr(spec)


@pytest.mark.parametrize("wrong", ["", "short", "with a space in it", "quote'in-the-password", "x" * 129, "line\n" * 5])
def test_a_password_that_would_need_escapes_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """In a URL, in SQL and in Valkey's configuration it stands as it is. The message names the variable alone."""
    monkeypatch.setenv("BETTING_POSTGRES_PASSWORD", wrong)
    with pytest.raises(
        ConfigurationError, match=r"^BETTING_POSTGRES_PASSWORD is wrong: give 16 to 128 letters"
    ) as error:
        load(PostgresSettings)
    assert not wrong or wrong not in str(error.value)


def test_unknown_and_missing_settings_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """As every process of the platform does it."""
    monkeypatch.setenv("BETTING_REDIS_ROL", "primary")
    monkeypatch.setenv("BETTING_REDIS_PORT", "0")
    with pytest.raises(ConfigurationError) as error:
        load(RedisSettings)
    for part in (
        "BETTING_REDIS_ROL is not a setting",
        "BETTING_REDIS_PASSWORD is not set",
        "BETTING_REDIS_PORT is wrong",
    ):
        assert part in str(error.value)
