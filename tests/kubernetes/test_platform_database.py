"""What the operator reads in a platform's database, and what it makes of it: a real API server, a real Postgres."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import in_process
import platforms
import psycopg
import pytest
from kube_api import KubeApi
from operator_rounds import MERGE, PLATFORMS_PATH, Operator, condition, counted

from betting.journal import directory, install
from betting.journal.migrate import migrate
from betting.life import Life
from betting_operator.kubernetes.main import healer_environment
from betting_operator.kubernetes.manifests import Manifest
from betting_operator.kubernetes.reconcile import Key
from betting_operator.kubernetes.reconciler import PLATFORMS
from betting_operator.kubernetes.settings import OperatorSettings
from betting_operator.kubernetes.spec import Platform
from betting_operator.kubernetes.status import Healer

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
        await operator.round()  # the database is recorded: whoever runs on it is this platform's
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
        await connection.execute("DELETE FROM betting.instances")
        await connection.close()
    found = kube_api.request("GET", path)
    owned = condition(found, "ShardsOwned")
    assert (owned["status"], owned["reason"]) == ("False", "ShardsOrphaned")
    assert owned["message"] == "3 of 4 shards are owned by no bet-service that runs"
    assert found["status"]["shards"] == {"summary": "1/4", "owned": 1, "total": 4, "frozen": 0}


async def test_a_database_that_another_platform_works_with_is_taken_once_that_one_has_ended(
    kube_api: KubeApi, namespace: str, operator: Operator, dsn: str
) -> None:
    """Until then nothing is made, not even the migration, no healer begins, and it is not recorded as this one's."""
    connection = await asyncpg.connect(dsn)
    try:
        await directory.register(connection, LIVES, "10.0.0.1:7100", [1])
        path = _with_database(kube_api, namespace, dsn)
        await operator.round()
        found = kube_api.request("GET", path)
        for kind in ("Accepted", "Healing"):
            assert (condition(found, kind)["status"], condition(found, kind)["reason"]) == ("False", "DatabaseShared")
        assert LIVES.instance in condition(found, "Accepted")["message"]
        assert "database" not in found["status"]
        assert not {key.kind for key in await operator.objects()} & {"Deployment", "Job", "Secret"}
        await directory.mark_exited(connection, str(LIVES))
        await operator.round()
    finally:
        await connection.execute("DELETE FROM betting.instances")
        await connection.close()
    found = kube_api.request("GET", path)
    assert condition(found, "Accepted")["status"] == "True"
    assert found["status"]["database"]["installation"] == await _installation(dsn)


@pytest.mark.parametrize("other", ["another", "empty"])
async def test_an_address_of_another_database_changes_nothing_until_a_person_accepts_it(
    kube_api: KubeApi, namespace: str, operator: Operator, dsn: str, other: str
) -> None:
    """Not what runs, what starts anew, the healer, or that database."""
    path = _with_database(kube_api, namespace, dsn)
    await operator.round()
    await operator.round()
    ours = await _installation(dsn)
    assert kube_api.request("GET", path)["status"]["database"] == {"installation": ours}
    found = await _other_database(dsn, other)
    _change_address(kube_api, namespace, found.dsn)
    before = await operator.objects()
    writes = counted(operator.client)
    await operator.restarted()
    await operator.round()
    assert all("/status" in each or "/events" in each for each in writes)
    assert await operator.objects() == before
    resource = kube_api.request("GET", path)
    accepted = condition(resource, "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "AnotherDatabase")
    assert "spec.database.external.dsnSecret: the database has " in accepted["message"]
    assert ours in accepted["message"]
    assert found.installation in accepted["message"]
    assert condition(resource, "DatabaseReady")["status"] == "True"
    assert resource["status"]["shards"]["total"] == 4
    assert await _healers_dsn(operator) == dsn
    assert await _installation(found.dsn) == found.installation

    kube_api.request("PATCH", f"{path}/status", {"status": {"database": None}}, MERGE)
    await operator.round()
    assert condition(kube_api.request("GET", path), "Accepted")["status"] == "True"
    assert await _healers_dsn(operator) == found.dsn
    jobs = {key for key in await operator.objects() if key.kind == "Job"}
    assert len(jobs) == 1
    assert not jobs & before.keys()
    await operator.restarted()
    await operator.round()
    assert (kube_api.request("GET", path)["status"].get("database") or {}).get("installation", "") == found.installation


async def test_a_record_that_a_person_removes_while_a_round_runs_stays_removed(
    kube_api: KubeApi, namespace: str, operator: Operator, dsn: str
) -> None:
    """The round has read the status before: what it writes must not bring the record back."""
    path = _with_database(kube_api, namespace, dsn)
    kube_api.request("PATCH", f"{path}/status", {"status": {"database": {"installation": "of-before"}}}, MERGE)
    seen = list((await operator.client.list(PLATFORMS, namespace)).objects)
    kube_api.request("PATCH", f"{path}/status", {"status": {"database": None}}, MERGE)
    await operator.reconciler.reconcile(seen, {})
    status = kube_api.request("GET", path)["status"]
    assert "AnotherDatabase" in {each["reason"] for each in status["conditions"]}
    assert not status.get("database")


async def test_another_address_of_the_same_database_is_taken_when_it_answers(
    kube_api: KubeApi, namespace: str, operator: Operator, dsn: str
) -> None:
    path = _with_database(kube_api, namespace, dsn)
    await operator.round()
    await operator.round()
    _change_address(kube_api, namespace, "postgresql://betting:p@127.0.0.1:1/betting")
    await operator.round()
    accepted = condition(kube_api.request("GET", path), "Accepted")
    assert accepted["reason"] == "DatabaseUnknown"
    assert "127.0.0.1:1" in accepted["message"]
    assert await _healers_dsn(operator) == dsn
    moved = dsn + "?application_name=moved"
    _change_address(kube_api, namespace, moved)
    await operator.round()
    assert condition(kube_api.request("GET", path), "Accepted")["status"] == "True"
    assert await _healers_dsn(operator) == moved


async def test_when_the_database_in_use_becomes_another_one_nothing_is_made_and_healing_stops(
    kube_api: KubeApi, namespace: str, operator: Operator, dsn: str
) -> None:
    path = _with_database(kube_api, namespace, dsn)
    await operator.round()
    await operator.round()
    ours = await _installation(dsn)
    job = next(key for key in await operator.objects() if key.kind == "Job")
    kube_api.request("DELETE", f"/apis/batch/v1/namespaces/{namespace}/jobs/{job.name}?propagationPolicy=Background")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE betting.install SET installation = gen_random_uuid()")
    try:
        await operator.round()
        assert job not in await operator.objects()
        resource = kube_api.request("GET", path)
        assert condition(resource, "DatabaseReady")["reason"] == "AnotherDatabase"
        assert condition(resource, "Ready")["reason"] == "AnotherDatabase"
        assert await _healers_dsn(operator) is None
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("UPDATE betting.install SET installation = %s", [ours])
    await operator.round()
    assert job in await operator.objects()
    assert await _healers_dsn(operator) == dsn


async def test_a_resource_that_is_made_again_takes_the_database_that_it_finds(
    kube_api: KubeApi, namespace: str, operator: Operator, dsn: str
) -> None:
    path = _with_database(kube_api, namespace, dsn)
    kube_api.request("PATCH", f"{path}/status", {"status": {"database": {"installation": "of-before"}}}, MERGE)
    await operator.round()
    assert await operator.objects() == {}
    kube_api.request("DELETE", path)
    kube_api.request("DELETE", f"/api/v1/namespaces/{namespace}/secrets/mine")
    _with_database(kube_api, namespace, dsn)
    await operator.round()
    assert kube_api.request("GET", path)["status"]["database"] == {"installation": await _installation(dsn)}


@dataclass(frozen=True)
class Other:
    """A database beside the platform's, and the id of its installation: "" while there is none."""

    dsn: str
    installation: str


async def _other_database(dsn: str, name: str) -> Other:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name}")
        connection.execute(f"CREATE DATABASE {name}")
    other = urlsplit(dsn)._replace(path=f"/{name}").geturl()
    if name == "empty":
        return Other(other, "")
    migrate(other)
    in_process.install(other, 4)
    return Other(other, await _installation(other))


async def _installation(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        return await install.installation(connection)
    except asyncpg.UndefinedTableError:
        return ""
    finally:
        await connection.close()


def _change_address(kube_api: KubeApi, namespace: str, dsn: str) -> None:
    kube_api.request("PATCH", f"/api/v1/namespaces/{namespace}/secrets/mine", {"stringData": {"dsn": dsn}}, MERGE)


async def _healers_dsn(operator: Operator) -> str | None:
    """Of the healer as the next round would have it; None if there would be none."""
    configured = OperatorSettings(pod="o", namespace=operator.namespace, pod_ip="10.0.0.1", image="betting:1")
    told: list[str | None] = []

    def heal(platform: Platform | None, objects: Mapping[Key, Manifest]) -> Healer:
        if platform is None or not platform.healing.enabled:
            told.append(None)
        elif (environment := healer_environment(configured, platform, objects)) is not None:
            told.append(environment["BETTING_POSTGRES_DSN"])
        return Healer()

    operator.reconciler.heal = heal
    await operator.round()
    [dsn] = told
    return dsn


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
