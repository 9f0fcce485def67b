"""What the operator reads in a platform's database, and what it makes of it: a real API server, a real Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import asyncpg
import in_process
import platforms
import psycopg
import pytest
from kube_api import KubeApi
from operator_rounds import PLATFORMS_PATH, Operator, condition

from betting.embedded.ports import held_ports
from betting.embedded.postgres import PostgresServer
from betting.journal import directory
from betting.journal.migrate import migrate
from betting.life import Life

LIVES, DIES = (Life("bet-service", f"demo-bet-service-6d8f9c7b5d-{each}", f"{each}0") for each in ("x2lqm", "7k4zt"))
NEWER = "9999.newer"


@pytest.mark.parametrize(
    ("image", "reason"),
    [({}, "SchemaNewer"), ({"repository": "betting", "tag": "99"}, "Migrating")],
    ids=["the operator's own image", "another one"],
)
async def test_a_schema_that_the_operator_does_not_know_is_judged_only_for_its_own_image(
    kube_api: KubeApi, namespace: str, operator: Operator, newer_dsn: str, image: dict[str, str], reason: str
) -> None:
    """Another image of a platform may be of a newer release, which made that schema."""
    path = _with_database(kube_api, namespace, newer_dsn, image=image)
    await operator.round()
    found = kube_api.request("GET", path)
    assert condition(found, "DatabaseReady")["status"] == "True"
    assert condition(found, "Migrated")["reason"] == reason


async def test_a_newer_schema_that_says_so_is_rolled_back_to(
    kube_api: KubeApi, namespace: str, operator: Operator, newer_dsn: str
) -> None:
    """The Job of the older image has nothing to do then, and its pods start."""
    with psycopg.connect(newer_dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO betting.compatible_migrations VALUES (%s, '0001.journal')", [NEWER])
        path = _with_database(kube_api, namespace, newer_dsn)
        await operator.round()
        connection.execute("DELETE FROM betting.compatible_migrations WHERE migration_id = %s", [NEWER])
    found = kube_api.request("GET", path)
    assert condition(found, "Migrated")["reason"] == "Migrating"
    assert found["status"]["schemaVersion"] == NEWER


@pytest.mark.parametrize(
    "lost",
    [
        "UPDATE betting.instances SET exited = true WHERE life = $1",
        "UPDATE betting.instances SET beat_at = beat_at - interval '11 s' WHERE life = $1",
        "DELETE FROM betting.instances WHERE life = $1",
    ],
    ids=["its end was seen", "its heartbeat is missing", "it is forgotten"],
)
async def test_shards_of_a_bet_service_that_no_longer_runs_are_not_owned(
    kube_api: KubeApi, namespace: str, operator: Operator, dsn: str, lost: str
) -> None:
    path = _with_database(kube_api, namespace, dsn)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("DELETE FROM betting.instances")
        for life, shards in ((LIVES, (0,)), (DIES, (1, 2, 3))):
            await directory.register(connection, life, "10.0.0.1:7100", [1])
            for shard in shards:
                await connection.execute(
                    "UPDATE betting.shards SET owner = $2, address = $3, state = 'owned' WHERE shard_id = $1",
                    *(shard, str(life), "10.0.0.1:7100"),
                )
        await operator.round()
        found = kube_api.request("GET", path)
        assert condition(found, "ShardsOwned")["status"] == "True"
        assert found["status"]["shards"] == {"summary": "4/4", "owned": 4, "total": 4, "frozen": 0}
        assert await connection.execute(lost, str(DIES)) != "UPDATE 0"
        await operator.round()
    finally:
        await connection.close()
    found = kube_api.request("GET", path)
    owned = condition(found, "ShardsOwned")
    assert (owned["status"], owned["reason"]) == ("False", "ShardsOrphaned")
    assert owned["message"] == "3 of 4 shards are owned by no bet-service that runs"
    assert found["status"]["shards"] == {"summary": "1/4", "owned": 1, "total": 4, "frozen": 0}


def _with_database(kube_api: KubeApi, namespace: str, dsn: str, **spec: Any) -> str:
    """A platform with this external database; its path."""
    resource = platforms.resource(namespace, "demo", database={"external": {"dsnSecret": {"name": "mine"}}}, **spec)
    resource["metadata"].pop("uid")
    kube_api.request("POST", PLATFORMS_PATH.format(namespace), resource)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "stringData": {"dsn": dsn}}
    kube_api.request("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)
    return f"{PLATFORMS_PATH.format(namespace)}/demo"


@pytest.fixture
def newer_dsn(dsn: str) -> Iterator[str]:
    """A database that a newer release has migrated."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO public._yoyo_migration (migration_hash, migration_id, applied_at_utc)"
            " VALUES (%(name)s, %(name)s, now())",
            {"name": NEWER},
        )
        yield dsn
        connection.execute("DELETE FROM public._yoyo_migration WHERE migration_id = %s", [NEWER])


@pytest.fixture(scope="module")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with the shards of a new installation."""
    with held_ports(1) as [port]:
        server = PostgresServer(tmp_path_factory.mktemp("postgres") / "pg", port, durable=False)
        server.start()
        try:
            found = server.spec.dsn("postgres")
            migrate(found)
            in_process.install(found, 4)
            yield found
        finally:
            server.stop()
