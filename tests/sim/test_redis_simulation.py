"""Hundreds of histories of Redis: never two primaries, nothing wiped by an empty one, always one again in the end."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
from simulated_redis import RedisWorld
from simulated_world import Broken

from betting_operator.healing import redis_failover

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
    "kind",
    [{}, {"quorum": True}, {"pods": True}, {"pods": True, "quorum": True}],
    ids=["exit-seen", "quorum", "pods-without-a-record", "pods-with-a-quorum"],
)
@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
def test_every_history_ends_with_one_primary(first: int, kind: dict[str, bool]) -> None:
    """Nodes, healers, paths and Postgres fail as they please; healers act late, or twice at once."""
    worlds = [lived(seed, **kind) for seed in range(first, min(first + CHUNK, FIRST + SEEDS))]
    assert sum(world.failovers for world in worlds) or SEEDS < CHUNK, "nothing ever failed over: too tame"


def broken_within(seeds: int, **kind: bool) -> str:
    """What broke first because somebody acknowledged who must not; "" if nothing did."""
    for seed in range(1, seeds + 1):
        try:
            RedisWorld(seed, **kind).run()
        except Broken as broken:
            if "acknowledge" in str(broken):
                return str(broken)
    return ""


def test_a_timeout_taken_for_a_fence_is_found() -> None:
    """It must show as two primaries, within three hundred seeds."""
    assert "at once" in broken_within(300, fence=False)


def test_a_promotion_that_does_not_wait_for_the_quorums_fence_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old primary acknowledges for as long as the last word of its replicas counts."""
    monkeypatch.setattr(redis_failover, "DETACHED_MS", 0)
    assert broken_within(300, quorum=True)


def test_a_quorum_that_is_only_claimed_is_found() -> None:
    """The old primary waits for nobody: taking its replicas away is no fence."""
    assert broken_within(300, quorum=True, pods=True, honest=False)


@pytest.mark.parametrize("pods", [False, True])
def test_the_quorums_fence_is_used(pods: bool) -> None:
    """Failovers by it, not only by ends that were seen."""
    logs = (line for seed in range(1, 101) for line in lived(seed, quorum=True, pods=pods).log)
    assert sum("PROMOTING" in after for before, after in pairwise(logs) if "DETACHED" in before)


def test_a_seed_is_a_history() -> None:
    """The same number gives the same run."""
    assert lived(7).log == lived(7).log
