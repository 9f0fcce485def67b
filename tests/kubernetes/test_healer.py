"""The healer's own process on Kubernetes: a real API server, a real Postgres, services in the place of pods."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import psycopg
import pytest
from kube_api import KubeApi
from pod_healer import beating, healing
from pod_processes import POD_RULES, environment_of_a_healer, pod_processes

from betting.journal import directory
from betting.life import Life
from betting_operator.kubernetes import healer_process, healing_report
from betting_operator.kubernetes.healer_process import HealerProcess
from betting_operator.kubernetes.healing_actions import HEALING_ACTIONS
from betting_operator.kubernetes.status import Healer

BET_SERVICE = "bet-service"
ONE, TWO = "demo-bet-service-6d8f9c7b5d-x2lqm", "demo-bet-service-6d8f9c7b5d-7k4zt"
TIMEOUT_S = 60.0


async def test_an_owner_whose_container_ends_is_marked_dead_by_its_boot_id_and_its_shards_go_to_the_other(
    kube_api: KubeApi, namespace: str, dsn: str, tmp_path: Path
) -> None:
    """By the kubelet's word: its pod has restarted it by then, under the same name and in another life."""
    kubeconfig = kube_api.service_account(namespace, "betting-operator", POD_RULES)
    connection = await asyncpg.connect(dsn)
    watcher = await asyncpg.connect(dsn)
    try:
        async with pod_processes(kube_api, namespace, BET_SERVICE) as pods:
            for name in (ONE, TWO):
                await pods.create(name)
            dies, lives = (Life(BET_SERVICE, name, pods.boot_id(name)) for name in (ONE, TWO))
            async with beating(connection, [dies, lives]), healing(kubeconfig, namespace, dsn, tmp_path) as log:
                await until(lambda: wanted(watcher), {str(dies), str(lives)}, log)
                await pods.crash(ONE)
                await until(lambda: exited(watcher), {str(dies)}, log)
                await until(lambda: wanted(watcher), {str(lives)}, log)
    finally:
        await connection.close()
        await watcher.close()


@pytest.mark.parametrize("oldest", ["", "8000.between", "0001.journal"], ids=["no word", "a newer one", "this one"])
async def test_a_healer_refuses_a_newer_schema_unless_it_says_that_this_release_may_run_with_it_and_says_why(
    kube_api: KubeApi, namespace: str, dsn: str, tmp_path: Path, oldest: str
) -> None:
    """The rule of every service; the operator shows the last words of its child."""
    kubeconfig = kube_api.service_account(namespace, "betting-operator", POD_RULES)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO _yoyo_migration (migration_hash, migration_id) VALUES ('x', '9000.future')")
        if oldest:
            connection.execute("INSERT INTO betting.compatible_migrations VALUES ('9000.future', %s)", [oldest])
        healer = HealerProcess()
        healer.want(environment_of_a_healer(kubeconfig, namespace, dsn, tmp_path))
        running = asyncio.create_task(healer.run())
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while (state := healer.state()) == Healer():  # noqa: ASYNC110  (a process starts)
                    await asyncio.sleep(0.05)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            connection.execute("DELETE FROM betting.compatible_migrations WHERE migration_id = '9000.future'")
            connection.execute("DELETE FROM _yoyo_migration WHERE migration_id = '9000.future'")
    if oldest == "0001.journal":
        assert state == Healer(runs=True)
    else:
        assert state.ended.startswith("exit code 2: healer: the database has 1 migration that this release")
        assert "9000.future" in state.ended


async def test_a_healer_that_hangs_is_killed_and_started_again(
    kube_api: KubeApi, namespace: str, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is there, and nothing is healed. Nobody else would see it: it has no container of its own."""
    monkeypatch.setattr(healer_process, "SILENT_MAX_S", 5.0)
    kubeconfig = kube_api.service_account(namespace, "betting-operator", POD_RULES)
    report = tmp_path / healing_report.FILE
    healer = HealerProcess(signs=report)
    healer.want(environment_of_a_healer(kubeconfig, namespace, dsn, tmp_path))
    running = asyncio.create_task(healer.run())
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while not report.exists():  # noqa: ASYNC110  (a process starts)
                await asyncio.sleep(0.05)
            written_ns = report.stat().st_mtime_ns
            while report.stat().st_mtime_ns == written_ns:  # noqa: ASYNC110  (it lives)
                await asyncio.sleep(0.05)
            [pid] = healer.pids()
            os.kill(pid, signal.SIGSTOP)
            while healer.pids() in ((), (pid,)):  # noqa: ASYNC110  (a process ends, and starts)
                await asyncio.sleep(0.05)
        assert healer.state().ended == "no sign of life for 5 s: it was killed"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(ask: Callable[[], Awaitable[set[str]]], expected: set[str], log: Path) -> None:
    """Waits until the answer is this one."""
    found: set[str] = set()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while (found := await ask()) != expected:  # noqa: ASYNC110  (a row of a table)
                await asyncio.sleep(0.05)
    except TimeoutError:
        words = await asyncio.to_thread(log.read_text)
        pytest.fail(f"{found} and not {expected}:\n{words}")


async def wanted(connection: asyncpg.Connection) -> set[str]:
    """Whom shards should be with."""
    rows = await connection.fetch("SELECT DISTINCT coalesce(desired_owner, '') FROM betting.shards")
    return {row[0] for row in rows}


async def exited(connection: asyncpg.Connection) -> set[str]:
    """Who is marked dead."""
    return {row.life for row in await directory.instances(connection) if row.exited}


async def test_a_healer_tells_what_it_did_and_how_long_it_took_until_all_shards_had_an_owner(
    kube_api: KubeApi, demo: str, namespace: str, operators_rights: Path, dsn: str, tmp_path: Path
) -> None:
    """As an object with evidence and outcome, with the rights of the chart; its report has the repair as a number."""
    connection = await asyncpg.connect(dsn)
    claimer = await asyncpg.connect(dsn)
    try:
        async with pod_processes(kube_api, namespace, BET_SERVICE) as pods:
            for name in (ONE, TWO):
                await pods.create(name)
            dies, lives = (Life(BET_SERVICE, name, pods.boot_id(name)) for name in (ONE, TWO))
            async with (
                beating(connection, [dies, lives]),
                healing(operators_rights, namespace, dsn, tmp_path) as log,
            ):
                await until(lambda: owners_are_as_wanted(claimer), {str(dies), str(lives)}, log)
                await pods.crash(ONE)
                await until(lambda: owners_are_as_wanted(claimer), {str(lives)}, log)
                await until(lambda: marked_dead(kube_api, namespace), {f"{dies} Done True"}, log)
                report = json.loads((tmp_path / "healing.json").read_text())
    finally:
        await connection.close()
        await claimer.close()
    repairs = {each["diagnosis"]: each for each in report["meanTimeToRepair"]}
    assert 0 < repairs["owner-died"]["lastSeconds"] < 30
    assert report["lastAction"]["outcome"] == "Done"


async def owners_are_as_wanted(connection: asyncpg.Connection) -> set[str]:
    """In the place of bet-services, which claim what is meant for them; who owns shards then."""
    await connection.execute(
        "UPDATE betting.shards"
        " SET owner = desired_owner, epoch = epoch + 1, state = 'owned', address = '127.0.0.1:7100'"
        " WHERE desired_owner IS NOT NULL AND owner IS DISTINCT FROM desired_owner"
    )
    return {row[0] for row in await connection.fetch("SELECT DISTINCT coalesce(owner, '') FROM betting.shards")}


async def marked_dead(kube_api: KubeApi, namespace: str) -> set[str]:
    """Whom the HealingActions say was marked dead, with the outcome, and whether it is over."""
    path = HEALING_ACTIONS.path(namespace)
    found = (await asyncio.to_thread(kube_api.request, "GET", path))["items"]
    return {
        f"{each['spec']['about']} {each['status']['outcome']} {'repaired' in each['status']}"
        for each in found
        if each["spec"]["decision"]["action"] == "MarkDead" and each["spec"]["target"]["instance"] == ONE
    }
