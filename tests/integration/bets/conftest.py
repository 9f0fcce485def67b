"""bet-service with everything it needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import in_process
import pytest
from bet_processes import ORPHANED_AFTER_S, BetProcess, environment
from owner_calls import SHARDS
from platform_fixtures import bet_service, odds, owners

__all__ = ["bet_process", "bet_service", "odds", "owners"]


@pytest.fixture
def bet_process(
    database: Any, valkey: Any, odds: str, unused_tcp_port_factory: Callable[[], int], tmp_path: Path
) -> Callable[..., BetProcess]:
    """Makes (not yet started) bet-service processes."""

    def make(name: str, dsn: str = "", **more: str) -> BetProcess:
        address = f"127.0.0.1:{unused_tcp_port_factory()}"
        more = {"orphaned_after": str(ORPHANED_AFTER_S), "max_open_bets": "100000"} | more
        in_process.install(database.dsn, SHARDS)
        settings = environment(name, address, dsn or database.dsn, valkey.url, odds, **more)
        return BetProcess(name, address, settings, tmp_path / f"{name}.log")

    return make
