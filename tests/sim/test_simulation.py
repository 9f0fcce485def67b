"""A thousand histories of faults: no append behind a fence, nobody healthy is killed, every shard comes back."""

from __future__ import annotations

import os

import pytest
from simulated import Broken, Simulation

SEEDS = int(os.environ.get("SEEDS", "1000"))
FIRST = int(os.environ.get("FIRST_SEED", "1"))
CHUNK = 100


def lived(seed: int) -> Simulation:
    """A run; when it breaks, its command and its history are shown."""
    simulation = Simulation(seed)
    try:
        simulation.run()
    except Broken as broken:
        history = "\n".join(simulation.log)
        pytest.fail(f"{broken}\nagain: make sim SEEDS=1 FIRST_SEED={seed}\n{history}", pytrace=False)
    return simulation


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
def test_every_history_ends_well(first: int) -> None:
    """Kills, freezes, outages of the database, lost probes, healers that die and freeze: whatever comes."""
    killed = sum(len(lived(seed).kills) for seed in range(first, min(first + CHUNK, FIRST + SEEDS)))
    assert killed or SEEDS < CHUNK, "no run hung anybody long enough: the faults are too tame to show anything"


def test_the_canary_is_found() -> None:
    """Without the check of owner and epoch a stale owner's append must be noticed, within a thousand seeds."""
    for seed in range(1, 1_001):
        try:
            Simulation(seed, fence=False).run()
        except Broken:
            return
    pytest.fail("an append without a fence was never noticed: the simulation sees nothing")


def test_a_seed_is_a_history() -> None:
    """The same number gives the same run, fault by fault and entry by entry."""
    first, second = lived(7), lived(7)
    assert first.log == second.log
    assert first.journal == second.journal
