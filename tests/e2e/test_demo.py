"""The proof itself, from the command line, as a newcomer runs it. Five minutes: not part of `make test`."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

TIME_LIMIT_S = 240.0
FAULTS = (
    *(f"bet-service-{number} {how}" for how in ("killed", "paused") for number in (1, 2)),
    "bet-service-1 paused mid-append",
    *(f"{name} {how}" for name in ("wallet-service", "api-gateway") for how in ("killed", "paused")),
    *(f"healer {how} in mid-failover" for how in ("killed", "paused")),
    "Postgres crashed",
    "Valkey primary killed",
    "Valkey primary paused",
    "Valkey wiped",
    "feed silenced",
    "notification-service stuck",
    "shard 0 poisoned",
)
# Far above the budgets, far below what it takes without a healer.
BACK_AFTER_KILL_MAX_S = 5.0
BACK_AFTER_PAUSE_MAX_S = 8.0


@pytest.mark.timeout(600)
def test_the_demo_proves_that_nothing_acknowledged_is_lost() -> None:
    """Exit code 0, a line for each fault with nothing lost in it, settlements meanwhile, and all in two minutes."""
    command = (sys.executable, "-c", "from betting.cli.main import main; main()", "demo")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {fault: cells for fault in FAULTS for cells in _rows(done.stdout, fault)}
    assert set(rows) == set(FAULTS), done.stdout
    for fault, (back_after, *_others, lost) in rows.items():
        limit_s = BACK_AFTER_PAUSE_MAX_S if "paused" in fault else BACK_AFTER_KILL_MAX_S
        assert float(back_after) < limit_s, done.stdout
        assert lost == "0", done.stdout
    settled = re.search(r"settled by real results: ([\d,]+) bets", done.stdout)
    assert settled is not None
    assert settled[1] != "0"
    verdict = re.search(r"^PROVEN in (\d+) s$", done.stdout, re.MULTILINE)
    assert verdict is not None, done.stdout
    assert float(verdict[1]) < TIME_LIMIT_S


def _rows(shown: str, fault: str) -> list[list[str]]:
    """The cells of the fault's line of the table, without its name."""
    lines = [line for line in shown.splitlines() if line.startswith(f"│ {fault} ")]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    return [rest for name, *rest in cells if name == fault]
