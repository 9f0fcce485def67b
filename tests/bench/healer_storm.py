"""The healer with a large cluster, and 50 of 200 bet-services that exit at once: a part of `make bench-operator`.

The cluster is that of `kwok_cluster`; the healer is a process of its own as the operator starts it (`storm_healer`),
with the rights of the chart's Role: port, lists and watches, observation, brain, policy, executor, flight record and
HealingActions are real. As kwok runs no container, **what pods answer comes from a recorded source**: servers that say
what they were given at the addresses of the pods (`storm_pods`), which also write statuses as a kubelet does, and
heartbeats into a real Postgres. No bet is placed. So what is measured is the healer: what it hears, plans and asks for.

Ends with 1 where something does not hold that must: see `broken`. Times do not count there, as other work on the
machine makes them longer; the processor time of a plan does.
"""

from __future__ import annotations

import asyncio
import json
import math
import platform as machine
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import in_process
import psutil
import yaml
from kube_api import ROOT, KubeApi
from kwok_cluster import NAMESPACE, client_of
from pod_processes import environment_of_a_healer
from rich.console import Console
from rich.table import Table
from storm_pods import Pods, pods_of

from betting.bench.report import Figure
from betting.bench.report import show as show_figures
from betting.embedded.ports import held_ports
from betting.embedded.postgres import PostgresServer
from betting.journal.migrate import migrate
from betting.life import Life
from betting_operator import flight_files
from betting_operator.healing import flight
from betting_operator.healing.policy import Policy, ServiceLimits, encoded
from betting_operator.platforms.exit_streams import REFUSED

HEALER = Path(__file__).with_name("storm_healer.py")
ROLE = ROOT / "charts" / "betting-platform" / "templates" / "rbac.yaml"
SHARDS = 2_048
HEALTHY_PERCENT_MIN = 70
REST_S = 60.0
# Nothing is written for so long once everything is as it should be.
QUIET_S = 10.0
TIMEOUT_S = 900.0
POLL_S = 0.5
# The loop looks every 500 ms while something is wrong: a plan may take a fifth of that.
PLAN_CPU_MS_MAX = 100.0
# A killed container is to be healed within a second: all of the storm must be known by then.
KNOWN_MS_MAX = 1_000.0
_DISRUPTIVE = frozenset({"Kill", "MoveAway", "RollBack", "Drain", "Freeze", "ForceRelease", "Promote", "MoveRecord"})
_READS = frozenset({"get", "list", "watch"})


def measured(api: KubeApi, folder: Path, exits: int) -> dict[str, Any]:
    """In this cluster, whose platform has been made. exits: how many bet-services end at once."""
    with held_ports(1) as [port]:
        server = PostgresServer(folder / "storm" / "postgres", port, durable=False)
        server.start(timeout_s=TIMEOUT_S)
        try:
            dsn = server.spec.dsn("postgres")
            migrate(dsn)
            in_process.install(dsn, SHARDS)
            return asyncio.run(_measured(api, dsn, folder / "storm", exits))
        finally:
            server.stop()


def rights() -> list[dict[str, Any]]:
    """The rules of the chart's Role: the healer runs in the operator's pod."""
    rules = re.search(r"^rules:\n(.*?)^---", ROLE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert rules is not None
    found: list[dict[str, Any]] = yaml.safe_load(rules.group(1))
    return found


async def _measured(api: KubeApi, dsn: str, folder: Path, exits: int) -> dict[str, Any]:
    notes = folder / "notes.jsonl"
    notes.touch()
    database = await asyncpg.connect(dsn)
    async with client_of(api.kubeconfig()) as client, pods_of(client, database, exits) as pods:
        try:
            await _quiet(pods, lambda: _count(pods))
            say(f"{pods.count} pods answer, {len(pods.bet_services)} of them bet-services")
            async with _healer(api, dsn, folder, notes) as process:
                return await _storm(pods, process, folder, notes)
        finally:
            await database.close()


async def _count(pods: Pods) -> object:
    """Not 0, and the same for a while: then all pods have their process."""
    return pods.count or None


async def _storm(pods: Pods, process: psutil.Process, folder: Path, notes: Path) -> dict[str, Any]:
    async def at_rest() -> object:
        """Shards are spread, and how much has been written so far; None: they are not."""
        assert process.is_running(), f"the healer has ended: {(folder / 'healer.log').read_text()[-2_000:]}"
        return _writes(notes) if await _is_spread(pods) else None

    began_s = time.monotonic()
    await _quiet(pods, at_rest)
    say(f"at rest after {time.monotonic() - began_s:.0f} s; the storm comes in {REST_S:.0f} s")
    rest_s, used_s = time.monotonic(), _cpu_s(process)
    await asyncio.sleep(REST_S)
    rested_s = time.monotonic()
    cpu_percent = 100 * (_cpu_s(process) - used_s) / (rested_s - rest_s)
    rest_mib = process.memory_info().rss / 2**20
    before = pods.bet_services
    names = sorted(pods.to_exit)
    say(f"{len(names)} bet-services exit")
    healing = asyncio.create_task(_healed(pods, {str(before[name]) for name in names}))
    exited_s, reported_s, lives = await pods.exit()
    moments = await healing
    await _quiet(pods, at_rest)
    ended_s = time.monotonic()
    lines = _lines(notes)
    dead = [str(life) for life in lives]
    found: dict[str, Any] = {
        "machine": f"{machine.machine()}, {psutil.cpu_count()} processors",
        "answers": "recorded: servers in the place of the pods; heartbeats and directory in a real Postgres",
        "pods": pods.count,
        "bet_services": len(before),
        "shards": SHARDS,
        "exits": len(dead),
        "known": _known(lines, dead, names, exited_s),
        "kubelets_reported_ms": 1_000 * (reported_s - exited_s),
        "marked_dead_ms": 1_000 * (moments[0] - exited_s),
        "owned_again_ms": 1_000 * (moments[1] - exited_s),
        "rest": _phase(lines, rest_s, rested_s) | {"cpu_percent": cpu_percent, "memory_mib": rest_mib},
        "storm": _phase(lines, exited_s, ended_s) | {"memory_mib": process.memory_info().rss / 2**20},
        "replay": await asyncio.to_thread(_replayed, folder / "flight"),
    }
    found["broken"] = broken(found, lines, dead, before, pods.bet_services)
    return found


def broken(
    found: dict[str, Any],
    lines: Iterable[dict[str, Any]],
    dead: list[str],
    before: dict[str, Life],
    after: dict[str, Life],
) -> list[str]:
    """What must hold and does not, one sentence each."""
    told = Counter(life for each in lines if each["what"] == "exits" for life in each["lives"])
    well = {str(life) for life in before.values()} - set(dead)
    problems = []
    if set(told) != set(dead) or max(told.values(), default=0) > 1:
        problems.append(f"{len(told)} lives were said to have ended, {sum(told.values())} times; {len(dead)} have")
    if lost := well - {str(life) for life in after.values()}:
        problems.append(f"{len(lost)} bet-services that were well have ended")
    for phase in ("rest", "storm"):
        if disruptive := {name: count for name, count in found[phase]["actions"].items() if name in _DISRUPTIVE}:
            problems.append(f"disruptive actions, {phase}: {disruptive}; every exit was seen, and kubelets start anew")
    if moved := {name: count for name, count in found["rest"]["actions"].items() if name != "Alert"}:
        problems.append(f"actions at rest: {moved}")
    writes = {call: count for call, count in found["rest"]["calls"].items() if call.split()[0] not in _READS}
    if writes and not found["rest"]["actions"]:  # what people are alerted to is written: a busy machine's Postgres
        problems.append(f"writes to the API server at rest: {writes}")
    if found["replay"]["different"] or not found["replay"]["ticks"]:
        problems.append(f"flight record: {found['replay']}")
    slowest_ms = max(found[phase]["plan"]["cpu_ms_max"] for phase in ("rest", "storm"))
    if slowest_ms > PLAN_CPU_MS_MAX:
        problems.append(f"a plan took {slowest_ms:.0f} ms of a processor, more than {PLAN_CPU_MS_MAX:.0f}")
    return problems


def show(nodes: int, found: dict[str, Any]) -> None:
    """The tables, and what must hold and does not."""
    console = Console(width=150, highlight=False)
    console.print(
        f"Healer: {nodes} nodes, {found['pods']} pods, {found['bet_services']} bet-services, {found['shards']} shards; "
        f"{found['exits']} exits at once. {found['machine']}.\nAnswers of pods are {found['answers']}."
    )
    show_figures(figures(found), console)
    table = Table(title="Requests to the API server", title_justify="left", header_style="bold")
    for heading in ("request", "at rest, a minute", "storm"):
        table.add_column(heading, justify="left" if heading == "request" else "right")
    rest, storm = found["rest"]["calls"], found["storm"]["calls"]
    for call in sorted(rest.keys() | storm.keys()):
        a_minute = rest.get(call, 0) * 60 / found["rest"]["seconds"]
        table.add_row(call, f"{a_minute:.1f}", f"{storm.get(call, 0):,}")
    console.print(table)
    for problem in found["broken"]:
        console.print(f"[red]does not hold:[/] {problem}")
    sys.stdout.flush()


def figures(found: dict[str, Any]) -> list[Figure]:
    """The numbers beside their budgets."""
    known, rest, storm = found["known"], found["rest"], found["storm"]
    actions = ", ".join(f"{count} {name}" for name, count in sorted(storm["actions"].items()))
    of_all = f"of {storm['plan']['count']} plans"
    return [
        Figure("all exits known", known["all_ms"], "ms", KNOWN_MS_MAX, at_most=True, note=f"{known['heard']} heard"),
        Figure("half of them known", known["median_ms"], "ms"),
        Figure("restarts known by the watch", known["restarts_ms"], "ms", note="kubelets write them 1 s after the end"),
        Figure("all marked dead", found["marked_dead_ms"], "ms"),
        Figure("all their shards owned again", found["owned_again_ms"], "ms", note="nothing is replayed here"),
        *_plan_figures("plan at rest", rest["plan"], f"of {rest['plan']['count']} plans"),
        *_plan_figures("plan in the storm", storm["plan"], of_all),
        Figure("plan of the tick with most exits", storm["plan"]["cpu_ms_of_most"], "ms", note=storm["plan"]["most"]),
        Figure("tick at rest", rest["tick_cpu_ms"], "ms", note="processor time, median; the flight record included"),
        Figure("actions", sum(storm["actions"].values()), "", note=actions),
        Figure("alerts at rest", rest["actions"].get("Alert", 0), "", note="a machine too busy for its Postgres, say"),
        Figure("a processor at rest", rest["cpu_percent"], "%", note="probes of all pods included"),
        Figure("memory at rest", rest["memory_mib"], "MiB"),
        Figure("memory after the storm", storm["memory_mib"], "MiB"),
        Figure(
            "flight record of a tick", found["replay"]["line_kib"], "KiB", note=f"{found['replay']['ticks']} replayed"
        ),
    ]


def say(text: str) -> None:
    """How far it is."""
    print(text, flush=True)


def _plan_figures(name: str, plan: dict[str, Any], note: str) -> list[Figure]:
    return [
        Figure(f"{name}, median", plan["cpu_ms_median"], "ms", note=f"processor time, {note}"),
        Figure(f"{name}, worst", plan["cpu_ms_max"], "ms", PLAN_CPU_MS_MAX, at_most=True, note="processor time"),
        Figure(f"{name}, worst by the clock", plan["wall_ms_max"], "ms"),
    ]


@asynccontextmanager
async def _healer(api: KubeApi, dsn: str, folder: Path, notes: Path) -> AsyncIterator[psutil.Process]:
    """The healer's process, with a policy that asks for a healthy share."""
    policy = Policy(services=(ServiceLimits("bet-service", Policy().disruptions_per_window, HEALTHY_PERCENT_MIN),))
    (folder / "policy.json").write_text(encoded(policy))
    environment = environment_of_a_healer(
        api.service_account(NAMESPACE, "betting-operator", rights()), NAMESPACE, dsn, folder
    ) | {
        "BETTING_HEAL_POLICY_FILE": str(folder / "policy.json"),
        "PYTHONPATH": f"{HEALER.parent}:{':'.join(filter(None, sys.path))}",
    }
    with (folder / "healer.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "betting.runtime.launch", HEALER.stem, str(notes)),
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        yield psutil.Process(process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _quiet(pods: Pods, look: Callable[[], Awaitable[object]]) -> None:
    """Until `look` gives the same for QUIET_S, and not None."""
    deadline_s = time.monotonic() + TIMEOUT_S
    last, since_s = await look(), time.monotonic()
    while last is None or time.monotonic() - since_s < QUIET_S:
        if pods.failed() or time.monotonic() > deadline_s:
            raise SystemExit(f"not at rest: {last}" if not pods.failed() else "what plays the pods has failed")
        await asyncio.sleep(POLL_S)
        now = await look()
        if now != last:
            last, since_s = now, time.monotonic()


async def _healed(pods: Pods, dead: set[str]) -> tuple[float, float]:
    """When all of these lives were marked dead, and when every shard had an owner that lives (time.monotonic())."""
    deadline_s = time.monotonic() + TIMEOUT_S
    marked_s = 0.0
    while time.monotonic() < deadline_s:
        if not marked_s and dead <= await pods.marked_dead():
            marked_s = time.monotonic()
        owned = await pods.owned()
        if marked_s and not dead & owned.keys() and sum(owned.values()) == SHARDS:
            return marked_s, time.monotonic()
        await asyncio.sleep(POLL_S / 5)
    raise SystemExit(f"not healed within {TIMEOUT_S:.0f} s: {len(dead & owned.keys())} of the dead own shards")


async def _is_spread(pods: Pods) -> bool:
    """Whether every shard has an owner that lives, and nobody more than the fair share."""
    owned = await pods.owned()
    living = {str(life) for life in pods.bet_services.values()}
    return (
        sum(owned.values()) == SHARDS
        and owned.keys() <= living
        and max(owned.values()) <= math.ceil(SHARDS / len(living))
    )


def _writes(notes: Path) -> int:
    return sum(each["what"] == "call" and each["verb"] not in _READS for each in _lines(notes))


def _lines(notes: Path) -> list[dict[str, Any]]:
    """The last one may not be whole yet."""
    text = notes.read_text("utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _known(lines: list[dict[str, Any]], dead: list[str], names: list[str], exited_s: float) -> dict[str, Any]:
    """When the ends, and the restarts, became known to the healer's port, in ms after the exits."""
    told = {
        life: (1_000 * (each["at_s"] - exited_s), how)
        for each in lines
        if each["what"] == "exits"
        for life, how in zip(each["lives"], each["how"], strict=True)
    }
    after_ms = [told[life][0] if life in told else math.inf for life in dead]
    restarts_ms = [
        1_000 * (each["at_s"] - exited_s)
        for each in lines
        if each["what"] == "container" and each["instance"] in names and each["at_s"] > exited_s
    ]
    return {
        "all_ms": max(after_ms),
        "median_ms": statistics.median(after_ms),
        "heard": sum(how == REFUSED for life, (_ms, how) in told.items() if life in dead),
        "restarts_ms": max(restarts_ms, default=math.inf),
    }


def _phase(lines: list[dict[str, Any]], from_s: float, to_s: float) -> dict[str, Any]:
    within = [each for each in lines if from_s <= each["at_s"] < to_s]
    plans = [each for each in within if each["what"] == "plan"]
    actions: Counter[str] = Counter()
    for each in plans:
        actions.update(each["actions"])
    most = max(plans, key=lambda each: len(each["exits"]))
    cpu_ms = [each["cpu_ms"] for each in plans]
    return {
        "seconds": to_s - from_s,
        "calls": Counter(f"{each['verb']} {each['kind']}" for each in within if each["what"] == "call"),
        "actions": actions,
        "tick_cpu_ms": statistics.median(each["cpu_ms"] for each in within if each["what"] == "tick"),
        "plan": {
            "count": len(plans),
            "cpu_ms_median": statistics.median(cpu_ms),
            "cpu_ms_max": max(cpu_ms),
            "wall_ms_max": max(each["wall_ms"] for each in plans),
            "cpu_ms_of_most": most["cpu_ms"],
            "most": f"{len(most['exits'])} exits, {sum(most['actions'].values())} actions, {most['reports']} reports",
        },
    }


def _replayed(folder: Path) -> dict[str, Any]:
    """Every tick of the record that is left, decided again."""
    ticks = different = size = 0
    for file in flight_files.files(folder):
        with flight_files.opened(file) as lines:
            whole = [line for line in lines if line.endswith("\n")]
        size += sum(map(len, whole[1:]))
        for difference in flight.replay(whole):
            ticks += 1
            different += difference is not None
    return {"ticks": ticks, "different": different, "line_kib": size / 1024 / max(1, ticks)}


def _cpu_s(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)
