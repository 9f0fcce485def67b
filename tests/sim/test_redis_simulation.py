"""Hundreds of histories of Redis: never two primaries, nothing wiped by an empty one, always one again in the end."""

from __future__ import annotations

import os

import pytest
from simulated_redis import RedisWorld
from simulated_world import Broken

SEEDS = int(os.environ.get("SEEDS", "300"))
FIRST = int(os.environ.get("FIRST_SEED", "1"))
CHUNK = 100


def lived(seed: int, *, quorum: bool = False, pods: bool = False) -> RedisWorld:
    """A run; when it breaks, its command and its history are shown."""
    world = RedisWorld(seed, quorum=quorum, pods=pods)
    try:
        world.run()
    except Broken as broken:
        history = "\n".join(world.log)
        pytest.fail(f"{broken}\nagain: make sim SEEDS=1 FIRST_SEED={seed}\n{history}", pytrace=False)
    return world


@pytest.mark.parametrize(
    "kind", [{}, {"quorum": True}, {"pods": True}], ids=["exit-seen", "quorum", "pods-without-a-record"]
)
@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
def test_every_history_ends_with_one_primary(first: int, kind: dict[str, bool]) -> None:
    """Nodes, healers, paths and Postgres fail as they please; healers act late, or twice at once."""
    worlds = [lived(seed, **kind) for seed in range(first, min(first + CHUNK, FIRST + SEEDS))]
    assert sum(world.failovers for world in worlds) or SEEDS < CHUNK, "nothing ever failed over: too tame"


def test_the_canary_is_found() -> None:
    """A timeout taken for a fence must show as two primaries, within three hundred seeds."""
    for seed in range(1, 301):
        try:
            RedisWorld(seed, fence=False).run()
        except Broken as broken:
            if "at once" in str(broken):
                return
    pytest.fail("two primaries were never noticed: the simulation sees nothing")


def test_a_seed_is_a_history() -> None:
    """The same number gives the same run."""
    assert lived(7).log == lived(7).log
