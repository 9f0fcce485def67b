"""The command line: what is listed, what is imported, what the views say."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from betting.audit import Report
from betting.audit.report import CheckResult
from betting.cli import demo_view, main, status_lines
from betting.drills import availability
from betting.drills.demo import Result, Skipped
from betting.drills.measure import FaultResult
from betting.embedded.folder import DataFolder
from betting.embedded.overview import Overview
from betting.supervision.state import PlatformState, ProcessPhase, ProcessState
from betting.v1 import health_pb2


def test_help_lists_commands_without_importing_them() -> None:
    """`betting --help` answers at once: no gRPC, no drivers, no HTTP client are loaded for it."""
    code = (
        "import sys; sys.argv = ['betting', '--help']\n"
        "from betting.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'grpc', 'asyncpg', 'psycopg', 'aiohttp', 'redis'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("up", "demo", "status"):
        assert name in done.stdout


@pytest.mark.parametrize(("name", "option"), [("up", "--free-ports"), ("demo", "--speed"), ("status", "--data")])
def test_every_command_explains_itself(name: str, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own help shows its own options."""
    monkeypatch.setenv("TERM", "dumb")
    shown = CliRunner().invoke(main.build([name, "--help"]), [name, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert shown.exit_code == 0
    assert option in shown.output


def test_a_typo_is_refused() -> None:
    """With exit code 2, as everywhere."""
    assert CliRunner().invoke(main.build(["upp"]), ["upp"]).exit_code == 2


def overview(at_s: float, bets: int, *, running: bool = True) -> Overview:
    """Two shards, one without an owner."""
    shards = [
        health_pb2.ShardStatus(shard_id=0, owner="bet-service-1", epoch=3, state="owned", open_bets=5),
        health_pb2.ShardStatus(shard_id=1, owner="", epoch=4, state="frozen", open_bets=7, reason="a gap"),
    ]
    redis = health_pb2.RedisStatus(primary="valkey-2", epoch=3, phase="promoting", candidate="valkey-1")
    platform = health_pb2.GetPlatformStatusResponse(
        shards=shards, bets_accepted_total=bets, redis=redis, attention=["A v B was offered"]
    )
    process = ProcessState("bet-service-1", ProcessPhase.READY, pid=77, restarts=2)
    supervisor = PlatformState(1, 2, {}, [process])
    return Overview(at_s, running, supervisor, {"bet-service-1": 50 * 2**20}, platform)


def test_plain_status_is_one_fact_a_line() -> None:
    """Processes, shards with owners, and the rate between two looks."""
    lines = list(status_lines.lines(overview(12.0, bets=1_300), overview(10.0, bets=1_000)))
    assert lines[0].startswith("process bet-service-1 ready pid=77 restarts=2 uptime=")
    assert lines[0].endswith("memory=50 MiB")
    assert lines[1] == "shard 0 owned owner=bet-service-1 epoch=3 open_bets=5"
    assert lines[2] == "shard 1 frozen owner=nobody epoch=4 open_bets=7"
    assert lines[3] == "Redis primary valkey-2, epoch 3, promoting towards valkey-1"
    assert lines[4] == "shard 1 is frozen: a gap (once put right: betting unfreeze 1)"
    assert lines[5] == "for a person: A v B was offered"
    assert lines[6] == "12 open bets, 1,300 accepted in all, 150 bets/s"
    where = status_lines.addresses(DataFolder.at(Path("data")), {"http": 8080})
    assert next(status_lines.lines(overview(1.0, bets=1), None, where)) == "API        http://127.0.0.1:8080"


def test_the_status_names_markets_that_wait_for_a_person() -> None:
    """Which, why, and what to do: in the plain lines and on the screen."""
    look = overview(1.0, bets=5)
    assert look.platform is not None
    for problem in (
        "it has another result",
        "market 7 version 1 has another result",
        "event 3 is abandoned: market 7 is for you to void",
        "market 70 of event 31 has the same id",
    ):
        look.platform.settlements_waiting.add(market_id=7, event_id=3, problem=problem)
    said = [line for line in status_lines.lines(look, None) if "to be settled" in line]
    assert said == [
        "for a person: market 7 of event 3 waits to be settled: it has another result",
        "for a person: a market of event 3 waits to be settled: market 7 version 1 has another result",
        "for a person: a market waits to be settled: event 3 is abandoned: market 7 is for you to void",
        "for a person: market 7 of event 3 waits to be settled: market 70 of event 31 has the same id",
    ]


def test_one_look_has_no_rate_and_a_stopped_platform_no_processes() -> None:
    """Nothing is guessed."""
    assert status_lines.bets_per_s(overview(1.0, bets=5), None) is None
    lines = list(status_lines.lines(overview(1.0, bets=5, running=False), None))
    assert lines[0] == "process bet-service-1 stopped pid=- restarts=2 uptime=- memory=-"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.9, "0 s"), (59.9, "59 s"), (200, "3 min 20 s"), (7_500, "2 h 05 min")]
)
def test_durations_read_well(seconds: float, words: str) -> None:
    """Two units at most."""
    assert status_lines.duration(seconds) == words


def result(
    *,
    lost: int = 0,
    missing: int = 0,
    broken: int = 0,
    worst_s: float | None = 0.5,
    healed_s: float | None = 0.7,
    accepted: int = 10,
    whole: bool = True,
) -> Result:
    """A demo's result."""
    checks = (
        CheckResult("journal.sequences", "", 10, broken),
        CheckResult("acknowledgements.found", "", 10, lost),
    )
    outcome = FaultResult(
        "killed",
        3,
        worst_s,
        10,
        1,
        Counter(PRICE_MOVED=2),
        0,
        missing,
        budget_s=1.0,
        part=availability.BETS,
        part_s=worst_s,
        healed_s=healed_s,
        detected_s=0.05,
        watched_s=9.4,
    )
    return Result(
        outcomes=(outcome,),
        bettors=20,
        bets_accepted=accepted,
        bets_delayed=1,
        unanswered=Counter({"unavailable: no": 3}),
        bets_settled=5,
        events_settled=2,
        unsettled=0,
        acks_written=10,
        report=Report(checks, 10, (), None, 0.1),
        whole=whole,
        took_s=99.0,
    )


def test_the_demo_is_proven_only_if_everything_holds() -> None:
    """A lost acknowledgement, a broken promise, something that stayed away, no bets at all: each alone breaks it."""
    assert result().holds
    assert result(lost=1).acknowledged_lost == 1
    broken = [result(lost=1), result(missing=1), result(broken=1), result(whole=False), result(accepted=0)]
    assert not any(each.holds for each in broken)
    assert not replace(result(), outcomes=()).holds  # all faults were skipped: nothing was proven
    assert result().healed
    assert not result(healed_s=None).healed


def test_the_demo_names_what_broke() -> None:
    """The last lines say which check failed, how much was lost, and the verdict."""
    lines = demo_view.lines(result(lost=2, broken=1))
    assert lines[1] == "refused by the rules: PRICE_MOVED 2"
    assert lines[2] == "settled by real results: 5 bets on 2 matches; all settlements finished"
    assert lines[3] == "never answered: 3 × unavailable: no"
    assert lines[4] == "acknowledged: 10; lost: 2"
    assert lines[5].endswith("BROKEN: journal.sequences, acknowledgements.found")
    assert lines[6] == "NOT PROVEN in 99 s"
    skipped = replace(result(), skipped=(Skipped("paused", "this platform cannot pause"),))
    assert "skipped: paused: this platform cannot pause" in demo_view.lines(skipped)
    assert "not healed: killed" in demo_view.lines(result(healed_s=None))


def test_the_demos_table_puts_figures_beside_budgets_and_beside_a_platform_without_healer() -> None:
    """What did not come back is more than was waited; what makes no difference says so."""
    [healed] = result(missing=7).outcomes
    [slow] = result(worst_s=None, healed_s=None).outcomes
    assert demo_view.cells(healed, slow) == (
        "killed", "0.50", "", "≤ 1 kept", "0.05", "0.70", "> 9", "1", "2", "7",
    )  # fmt: skip
    assert demo_view.cells(slow, None)[1:7] == ("> 9", "", "≤ 1 MISSED", "0.05", "> 9", "")
    assert demo_view.compared(healed, healed) == "0.70 (same)"
