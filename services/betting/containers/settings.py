"""The settings of the database containers: environment variables BETTING_*."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from betting.dsn import PASSWORD, PASSWORD_RULE
from betting.runtime.settings import ENVIRONMENT_PREFIX


class ContainerSettings(BaseSettings):
    """What both have in common: how the environment is read, and what a password may be."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    @field_validator("postgres_password", "redis_password", check_fields=False)
    @classmethod
    def _password_needs_no_escapes(cls, value: SecretStr) -> SecretStr:
        if not PASSWORD.fullmatch(value.get_secret_value()):
            raise ValueError(PASSWORD_RULE)
        return value


class PostgresSettings(ContainerSettings):
    """The container `postgres`."""

    # Password of the user `betting`: 16 to 128 letters, digits and characters of . _ ~ - . A changed one is set when
    # the container starts.
    postgres_password: SecretStr
    # Folder of the data, on a volume that the container's user may write.
    postgres_folder: Path = Path("/data")
    # Port, on every interface of the container.
    postgres_port: int = Field(default=5432, ge=1, le=65_535)
    # Number of connections.
    postgres_max_connections: int = Field(default=200, ge=20, le=10_000)


class RedisSettings(ContainerSettings):
    """The container `redis`."""

    # Password of Redis, the same for every node: 16 to 128 letters, digits and characters of . _ ~ - .
    redis_password: SecretStr
    # What a node is when it starts: fenced (it answers, takes no writes and waits to be made primary or a replica), or
    # primary (for a single node that nobody heals).
    redis_role: Literal["fenced", "primary"] = "fenced"
    # As primary it takes a write only while so many replicas have acknowledged within 2 s; 0: it takes writes alone.
    redis_min_replicas: int = Field(default=0, ge=0, le=4)
    # Folder for what a replica is sent; nothing in it outlives a start.
    redis_folder: Path = Path("/tmp/redis")  # noqa: S108  (of the container, where nobody else is)
    # Port, on every interface of the container.
    redis_port: int = Field(default=6379, ge=1, le=65_535)
    # Memory for data.
    redis_max_memory_mib: int = Field(default=512, ge=16, le=1_048_576)
