"""What every implementation of the platform port must do: inherit `PlatformContract` and give it a `world` fixture."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

import pytest

from betting.life import Life
from betting_operator.healing.signals import Exit, Phase
from betting_operator.platforms.port import CannotDo, Capability, Instance, Platform, present_lives

TIMEOUT_S = 30.0
STEP_S = 0.02


class World(ABC):
    """A platform with two instances of the workload "worker", named "worker-1" and "worker-2", and what breaks them.

    It is being watched: `platform.run` is on, and counts its calls in `exited`.
    """

    platform: Platform
    exited: int = 0

    @abstractmethod
    async def crash(self, instance: str) -> None:
        """Its process ends by itself; the platform starts it again."""

    @abstractmethod
    async def go_silent(self) -> None:
        """The platform cannot be heard any more."""

    async def instance(self, name: str) -> Instance:
        """As the platform sees it, once it runs."""
        await until(lambda: name in present_lives(self.platform.instances()), f"{name} runs")
        return next(each for each in self.platform.instances() or () if each.instance == name)

    async def life(self, name: str) -> Life:
        """Its present life, once it runs."""
        life = (await self.instance(name)).life
        assert life is not None
        return life

    async def next_life(self, before: Life) -> Life:
        """The life of the same instance that follows, once it runs."""

        def now() -> Life | None:
            return present_lives(self.platform.instances()).get(before.instance)

        await until(lambda: now() not in (None, before), f"{before.instance} runs again")
        life = now()
        assert life is not None
        return life


async def until(condition: Callable[[], bool], what: str) -> None:
    """Waits until it holds."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"it never came to this: {what}"
        await asyncio.sleep(STEP_S)


class PlatformContract:
    """Inherited by the tests of each implementation."""

    async def test_every_instance_is_told_with_workload_life_and_phase(self, world: World) -> None:
        """Both workers run, each in a life of its own."""
        first, second = await world.instance("worker-1"), await world.instance("worker-2")
        assert (first.workload, second.workload) == ("worker", "worker")
        assert first.phase is Phase.RUNNING
        assert first.boot_id != second.boot_id
        assert first.silent_ms == 0

    async def test_a_crash_is_told_once_with_the_life_that_ended(self, world: World) -> None:
        """The exit names the boot id of the life that ended, wakes who waits, and the next life has another."""
        ended = await world.life("worker-1")
        woken = world.exited
        await world.crash("worker-1")
        exits: list[Exit] = []

        def told() -> bool:
            exits.extend(world.platform.take_exits())
            return bool(exits)

        await until(told, "the exit is told")
        assert [each.life for each in exits] == [ended]
        assert exits[0].how
        assert world.exited > woken
        await world.next_life(ended)
        assert (await world.instance("worker-1")).restarts == 1
        assert world.platform.take_exits() == ()

    async def test_one_life_is_killed_and_no_other(self, world: World) -> None:
        """The named life ends and is followed by another; its neighbour lives on."""
        killed, neighbour = await world.life("worker-1"), await world.life("worker-2")
        await world.platform.kill(killed)
        await until(
            lambda: present_lives(world.platform.instances()).get("worker-1") not in (None, killed), "restarted"
        )
        assert await world.life("worker-2") == neighbour

    async def test_a_life_that_is_over_cannot_be_killed(self, world: World) -> None:
        """Naming an earlier life harms the present one in no way."""
        before = await world.life("worker-1")
        await world.crash("worker-1")
        await until(
            lambda: present_lives(world.platform.instances()).get("worker-1") not in (None, before), "restarted"
        )
        present = await world.life("worker-1")
        with pytest.raises(CannotDo):
            await world.platform.kill(before)
        assert await world.life("worker-1") == present

    async def test_who_never_ran_cannot_be_killed(self, world: World) -> None:
        """An unknown instance is refused, not ignored."""
        with pytest.raises(CannotDo):
            await world.platform.kill(Life("worker", "worker-9", "0"))

    async def test_a_platform_that_is_not_heard_tells_nothing(self, world: World) -> None:
        """None is "cannot tell": never an empty list, which would mean that nothing should run."""
        await world.life("worker-1")
        await world.go_silent()
        await until(lambda: world.platform.instances() is None, "nothing is told")
        assert present_lives(world.platform.instances()) == {}

    async def test_reports_are_lost_rather_than_raised(self, world: World) -> None:
        """Telling people never stops the healing."""
        await world.platform.report(["one line"])
        await world.go_silent()
        await world.platform.report(["another line"])

    async def test_an_instance_is_moved_to_another_node_or_that_is_refused(self, world: World) -> None:
        """What runs ends and its next life is elsewhere; naming the life that ended moves nothing again."""
        before = await world.instance("worker-1")
        assert before.life is not None
        if Capability.MOVE_AWAY not in world.platform.capabilities:
            with pytest.raises(CannotDo):
                await world.platform.move_away(before.life)
            assert await world.life("worker-1") == before.life
            return
        await world.platform.move_away(before.life)
        moved = await world.next_life(before.life)
        assert (await world.instance("worker-1")).node != before.node
        with pytest.raises(CannotDo):
            await world.platform.move_away(before.life)
        assert await world.life("worker-1") == moved

    async def test_what_it_cannot_do_is_refused(self, world: World) -> None:
        """Only capabilities that are announced work."""
        await world.life("worker-1")
        can = world.platform.capabilities
        if Capability.SCALE not in can:
            with pytest.raises(CannotDo):
                await world.platform.scale("worker", 3)
        if Capability.ROLL_BACK not in can:
            with pytest.raises(CannotDo):
                await world.platform.roll_back("worker", "")

    async def test_room_on_the_disk_is_told(self, world: World) -> None:
        """As a number of bytes, or not at all."""
        free_bytes = world.platform.disk_free_bytes()
        assert free_bytes is None or free_bytes > 0
