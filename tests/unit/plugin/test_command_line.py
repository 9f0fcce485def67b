"""The command line of `kubectl betting`, as far as no cluster is needed for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from healing_scenes import recorded

from betting.cli import status_lines
from betting.embedded.overview import Overview
from betting.health import merge
from betting.health.observations import PlatformSnapshot
from betting.supervision.state import PlatformState
from betting.v1 import health_pb2
from betting_operator.plugin.main import GROUPS, main
from betting_operator.plugin.options import ordered
from betting_operator.plugin.platform import about, shard_rows


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code."""
    monkeypatch.setattr(sys, "argv", ["kubectl-betting", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["status"], ["status"]),
        (["-n", "bets", "status"], ["status", "-n", "bets"]),
        (
            ["--context=a", "heal", "-n=b", "pause", "--reason", "-n"],
            ["heal", "pause", "--context=a", "-n=b", "--reason", "-n"],
        ),
        (["thaw", "-n", "bets", "3"], ["thaw", "-n", "bets", "3"]),
        (["-n"], ["-n"]),
        (["--help"], ["--help"]),
        ([], []),
    ],
)
def test_options_of_kubectl_may_stand_before_the_command(given: list[str], expected: list[str]) -> None:
    """As people write them after `kubectl betting`."""
    assert ordered(given, list(GROUPS)) == expected


COMMANDS = ["status", "shards", "thaw", "audit", "logs"]
OF_GROUPS = [["heal", each] for each in ("log", "plan", "replay", "pause", "resume", "dry-run")]
OF_GROUPS += [["rebalance", each] for each in ("propose", "approve", "stop")]
OF_GROUPS += [["drill", each] for each in ("run", "list")]


@pytest.mark.parametrize("words", [*([each] for each in COMMANDS), *OF_GROUPS], ids=" ".join)
def test_every_command_has_help_and_the_options_of_kubectl(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, *words, "--help") == 0
    shown = capsys.readouterr().out
    for option in ("--namespace", "--context", "--kubeconfig", "--platform"):
        assert option in shown


def test_help_does_not_load_the_client_of_kubernetes() -> None:
    """It takes a second."""
    code = "import sys, betting_operator.plugin.main as m; m.application(); sys.exit('kubernetes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["thaw"], 2, "name the shards to thaw, or give --all"),
        (["thaw", "1", "--all"], 2, "name the shards to thaw, or give --all"),
        (["logs", "no id"], 2, "'no id' is no correlation id"),
        (["logs", "a", "--since", "yesterday"], 2, "'yesterday' is no time"),
        (["heal", "pause", "--reason", "  "], 2, "a pause needs a reason"),
        (["heal", "pause", "--reason", "x" * 201], 2, "a pause needs a reason of 1 to 200 characters"),
        (["heal", "dry-run", "perhaps"], 2, "a dry run is on or off, not perhaps"),
        (["heal", "replay", "/nowhere"], 1, "/nowhere cannot be read: No such file"),
        (["status", "--kubeconfig", "/nowhere"], 1, "no cluster is known"),
        (["status", "--context", "nowhere"], 1, "no cluster is known"),
    ],
)
def test_what_cannot_be_done_is_one_line_on_standard_error(
    words: list[str],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert called(monkeypatch, *words) == code
    told = capsys.readouterr().err
    assert told.startswith("kubectl betting: ")
    assert message in told
    assert told.count("\n") == 1


def test_a_flight_record_is_replayed_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One that a person has copied; what is damaged is named."""
    file = tmp_path / "flight-1.jsonl"
    file.write_text("".join(f"{line}\n" for line in recorded()) + '{"cut')
    assert called(monkeypatch, "heal", "replay", str(file)) == 0
    assert capsys.readouterr().out == f"{file}: 2 ticks, 0 decided differently\n"
    file.write_text("{}\n")
    assert called(monkeypatch, "heal", "replay", str(file)) == 1
    assert "cannot be replayed: line 1: this is no flight record" in capsys.readouterr().err


def test_shards_are_those_that_the_platforms_own_command_prints() -> None:
    """It is the source of `kubectl betting shards`."""
    statuses = [
        health_pb2.ShardStatus(shard_id=0, state="owned", owner="bet-service/b-1/42", epoch=3, open_bets=1_700),
        health_pb2.ShardStatus(shard_id=1, state="frozen", owner="", epoch=2, open_bets=0, reason="its books"),
    ]
    shown = merge.status_of(PlatformSnapshot(1, (), (), (), 0, ()))
    shown.shards.extend(statuses)
    lines = status_lines.lines(Overview(0.0, True, PlatformState(1, 1), {}, shown), None)
    assert shard_rows("\n".join(lines)) == [
        {"shard": 0, "state": "owned", "owner": "bet-service/b-1/42", "epoch": 3, "openBets": 1_700},
        {"shard": 1, "state": "frozen", "owner": "nobody", "epoch": 2, "openBets": 0},
    ]


def test_a_line_is_about_a_request_if_it_names_it_and_no_longer_one() -> None:
    lines = [
        '{"correlation_id": "a.1"}',
        '{"correlation_id": "a.12"}',
        "plain a.1 text",
        '{"correlation_ids": ["b", "a.1"]}',
    ]
    assert about("\n".join(lines), "a.1") == [lines[0], lines[2], lines[3]]
