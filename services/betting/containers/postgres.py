"""`python -m betting.containers.postgres`: makes the cluster unless it is there, then becomes Postgres.

SIGINT stops it in order: SIGTERM is Postgres' smart shutdown, which waits for every client to leave. After kill -9 its
pid file names the first process of the container, which the next start is too: Postgres ignores a file that names
itself (CreateLockFile in its miscinit.c) and recovers.
"""

from __future__ import annotations

from pathlib import Path

from betting.containers import start
from betting.containers.settings import PostgresSettings
from betting.embedded import postgres
from betting.supervision import files
from betting.supervision.spawning import Command

# Sessions of a node that is gone end within ten seconds, idle ones and those that wait for an acknowledgement.
_KEEPALIVES = {
    "tcp_keepalives_idle": 5,
    "tcp_keepalives_interval": 1,
    "tcp_keepalives_count": 5,
    "tcp_user_timeout": 10_000,
}
_ACCESS = "host all all all scram-sha-256\n"


def spec_of(settings: PostgresSettings) -> postgres.PostgresSpec:
    """The cluster that the settings describe."""
    return postgres.PostgresSpec(
        folder=settings.postgres_folder,
        port=settings.postgres_port,
        password=settings.postgres_password.get_secret_value(),
        settings={
            "listen_addresses": "*",
            "hba_file": _access_file(settings.postgres_folder),
            "max_connections": settings.postgres_max_connections,
            **_KEEPALIVES,
        },
        databases=(postgres.DATABASE,),
    )


def prepare(settings: PostgresSettings, boot_id: str) -> Command:
    """Makes what is not there yet; returns the server's command. Raises PlatformError, ConfigurationError, OSError."""
    spec = spec_of(settings)
    start.require_folder(spec.folder, "BETTING_POSTGRES_FOLDER")
    if spec.data.exists():
        # Kubernetes makes a mounted volume writable for its fsGroup; Postgres refuses a folder that others may write.
        spec.data.chmod(0o700)
    files.write_atomic(_access_file(spec.folder), _ACCESS)
    postgres.prepare(spec)
    _take_password(spec)
    return spec.command()


def _take_password(spec: postgres.PostgresSpec) -> None:
    """Gives the user the password of the settings where the cluster was made with another."""
    assert spec.password is not None
    if files.read_secret(spec.password_file) != spec.password:
        postgres.run_alone(spec, [f"ALTER ROLE {postgres.USER} PASSWORD '{spec.password}'"])
        files.write_secret(spec.password_file, spec.password)


def _access_file(folder: Path) -> Path:
    return folder / "access.conf"


if __name__ == "__main__":
    start.run("postgres", PostgresSettings, prepare)
