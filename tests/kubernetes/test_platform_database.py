"""What the operator reads in a platform's database, and what it makes of it: a real API server, a real Postgres."""

from __future__ import annotations

from collections.abc import Iterator

import platforms
import psycopg
import pytest
from kube_api import KubeApi
from operator_rounds import PLATFORMS_PATH, Operator, condition

from betting.embedded.ports import held_ports
from betting.embedded.postgres import PostgresServer
from betting.journal.migrate import migrate


@pytest.mark.parametrize(
    ("image", "reason"),
    [({}, "SchemaNewer"), ({"repository": "betting", "tag": "99"}, "Migrating")],
    ids=["the operator's own image", "another one"],
)
async def test_a_schema_that_the_operator_does_not_know_is_judged_only_for_its_own_image(
    kube_api: KubeApi, namespace: str, operator: Operator, newer_dsn: str, image: dict[str, str], reason: str
) -> None:
    """Another image of a platform may be of a newer release, which made that schema."""
    resource = platforms.resource(
        namespace, "demo", database={"external": {"dsnSecret": {"name": "mine"}}}, image=image
    )
    resource["metadata"].pop("uid")
    kube_api.request("POST", PLATFORMS_PATH.format(namespace), resource)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "stringData": {"dsn": newer_dsn}}
    kube_api.request("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)
    await operator.round()
    found = kube_api.request("GET", f"{PLATFORMS_PATH.format(namespace)}/demo")
    assert condition(found, "DatabaseReady")["status"] == "True"
    assert condition(found, "Migrated")["reason"] == reason


@pytest.fixture(scope="module")
def newer_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database that a newer release has migrated."""
    with held_ports(1) as [port]:
        server = PostgresServer(tmp_path_factory.mktemp("postgres") / "pg", port, durable=False)
        server.start()
        try:
            dsn = server.spec.dsn("postgres")
            migrate(dsn)
            with psycopg.connect(dsn) as connection:
                connection.execute(
                    "UPDATE _yoyo_migration SET migration_id = '9999.newer'"
                    " WHERE migration_id = (SELECT max(migration_id) FROM _yoyo_migration)"
                )
            yield dsn
        finally:
            server.stop()
