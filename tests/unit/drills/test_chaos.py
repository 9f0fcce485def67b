"""What `betting chaos` does to a platform, and to whom."""

from __future__ import annotations

import asyncio

import pytest
from scripted_target import ScriptedTarget

from betting.drills import chaos
from betting.drills.target import Capability
from betting.supervision.errors import PlatformError

SHORT_S = 0.001


async def over() -> None:
    """Returns once nothing is under way any more."""
    while chaos._under_way:
        await asyncio.wait(set(chaos._under_way))


async def test_a_pause_ends_by_itself_when_it_is_told_how_long() -> None:
    """The same life goes on."""
    target = ScriptedTarget()
    life = str(target.run("wallet-service", "wallet-service"))
    await chaos.inject(target, "pause", "wallet-service", SHORT_S)
    assert target.named("wallet-service").paused
    await over()
    assert target.acts == [("pause", life), ("unpause", life)]


async def test_a_later_life_is_not_continued() -> None:
    """Somebody replaced the paused process: its successor was never paused, and nothing is raised."""
    target = ScriptedTarget()
    target.run("wallet-service", "wallet-service")
    await chaos.inject(target, "pause", "wallet-service", SHORT_S)
    target.run("wallet-service", "wallet-service")
    await over()
    assert [what for what, _life in target.acts] == ["pause"]


async def test_a_pause_for_good_lasts_until_it_is_continued() -> None:
    """0 s is for good."""
    target = ScriptedTarget()
    target.run("wallet-service", "wallet-service")
    await chaos.inject(target, "pause", "wallet-service")
    assert not chaos._under_way
    await chaos.inject(target, "continue", "wallet-service")
    assert target.named("wallet-service").ready


@pytest.mark.parametrize(
    ("fault", "name", "duration_s", "words"),
    [
        ("freeze", "wallet-service", 0, "no fault freeze: there are kill, pause, continue"),
        ("kill", "wallet", 0, "no process wallet: there are wallet-service"),
        ("pause", "wallet-service", -1, "cannot last -1 s: give 0 to 3600"),
        ("pause", "wallet-service", 3_601, "cannot last 3601 s"),
        ("pause", "wallet-service", float("nan"), "cannot last nan s"),
        ("silence", "wallet-service", 0, "this platform cannot silence a feed: nothing was done"),
        ("pause", "wallet-service", 0, "this platform cannot pause a process from outside: nothing was done"),
    ],
)
async def test_what_cannot_be_done_is_said_and_nothing_happens(
    fault: str, name: str, duration_s: float, words: str
) -> None:
    """What is wrong, and what there is."""
    target = ScriptedTarget(can=frozenset(Capability) - {Capability.PAUSE, Capability.SILENCE})
    target.run("wallet-service", "wallet-service")
    with pytest.raises(PlatformError, match=words):
        await chaos.inject(target, fault, name, duration_s)
    assert target.acts == []
