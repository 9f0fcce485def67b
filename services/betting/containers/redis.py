"""`python -m betting.containers.redis`: becomes Valkey, fenced until somebody makes it a primary or a replica.

It begins as a replica of nobody: it answers, takes no writes, and has nothing that could wipe another. Whoever heals
the platform makes one node primary after the record in Postgres names that life of it, which INFO tells.
"""

from __future__ import annotations

import os

from betting.containers import start
from betting.containers.settings import RedisSettings
from betting.embedded import binaries, valkey
from betting.runtime.redis_link import BOOT_ID_SETTING
from betting.supervision.spawning import Command

_NOBODY = "127.0.0.1 1"


def configuration(settings: RedisSettings, boot_id: str) -> str:
    """The text of Valkey's configuration."""
    text = valkey.configuration(
        bind="* -::*",
        port=settings.redis_port,
        folder=settings.redis_folder,
        password=settings.redis_password.get_secret_value(),
        max_memory=f"{settings.redis_max_memory_mib}mb",
        replica_of=_NOBODY if settings.redis_role == "fenced" else None,
        min_replicas=settings.redis_min_replicas,
    )
    return f"{text}{BOOT_ID_SETTING} {boot_id}\n"


def prepare(settings: RedisSettings, boot_id: str) -> Command:
    """Leaves the configuration in standard input, as arguments and files would show the password.

    Raises PlatformError, ConfigurationError, OSError.
    """
    start.require_folder(settings.redis_folder, "BETTING_REDIS_FOLDER")
    valkey.remove_copies(settings.redis_folder)
    reading, writing = os.pipe()
    with open(writing, "w", encoding="ascii") as out:  # a few hundred bytes: a pipe holds 64 KiB
        out.write(configuration(settings, boot_id))
    os.dup2(reading, 0)
    return Command((str(binaries.valkey_server()), "-"), settings.redis_folder)


if __name__ == "__main__":
    start.run("redis", RedisSettings, prepare)
