"""Healing that is paused, or a dry run, is said wherever somebody looks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from healing_scenes import Scenario, calm

from betting.cli import status_lines
from betting.cli.screen import screen
from betting.embedded.overview import Overview
from betting.health import exposition, merge
from betting.health.observations import PlatformSnapshot
from betting.journal.healing_switch import Switch
from betting.supervision.state import PlatformState
from betting.v1 import health_pb2
from betting_operator.healer.reporting import Reporter
from betting_operator.healing.flight import Record
from betting_operator.healing.policy import Policy

NOW_US = 1_800_000_300_000_000
PAUSED = Switch("network work", False, paused_since_us=NOW_US - 245_000_000)


def status(switch: Switch, healer_beat_age_s: float | None = 0.5) -> health_pb2.GetPlatformStatusResponse:
    """What the monitor shows."""
    modes = merge.healing_modes(switch, healer_beat_age_s, NOW_US)
    return merge.status_of(PlatformSnapshot(NOW_US, (), (), (), 0, (), healing=modes))


def told(*policies: Policy) -> list[str]:
    """What the log says of ticks under these policies."""
    reporter, lines = Reporter(), []
    for number, policy in enumerate(policies):
        tick = Scenario(policy).live(calm(number * 500))
        lines += list(reporter.lines(Record(number, policy, calm(), tick.diagnoses, tick.plan)))
    return lines


def test_the_log_says_when_it_changes_and_how_it_began() -> None:
    """Once each."""
    paused = replace(Policy(), paused="network work")
    assert told(paused, paused, Policy(), Policy(dry_run=True)) == [
        "mode: healing is paused: network work",
        "mode: healing is on again",
        "mode: dry run: nothing is done",
    ]


@pytest.mark.parametrize(
    ("switch", "beat_age_s", "modes"),
    [
        (Switch("", False), 0.5, []),
        (PAUSED, 0.5, ["paused"]),
        (PAUSED._replace(dry_run=True), 60.0, ["paused", "dry-run"]),
        (Switch("", False), 60.0, ["absent"]),
        (Switch("", False), None, ["absent"]),
    ],
)
def test_the_status_names_every_mode_that_is_not_as_usual(
    switch: Switch, beat_age_s: float | None, modes: list[str]
) -> None:
    """A healer that does not beat is one too; in a dry run it does not beat on purpose."""
    shown = status(switch, beat_age_s)
    assert [each.mode for each in shown.healing_modes] == modes
    [family] = [f for f in exposition.families(shown) if f.name == "betting_platform_healing_mode"]
    assert {sample.labels["mode"] for sample in family.samples if sample.value} == set(modes)


def test_the_screen_says_so_first_with_its_reason_and_since_when() -> None:
    """In plain lines too."""
    overview = Overview(0.0, True, PlatformState(1, 1), {}, status(PAUSED))
    [line] = [line for line in status_lines.lines(overview, None) if line.startswith("healing is")]
    assert "healing is PAUSED since" in line
    assert "4 min 05 s ago: network work (to end it: betting heal resume)" in line
    drawn = [str(each) for each in screen(overview, None, (), (), width=200, height=24, now_s=0.0)]
    assert drawn[0] == line
    assert not list(status_lines.healing(status(Switch("", False))))
