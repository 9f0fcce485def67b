"""How much memory a bet-service needs: what the command says, and what docs/operator/scaling.md says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from betting.cli.main import build
from betting.cli.size import LARGE_BYTES, MIB, fewest_pods, size
from betting_operator.healing.policy import Policy

PAGE = Path(__file__).resolve().parents[3] / "docs" / "operator" / "scaling.md"
BETS, RATES, PODS = st.integers(0, 10**10), st.integers(0, 10**6), st.integers(1, 500)


def said(*arguments: str) -> str:
    """What the command prints."""
    asked = ["size", *arguments]
    result = CliRunner().invoke(build(asked), asked)
    assert result.exit_code == 0, result.output
    return result.output


def test_it_says_resources_that_can_be_pasted_into_a_platform() -> None:
    lines = said("--open-bets", "50000000", "--bets-per-second", "5000", "--pods", "20").splitlines()
    assert lines == [
        "each of 20 bet-services needs 1,026 MiB, one of the others away",
        "resources: {memory: 1536Mi, memoryLimit: 2304Mi}",
    ]


def test_where_a_bet_service_would_be_large_it_says_how_many_would_do() -> None:
    assert "Run 9 or more" in said("--open-bets", "100000000", "--pods", "2")


@pytest.mark.parametrize(
    "arguments", [("--open-bets", "-1"), ("--open-bets", "many"), ("--open-bets", "1", "--pods", "0"), ()]
)
def test_what_is_no_number_of_bets_or_pods_is_refused(arguments: tuple[str, ...]) -> None:
    asked = ["size", *arguments]
    assert CliRunner().invoke(build(asked), asked).exit_code == 2


@given(bets=BETS, rate=RATES, pods=PODS)
def test_more_bets_need_more_and_more_pods_need_less(bets: int, rate: int, pods: int) -> None:
    """And the request leaves the room that the autoscaler needs, the limit what comes from a pod that died."""
    found = size(bets, rate, pods)
    assert size(bets + 1_000, rate, pods).needs_bytes > found.needs_bytes
    assert size(bets, rate, pods + 1).needs_bytes <= found.needs_bytes
    assert found.needs_bytes <= found.memory_mib * MIB * 0.7 < found.needs_bytes + 256 * MIB
    assert found.limit_mib * 2 == found.memory_mib * 3


@given(bets=BETS, rate=RATES)
def test_the_pods_that_it_names_are_enough_and_hardly_more(bets: int, rate: int) -> None:
    fewest = fewest_pods(bets, rate)
    assert size(bets, rate, fewest).needs_bytes <= LARGE_BYTES
    assert fewest <= 2 or size(bets, rate, fewest * 20 // 21 - 1).needs_bytes > LARGE_BYTES


def test_large_is_what_the_healer_calls_large() -> None:
    assert Policy().memory_large_bytes == LARGE_BYTES


def test_the_table_of_the_page_is_right() -> None:
    rows = re.findall(
        r"^\| (\d+) million \| ([\d.]+) GiB \| (\d+)Mi \| (\d+)Mi \|$", PAGE.read_text("utf-8"), re.MULTILINE
    )
    assert len(rows) >= 4
    for millions, needs, memory, limit in rows:
        found = size(int(millions) * 1_000_000, 500, 1)
        assert (round(found.needs_bytes / 1024**3, 1), found.memory_mib, found.limit_mib) == (
            float(needs),
            int(memory),
            int(limit),
        )
