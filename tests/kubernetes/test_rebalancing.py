"""ShardRebalances at a real API server, with shards in a real Postgres: approved, refused, stopped, resumed."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from kube_api import KubeApi
from operator_rounds import MERGE
from pod_healer import beating, healing
from pod_processes import POD_RULES, pod_processes
from shard_rebalances import PATH, change, create, found

from betting.journal import directory, healing_switch
from betting.life import Life
from betting_operator.healing.maintenance import Window
from betting_operator.healing.policy import Policy, Rebalancing
from betting_operator.healing.signals import Move, Rebalance
from betting_operator.kubernetes import rebalancing
from betting_operator.kubernetes.client import Client, configuration
from betting_operator.kubernetes.kinds import Resource
from betting_operator.kubernetes.rebalancing import PROPOSED_AFTER_S, SKEW_LOOK_S, Rebalancer, Rebalances, Told

BET_SERVICE = "bet-service"
A, B, C = (f"demo-bet-service-6d8f9c7b5d-{letter * 5}" for letter in "bcd")
TIMEOUT_S = 60.0
REBALANCE_RULES = [{"apiGroups": ["selfhealing.bet"], "resources": ["shardrebalances"], "verbs": ["list", "watch"]}]
APPROVE = Policy(rebalancing=Rebalancing.APPROVE)
UID = "11111111-2222-3333-4444-555555555555"


def life(instance: str) -> Life:
    return Life(BET_SERVICE, instance, "1")


class Clock:
    """The operator's."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Operator:
    """The operator's loop, one round at a time."""

    def __init__(self, client: Client, namespace: str, dsn: str) -> None:
        self._client = client
        self._namespace = namespace
        self._dsn = dsn
        self.clock = Clock()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, **told: Any) -> None:
        """As the leader that has just begun to lead; an earlier one has died."""
        await self.stop()
        self.rebalancer = Rebalancer(self._client, self._namespace, now_s=self.clock)
        self.rebalancer.told(Told(**{"platform": "demo", "uid": UID, "dsn": self._dsn, **told}))
        self._tasks = [asyncio.create_task(self.rebalancer.rebalances.run())]
        await until(lambda: self.rebalancer.rebalances.is_known)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self.rebalancer.close()

    async def rounds(self, kube_api: KubeApi, name: str, **status: Any) -> dict[str, Any]:
        """Until the status of one is so; its status."""
        now: dict[str, Any] = {}

        async def is_so() -> bool:
            nonlocal now
            self.clock.now_s += 10.0
            await self.rebalancer.round()
            now = found(kube_api, self._namespace, name).get("status") or {}
            return all(now.get(key) == value for key, value in status.items())

        try:
            await until(is_so)
        except TimeoutError:
            pytest.fail(f"{now} and not {status}")
        return now


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Raises TimeoutError."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.02)


@pytest.fixture
async def operator(operators_rights: Path, namespace: str, dsn: str) -> AsyncIterator[Operator]:
    """With the rights of the chart, and no others."""
    async with Client(configuration(operators_rights)) as client:
        made = Operator(client, namespace, dsn)
        yield made
        await made.stop()


class Shards:
    """The four shards of the database, and three bet-services."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def put(self, *owners: str) -> None:
        """Shard n with the nth owner."""
        for shard, owner in enumerate(owners):
            await self.connection.execute(
                "UPDATE betting.shards SET state = 'owned', owner = $2, address = 'x', desired_owner = $2 "
                "WHERE shard_id = $1",
                shard,
                str(life(owner)),
            )

    async def hand_over(self, moves: Iterable[dict[str, Any]]) -> None:
        """What the healer and the bet-services do."""
        for move in moves:
            await self.connection.execute(
                "UPDATE betting.shards SET owner = $2, desired_owner = $2 WHERE shard_id = $1",
                move["shard"],
                str(life(move["to"])),
            )

    async def owners(self) -> list[str]:
        return [str(row.owner).partition("@")[0] for row in await directory.shards(self.connection)]


@pytest.fixture
async def shards(dsn: str) -> AsyncIterator[Shards]:
    connection, beats = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    await connection.execute("DELETE FROM betting.instances")
    await connection.execute("UPDATE betting.healing_switch SET paused = '', dry_run = false")
    try:
        async with beating(beats, [life(each) for each in (A, B, C)]):
            await connection.execute("UPDATE betting.instances SET started_at = now() - interval '1 day'")
            made = Shards(connection)
            await made.put(A, A, B, C)
            yield made
    finally:
        await connection.close()
        await beats.close()


def condition(status: dict[str, Any], kind: str) -> tuple[str, str]:
    return next((each["status"], each["reason"]) for each in status["conditions"] if each["type"] == kind)


async def test_a_plan_waits_for_its_approval_runs_and_is_done(
    kube_api: KubeApi, namespace: str, operator: Operator, shards: Shards
) -> None:
    """An approval of another plan is refused; a leader that comes in the middle goes on."""
    await operator.start(policy=APPROVE)
    create(kube_api, namespace, drain=[A], reason="a larger machine")
    status = await operator.rounds(kube_api, "evening", phase="AwaitingApproval")
    plan = status["plan"]
    assert [(move["shard"], move["from"]) for move in plan["moves"]] == [(0, A), (1, A)]
    assert {move["to"] for move in plan["moves"]} == {B, C}
    assert plan["cost"]["shards"] == 2
    change(kube_api, namespace, approval="0123456789ab")
    status = await operator.rounds(kube_api, "evening", observedGeneration=2)
    assert condition(status, "Approved") == ("False", "PlanHasChanged")
    assert f"approval is of plan 0123456789ab, and the plan is {plan['hash']}" in status["message"]
    assert status["phase"] == "AwaitingApproval"
    change(kube_api, namespace, approval=plan["hash"])
    status = await operator.rounds(kube_api, "evening", phase="Running")
    assert status["plan"] == plan
    await shards.hand_over(plan["moves"][:1])
    await operator.start(policy=APPROVE)
    await operator.rounds(kube_api, "evening", phase="Running", done=1)
    await shards.hand_over(plan["moves"][1:])
    status = await operator.rounds(kube_api, "evening", phase="Done", done=2)
    assert condition(status, "Complete") == ("True", "Done")
    assert status["finishedAt"] >= status["startedAt"]
    written = kube_api.request("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
    told = {(each["involvedObject"]["kind"], each["reason"], each["type"], each["count"]) for each in written}
    assert told == {("ShardRebalance", phase, "Normal", 1) for phase in ("AwaitingApproval", "Running", "Done")}


async def test_what_the_page_says_that_a_person_types(
    kube_api: KubeApi, kubectl: str, namespace: str, operator: Operator, shards: Shards
) -> None:
    """docs/operator/rebalancing.md: how far it is, the approval, the stop."""
    kubeconfig = kube_api.kubeconfig(namespace=namespace)

    async def run(*arguments: str) -> str:
        command = [kubectl, f"--kubeconfig={kubeconfig}", *arguments]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
        return done.stdout

    await operator.start(policy=APPROVE)
    create(kube_api, namespace, drain=[A])
    await operator.rounds(kube_api, "evening", phase="AwaitingApproval")
    plan = await run("get", "sr", "evening", "-o", "jsonpath={.status.plan.hash}")
    await run("patch", "sr", "evening", "--type", "merge", "-p", f'{{"spec":{{"approval":"{plan}"}}}}')
    await operator.rounds(kube_api, "evening", phase="Running")
    columns, row = (await run("get", "sr")).splitlines()
    assert columns.split() == ["NAME", "PLATFORM", "PHASE", "MOVES", "DONE", "AGE", "MESSAGE"]
    assert re.match(r"evening +demo +Running +2 +0 +\S+ +2 shards to 2 pods, about 1 s, and 100 ms", row)
    await run("patch", "sr", "evening", "--type", "merge", "-p", '{"spec":{"stop":true}}')
    await operator.rounds(kube_api, "evening", phase="Stopped")
    await run("wait", "--for=condition=Complete=false", "sr/evening", "--timeout=10s")


async def test_what_cannot_be_done_is_refused_and_nothing_is_done(
    kube_api: KubeApi, namespace: str, operator: Operator, shards: Shards
) -> None:
    """A second one at once, a platform or a pod that does not exist; each with what to do."""
    await operator.start()
    create(kube_api, namespace, "a-pod", drain=["bet-x"])
    status = await operator.rounds(kube_api, "a-pod", phase="Refused")
    assert condition(status, "Accepted") == ("False", "NoSuchPod")
    create(kube_api, namespace, "a-platform", platform="other")
    status = await operator.rounds(kube_api, "a-platform", phase="Refused")
    assert condition(status, "Accepted") == ("False", "NoSuchPlatform")
    create(kube_api, namespace, drain=[A])
    await operator.rounds(kube_api, "evening", phase="Running")
    create(kube_api, namespace, "another", drain=[B])
    status = await operator.rounds(kube_api, "another", phase="Refused")
    assert condition(status, "Accepted") == ("False", "AnotherRebalance")
    assert status["message"].startswith("evening is not finished")
    assert operator.rebalancer.rebalances.signal("demo") == Rebalance("evening", (Move(0, A, B), Move(1, A, C)), (A,))


async def test_a_stop_leaves_shards_where_they_are(
    kube_api: KubeApi, namespace: str, operator: Operator, shards: Shards
) -> None:
    """What was moved stays, what was not stays too; another one may follow."""
    await operator.start()
    create(kube_api, namespace, drain=[A])
    status = await operator.rounds(kube_api, "evening", phase="Running")
    await shards.hand_over(status["plan"]["moves"][:1])
    change(kube_api, namespace, stop=True)
    status = await operator.rounds(kube_api, "evening", phase="Stopped")
    assert (status["done"], status["total"]) == (1, 2)
    assert await shards.owners() == [B, A, B, C]
    create(kube_api, namespace, "again", drain=[A])
    await operator.rounds(kube_api, "again", phase="Running")


async def test_a_pause_a_dry_run_healing_that_is_off_and_a_database_that_is_away_are_said(
    kube_api: KubeApi, namespace: str, operator: Operator, shards: Shards
) -> None:
    await operator.start(dsn="postgresql://u:p@127.0.0.1:1/d")
    create(kube_api, namespace, drain=[A])
    status = await operator.rounds(kube_api, "evening", phase="Proposed")
    assert status["message"].startswith("the platform's database does not answer")
    await operator.start(heals=False)
    message = "healing is off for this platform: nothing is planned or moved"
    await operator.rounds(kube_api, "evening", phase="Proposed", message=message)
    await healing_switch.pause(shards.connection, "a release")
    await operator.start()
    message = "healing is paused (a release): nothing is moved until it is resumed"
    await operator.rounds(kube_api, "evening", phase="Running", message=message)
    await healing_switch.resume(shards.connection)
    await operator.start(policy=Policy(paused="an audit"))
    message = "healing is paused (an audit (spec.healing.paused)): nothing is moved until it is resumed"
    await operator.rounds(kube_api, "evening", phase="Running", message=f"{message}; 0 of 2 shards moved")
    await operator.start(policy=Policy(windows=(another_day(),)))

    async def waits_for_window() -> bool:
        await operator.rounds(kube_api, "evening", phase="Running")
        now = found(kube_api, namespace)["status"]["message"]
        return str(now).startswith("outside of the maintenance windows: the next opens on ")

    await until(waits_for_window)
    await operator.start()
    await healing_switch.set_dry_run(shards.connection, True)
    message = "healing is in a dry run: nothing is moved until that is over; 0 of 2 shards moved"
    await operator.rounds(kube_api, "evening", phase="Running", message=message)


def another_day() -> Window:
    """A maintenance window that is not open, and does not open during this test."""
    day = (datetime.now(UTC) + timedelta(days=3)).strftime("%A")
    return Window((day,), start_min=0, duration_min=60)


async def test_skew_is_proposed_to_people_where_policy_says_so_once_and_not_again_when_they_stop_it(
    kube_api: KubeApi, namespace: str, operator: Operator, shards: Shards
) -> None:
    """After it has been the same for a while; a person's own rebalance goes first."""
    await shards.put(A, A, A, B)
    await operator.start(policy=APPROVE)

    async def proposals() -> list[dict[str, Any]]:
        await operator.rebalancer.round()
        items: list[dict[str, Any]] = kube_api.request("GET", PATH.format(namespace))["items"]
        return items

    assert await proposals() == []
    operator.clock.now_s += PROPOSED_AFTER_S - 1
    assert await proposals() == []
    operator.clock.now_s += SKEW_LOOK_S
    [proposed] = await proposals()
    name = proposed["metadata"]["name"]
    assert proposed["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "betting-operator"}
    status = await operator.rounds(kube_api, name, phase="AwaitingApproval")
    assert [move["shard"] for move in status["plan"]["moves"]] == [2]
    assert name == f"demo-{status['plan']['hash']}-0"
    create(kube_api, namespace, "person", drain=[C])
    await operator.rounds(kube_api, "person", phase="Done")
    assert condition(await operator.rounds(kube_api, name, phase="Superseded"), "Complete")[1] == "AnotherRebalance"
    kube_api.request("DELETE", f"{PATH.format(namespace)}/person")
    again = f"demo-{status['plan']['hash']}-1"
    await until(lambda: "person" not in {each["metadata"]["name"] for each in operator.rebalancer.rebalances.objects()})
    operator.clock.now_s += SKEW_LOOK_S
    assert len(await proposals()) == 1
    operator.clock.now_s += PROPOSED_AFTER_S
    assert {each["metadata"]["name"] for each in await proposals()} == {name, again}
    change(kube_api, namespace, again, stop=True)
    await operator.rounds(kube_api, again, phase="Stopped")
    for _ in range(3):
        operator.clock.now_s += PROPOSED_AFTER_S
        assert len(await proposals()) == 2
    assert await shards.owners() == [A, A, A, B]


async def test_without_a_policy_that_asks_for_it_nothing_is_proposed_and_nothing_read(
    kube_api: KubeApi, namespace: str, operator: Operator, shards: Shards
) -> None:
    """The healer balances by itself; at rest the operator asks neither the API server nor the database."""
    await shards.put(A, A, A, A)
    await operator.start(dsn="postgresql://u:p@127.0.0.1:1/d")
    operator.clock.now_s += PROPOSED_AFTER_S
    await operator.rebalancer.round()
    operator.clock.now_s += PROPOSED_AFTER_S
    await operator.rebalancer.round()
    assert kube_api.request("GET", PATH.format(namespace))["items"] == []


async def test_only_the_last_finished_proposals_of_the_operator_are_kept(
    kube_api: KubeApi, namespace: str, operator: Operator, shards: Shards
) -> None:
    """People's own are theirs to delete."""
    created = [f"own-{number}" for number in range(rebalancing.OWN_KEPT + 2)]
    for name in ("person", *created):
        create(kube_api, namespace, name)
        if name != "person":
            labels = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "betting-operator"}}}
            kube_api.request("PATCH", f"{PATH.format(namespace)}/{name}", labels, MERGE)
        done = {"status": {"phase": "Done", "message": "done"}}
        kube_api.request("PATCH", f"{PATH.format(namespace)}/{name}/status", done, MERGE)
    create(kube_api, namespace)
    await operator.start()
    await operator.rounds(kube_api, "evening", phase="Done")
    left = {each["metadata"]["name"] for each in kube_api.request("GET", PATH.format(namespace))["items"]}
    assert left >= {"person", "evening"}
    assert len(left) == rebalancing.OWN_KEPT + 2


async def test_what_the_healer_knows_follows_the_objects_and_is_nothing_when_they_cannot_be_seen(
    kube_api: KubeApi, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the right to see them it is not known; where the kind is not installed there are none."""
    create(kube_api, namespace, drain=[A])
    plan = {"hash": "0123456789ab", "moves": [{"shard": 0, "from": A, "to": B}], "cost": {"shards": 1}}
    running = {"status": {"phase": "Running", "plan": plan}}
    kube_api.request("PATCH", f"{PATH.format(namespace)}/evening/status", running, MERGE)
    kubeconfig = kube_api.service_account(namespace, "healer", REBALANCE_RULES)
    async with watching(kubeconfig, namespace) as seen:
        assert seen.signal("demo") is None
        await until(lambda: seen.signal("demo") == Rebalance("evening", (Move(0, A, B),), (A,)))
        change(kube_api, namespace, stop=True)
        await until(lambda: seen.signal("demo") == Rebalance())
        kube_api.request("DELETE", f"{PATH.format(namespace)}/evening")
        await until(lambda: seen.objects() == [])
    async with watching(kube_api.service_account(namespace, "blind"), namespace) as seen:
        await until(lambda: seen._watch.problem is not None)
        assert seen.signal("demo") is None
    monkeypatch.setattr(rebalancing, "REBALANCES", Resource("selfhealing.bet/v1alpha1", "Nothing", "nothings"))
    async with watching(kube_api.kubeconfig(), namespace) as seen:
        await until(lambda: seen.signal("demo") == Rebalance())


@asynccontextmanager
async def watching(kubeconfig: Path, namespace: str) -> AsyncIterator[Rebalances]:
    async with Client(configuration(kubeconfig)) as client:
        seen = Rebalances(client, namespace)
        task = asyncio.create_task(seen.run())
        try:
            yield seen
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_the_healer_makes_the_moves_of_a_plan_one_for_each_receiver_and_goes_on_after_it_was_killed(
    kube_api: KubeApi, namespace: str, dsn: str, tmp_path: Path
) -> None:
    """Its own process, as the operator starts it; what bet-services do is done by the test."""
    kubeconfig = kube_api.service_account(namespace, "betting-operator", [*POD_RULES, *REBALANCE_RULES])
    connection, beats = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    await connection.execute("DELETE FROM betting.instances")
    try:
        async with pod_processes(kube_api, namespace, BET_SERVICE) as pods:
            for name in (A, B):
                await pods.create(name)
            one, two = (Life(BET_SERVICE, name, pods.boot_id(name)) for name in (A, B))
            async with beating(beats, [one, two]):
                await connection.execute("UPDATE betting.instances SET started_at = now() - interval '1 day'")
                await connection.execute(
                    "UPDATE betting.shards SET state = 'owned', owner = v.who, address = 'x', desired_owner = v.who "
                    "FROM unnest($1::int[], $2::text[]) AS v (shard, who) WHERE shard_id = v.shard",
                    [0, 1, 2, 3],
                    [str(one), str(one), str(two), str(two)],
                )
                create(kube_api, namespace, drain=[A])
                moves = [{"shard": shard, "from": A, "to": B} for shard in (0, 1)]
                running = {"status": {"phase": "Running", "plan": {"hash": "0123456789ab", "moves": moves}}}
                kube_api.request("PATCH", f"{PATH.format(namespace)}/evening/status", running, MERGE)

                async def wanted() -> dict[int, str]:
                    rows = await directory.shards(connection)
                    return {row.shard: str(row.desired_owner) for row in rows if row.desired_owner != row.owner}

                async def is_wanted(shard: int) -> bool:
                    now = await wanted()
                    assert len(now) <= 1, "one hand-over at a time for a receiver"
                    return now == {shard: str(two)}

                async def some_ticks() -> None:
                    """The healer beats before its looks, about every second."""
                    for _beat in range(4):
                        last = await connection.fetchval("SELECT beat_at FROM betting.healer_beat")

                        async def has_beaten(last: object = last) -> bool:
                            return bool(await connection.fetchval("SELECT beat_at FROM betting.healer_beat") != last)

                        await until(has_beaten)

                async with healing(kubeconfig, namespace, dsn, tmp_path):
                    await until(lambda: is_wanted(0))
                    await some_ticks()
                    assert await is_wanted(0)
                await connection.execute("UPDATE betting.shards SET owner = desired_owner WHERE shard_id = 0")
                async with healing(kubeconfig, namespace, dsn, tmp_path):
                    await until(lambda: is_wanted(1))
                    await connection.execute("UPDATE betting.shards SET owner = desired_owner WHERE shard_id = 1")
                    done = {"status": {"phase": "Done"}}
                    kube_api.request("PATCH", f"{PATH.format(namespace)}/evening/status", done, MERGE)
                    await some_ticks()
                    assert await wanted() == {}, "it is not given back for balance"
    finally:
        await connection.close()
        await beats.close()
