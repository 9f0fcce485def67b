"""Drills that the platform under test cannot do are skipped and say so; the others are done."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest
from scripted_target import ScriptedTarget

from betting.drills import demo, faults, measure, quiet
from betting.drills.availability import AvailabilityProbe
from betting.drills.bettor_pool import BettorPool
from betting.drills.catalogue import Catalogue
from betting.drills.faults import Victim
from betting.drills.measure import ACCEPTED, Attempt
from betting.drills.target import DATABASES, HEALER, Capability, Tick
from betting.supervision.errors import PlatformError

HARMLESS = Tick(0, frozenset(), (), ())


def pool(*attempts: Attempt) -> BettorPool:
    """Nobody bets; `attempts` is what was bet."""
    nobody = cast("Any", None)
    made = BettorPool(nobody, Catalogue(nobody), [], answers_until_s=0)
    made.attempts.extend(attempts)
    return made


def platform(*cannot: Capability) -> ScriptedTarget:
    """Everything runs."""
    target = ScriptedTarget(can=frozenset(Capability) - set(cannot))
    for workload, name in (
        ("postgres", "postgres"),
        ("valkey", "valkey-1"),
        ("bet-service", "bet-service-1"),
        ("bet-service", "bet-service-2"),
        ("wallet-service", "wallet-service"),
        (HEALER, HEALER),
    ):
        target.run(workload, name)
    return target


async def test_the_demo_skips_what_the_platform_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """No window, and so no row, for a pause where nothing can be paused; a kill is done all the same."""
    monkeypatch.setattr(demo, "CALM_S", 0.0)
    target, notes = platform(Capability.PAUSE), list[str]()
    scene = demo.Scene(target, pool(), AvailabilityProbe({}), notes.append)
    wanted = [faults.pause(faults.OWNERS[1]), faults.kill(faults.OWNERS[1])]
    windows, skipped = await scene.break_all(wanted, {})
    assert [each.name for each in windows] == ["bet-service-2 killed"]
    why = "this platform cannot pause a process from outside"
    assert skipped == [demo.Skipped("bet-service-2 paused", why)]
    assert f"skipped: bet-service-2 paused: {why}" in notes
    assert [what for what, _life in target.acts] == ["end"]
    assert target.acts[0][1].startswith("bet-service-2@")


async def test_what_nothing_healed_is_continued_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault's own repair, once the patience with the platform is over."""
    monkeypatch.setattr(demo, "CALM_S", 0.0)
    target, notes = platform(), list[str]()

    async def all_ready() -> bool:
        return all(each.ready for each in target.instances())

    async with demo.availability.asking(AvailabilityProbe({"processes": all_ready})) as signs:
        scene = demo.Scene(target, pool(), signs, notes.append)
        await scene.whole(5)
        fault = faults.pause(Victim("wallet-service"))
        [window], _ = await scene.break_all([fault], {fault.name: 0.5})
    assert [what for what, _life in target.acts] == ["pause", "unpause"]
    assert measure.judge(window, [], [], marks=signs.marks).healed_s is None
    assert any("a person repairs it" in line for line in notes)


async def test_who_is_not_running_cannot_be_hit() -> None:
    """Said by its number; nobody else is hit in its place."""
    target = platform()
    target.down("bet-service-1")
    with pytest.raises(PlatformError, match="bet-service-1 is not running"):
        await faults.kill(faults.OWNERS[0]).inject(target)
    with pytest.raises(PlatformError, match="bet-service-3 is not running"):
        await faults.kill(Victim("bet-service", 3)).inject(target)
    assert target.acts == []
    await faults.kill(faults.OWNERS[1]).inject(target)
    assert target.acts[0][1].startswith("bet-service-2@")


def test_every_fault_says_what_it_needs() -> None:
    """Where nothing but ending processes is possible only kills and the wipe of Redis are left."""
    bare = ScriptedTarget(can=frozenset())
    left = [each.name for each in faults.all_faults() + faults.healer_faults() if not bare.lacks(each.needs)]
    assert all(name.endswith("killed") or name == "Valkey wiped" for name in left)
    assert len(left) == 6


async def test_quiet_skips_what_the_platform_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason, in its place among the others; a skipped scenario proves nothing and breaks nothing."""
    monkeypatch.setattr(quiet, "BEFORE_S", 0.0)
    target = platform(*set(Capability) - {Capability.STEP_CLOCKS})
    target.record.append(HARMLESS._replace(wall_us=time.time_ns() // 1_000 + 10**9))
    later_s = time.monotonic() + 100
    people = pool(Attempt(0, later_s, later_s + 0.1, ACCEPTED))
    notes = list[str]()
    results = [await quiet.watch(target, people, each, 0.0, notes.append) for each in quiet.SCENARIOS]
    assert [bool(each.skipped) for each in results] == [True, False, True, True, True, True, False]
    assert all(each.holds for each in results)
    assert results[3].skipped == "this platform cannot pause the database"


async def test_only_services_have_their_clocks_stepped_and_each_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database has no use for it; the successor of a life that ended meanwhile has the right time already."""
    monkeypatch.setattr(quiet, "BEFORE_S", 0.0)
    target = platform()
    [scenario] = [each for each in quiet.SCENARIOS if each.needs is Capability.STEP_CLOCKS]
    async with scenario.unrest(target, pool()):
        target.run(HEALER, HEALER)
    stepped = [life for what, life in target.acts if what == "step"]
    assert not [life for life in stepped if life.split("-")[0].split("@")[0] in DATABASES]
    assert sorted(stepped).count(stepped[0]) == 2
    assert len([life for life in stepped if life.startswith(HEALER)]) == 1
    assert len(stepped) == 2 * 3 + 1
