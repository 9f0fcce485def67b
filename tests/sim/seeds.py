"""Which histories are lived: `make sim SEEDS=n FIRST_SEED=n` for others than those of `make test`."""

from __future__ import annotations

import os

SEEDS = int(os.environ.get("SEEDS", "1000"))
FIRST = int(os.environ.get("FIRST_SEED", "1"))
# In one test, so that several processes share them.
CHUNK = 100
