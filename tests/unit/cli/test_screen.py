"""The live screen of `betting up` and `betting status`, rendered to terminals of several sizes."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, Group

from betting.cli import status_lines
from betting.cli.screen import screen
from betting.embedded import ports_plan
from betting.embedded.folder import DataFolder
from betting.embedded.overview import Overview
from betting.supervision.state import PlatformState, ProcessPhase, ProcessState
from betting.v1 import health_pb2

NOW_S = 1_800_000_000.0
SIZES = [(80, 24), (120, 40), (40, 10)]
API = "API        http://127.0.0.1:8080"


def overview(
    *, instances: int = 40, troubled: int = 2, stopped: int = 1, known: bool = True, running: bool = True
) -> Overview:
    """Many bet-services that share sixteen shards; the last ones of the list are in trouble."""
    names = [f"bet-service-{number}" for number in range(1, instances + 1)]
    processes = [
        ProcessState(name, ProcessPhase.READY, pid=4_000 + number, started_at_us=int((NOW_S - 4_000) * 1e6))
        for number, name in enumerate(names)
    ]
    phases = [ProcessPhase.WAITING, ProcessPhase.PAUSED, ProcessPhase.STARTING]
    for number in range(troubled):
        each = processes[-1 - number]
        each.phase, each.restarts, each.last_exit = phases[number % 3], 7, "killed by SIGKILL"
    shards = [
        health_pb2.ShardStatus(shard_id=n, owner=f"{names[n % instances]}@0f", epoch=3, state="owned", open_bets=100)
        for n in range(16)
    ]
    for each in shards[:stopped]:
        each.owner, each.state, each.reason = "", "frozen", "entry 17 is missing"
    redis = health_pb2.RedisStatus(primary="valkey-2", epoch=3, phase="steady")
    platform = health_pb2.GetPlatformStatusResponse(shards=shards, bets_accepted_total=1_234_567, redis=redis)
    healing = [f"action: kill bet-service-{n}: done" for n in range(1, 9)]
    state = PlatformState(1, 2, ports_plan.fixed(["api-gateway", "health-monitor"]), processes, healing)
    memory = {each.name: 60 << 20 for each in processes}
    problem = "" if known else "health-monitor does not answer (UNAVAILABLE)"
    return Overview(10.0, running, state, memory, platform if known else None, problem)


def rendered(now: Overview, width: int, height: int, notes: tuple[str, ...] = ()) -> list[str]:
    """What a terminal of this size shows."""
    where = status_lines.addresses(DataFolder(Path("/data")), now.supervisor.ports)
    lines = screen(now, None, where, notes, width=width, height=height, now_s=NOW_S)
    console = Console(width=width, height=height, file=io.StringIO(), color_system=None, force_terminal=True)
    console.print(Group(*lines))
    shown: str = console.file.getvalue()  # type: ignore[attr-defined]
    return shown.splitlines()


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_every_kind_of_thing_is_on_the_screen(width: int, height: int) -> None:
    """Address, what is in trouble, bets, shards, Redis, the healer's latest line, processes: whatever the size."""
    shown = rendered(overview(), width, height)
    assert len(shown) <= height
    assert max(map(len, shown)) <= width
    text = "\n".join(shown)
    assert shown[0] == API
    assert "shard 0 is frozen: entry 17" in text
    assert "bet-service-40 waiting, 7 restarts" in text
    assert "bet-service-39 paused, 7 restarts" in text
    assert "1,600 open bets, 1,234,567 accepted" in text
    assert "16 shards: 1 frozen, 15 owned" in text
    assert "Redis primary valkey-2, epoch 3" in text
    assert "healer  action: kill bet-service-8: done" in text
    assert "38 of 40 processes are ready" in text


def test_what_has_no_room_is_counted() -> None:
    """In 40 lines not all of forty processes can be named, and the screen says how many are left out."""
    shown = rendered(overview(), 120, 40)
    assert len(shown) == 40
    named = sum(line.startswith("  bet-service-") and "restarts  " in line for line in shown)
    [rest] = [line for line in shown if line.endswith("more, all ready")]
    assert rest == f"  … {38 - named} more, all ready"


def test_the_worst_comes_first_and_more_trouble_than_lines_is_counted() -> None:
    """Processes that are down before those that are only slow to start; what a person must do before both."""
    shown = rendered(overview(troubled=30), 40, 10)
    assert shown[0] == API
    assert shown[1].startswith("shard 0 is frozen")
    assert shown[2].startswith("bet-service-13 waiting")
    assert shown[4] == "… 28 more in trouble"
    large = rendered(overview(troubled=6), 120, 40)
    troubled = [line.split()[1].rstrip(",") for line in large if "7 restarts, last: killed by SIGKILL" in line]
    assert troubled == ["waiting", "waiting", "paused", "paused", "starting", "starting"]


def test_a_large_terminal_has_everything() -> None:
    """All addresses, every owner of shards, every process with its memory, and the latest notes."""
    shown = rendered(overview(instances=4, troubled=0, stopped=0), 120, 40, ("first", "second"))
    assert [line for line in shown if line.startswith(("operator", "logs", "money", "metrics"))] == shown[1:5]
    assert sum("pid 400" in line for line in shown) == 4
    assert "  bet-service-1@0f  4:  0 4 8 12" in shown
    assert shown[-2:] == ["second", "first"]
    assert "  bet-service-1  ready      0 restarts     1 h 06 min     60 MiB  pid 4000" in shown


def test_a_platform_that_is_not_known_or_not_running_says_so_first() -> None:
    """The health monitor may be what is down; then the supervisor's word is what there is."""
    shown = rendered(overview(known=False), 40, 10)
    assert shown[0] == API
    assert "shards, Redis and bets are not known: h…" in shown
    shown = rendered(overview(known=False, running=False, instances=4), 80, 24)
    assert "not running; last known:" in shown
    assert any(line.startswith("  bet-service-1") and "stopped" in line for line in shown)


@given(
    width=st.integers(10, 200),
    height=st.integers(1, 60),
    instances=st.integers(1, 60),
    troubled=st.integers(0, 60),
    stopped=st.integers(0, 16),
    known=st.booleans(),
    running=st.booleans(),
)
def test_no_screen_is_larger_than_its_terminal(
    width: int, height: int, instances: int, troubled: int, stopped: int, known: bool, running: bool
) -> None:
    """And the address of the API is always the first thing on it."""
    now = overview(
        instances=instances, troubled=min(troubled, instances), stopped=stopped, known=known, running=running
    )
    shown = rendered(now, width, height, ("a note",) * 5)
    assert len(shown) <= height
    assert max(map(len, shown)) <= width
    assert shown[0].startswith("API"[:width])
