"""The scripted platform keeps the contract: what is tested with it would be true of a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from platform_contract import PlatformContract, World
from scripted_platform import ScriptedPlatform

from betting_operator.platforms.port import Capability


class ScriptedWorld(World):
    def __init__(self, platform: ScriptedPlatform) -> None:
        self.platform: ScriptedPlatform = platform
        platform.start("worker", "worker-1", "127.0.0.1:1")
        platform.start("worker", "worker-2", "127.0.0.1:2")

    async def crash(self, instance: str) -> None:
        self.platform.end(instance)
        self.platform.start("worker", instance)

    async def go_silent(self) -> None:
        self.platform.heard = False

    def note_exit(self) -> None:
        self.exited += 1


class TestScriptedPlatform(PlatformContract):
    @pytest.fixture(params=[frozenset(), frozenset(Capability)], ids=["fixed", "eligible"])
    async def world(self, request: pytest.FixtureRequest) -> AsyncIterator[World]:
        world = ScriptedWorld(ScriptedPlatform(can=request.param))
        watching = asyncio.create_task(world.platform.run(world.note_exit))
        await asyncio.sleep(0)
        yield world
        watching.cancel()
