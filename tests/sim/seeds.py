"""Which histories are lived: `make sim SEEDS=n FIRST_SEED=n` for others than those of `make test`."""

from __future__ import annotations

import os
from typing import TypeVar

import pytest
from simulated import Simulation
from simulated_world import Broken

AnySimulation = TypeVar("AnySimulation", bound=Simulation)

SEEDS = int(os.environ.get("SEEDS", "1000"))
FIRST = int(os.environ.get("FIRST_SEED", "1"))
# In one test, so that several processes share them.
CHUNK = 100


def lived(simulation: AnySimulation) -> AnySimulation:
    """After its run; when it breaks, its command and its history are shown."""
    try:
        simulation.run()
    except Broken as broken:
        history = "\n".join(simulation.world.log)
        pytest.fail(f"{broken}\nagain: make sim SEEDS=1 FIRST_SEED={simulation.seed}\n{history}", pytrace=False)
    return simulation
