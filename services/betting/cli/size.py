"""`betting size`: the memory that bet-services need for their open bets, as resources of a BettingPlatform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from betting.bets.exposition import RECENT_KEY_BYTES
from betting.engine.state import RECENT_MINUTES
from betting.runtime.service_context import PROCESS_BYTES

# With its share of account, market index and request key: `betting bench` measured 299.
OPEN_BET_BYTES = 300
# Of the request; the autoscaler's default, memoryPercent.
USED_PERCENT = 70
# A pod that died leaves its shards to the others at once; snapshots and bursts come on top.
LIMIT_PERCENT = 150
# The healer says memory-short of one that is larger.
LARGE_BYTES = 4 * 1024**3
MIB = 1024**2
STEP_MIB = 256


@dataclass(frozen=True)
class Size:
    """Of one bet-service. needs_bytes: with its share of the shards of another one that died."""

    needs_bytes: int
    memory_mib: int
    limit_mib: int


def size(open_bets: int, bets_per_second: int, pods: int) -> Size:
    """What each of so many pods needs when the others have one less among them. Pure.

    open_bets, bets_per_second: of the whole platform, at its peak. pods: from 1, which has nobody to take over from.
    """
    sharing = max(1, pods - 1)
    held = open_bets * OPEN_BET_BYTES + bets_per_second * RECENT_MINUTES * 60 * RECENT_KEY_BYTES
    needs_bytes = PROCESS_BYTES + _divided(held, sharing)
    memory_mib = STEP_MIB * _divided(needs_bytes * 100, USED_PERCENT * STEP_MIB * MIB)
    return Size(needs_bytes, memory_mib, memory_mib * LIMIT_PERCENT // 100)


def fewest_pods(open_bets: int, bets_per_second: int) -> int:
    """So many that none is large. Pure."""
    pods = 1
    while size(open_bets, bets_per_second, pods).needs_bytes > LARGE_BYTES:
        pods = max(pods + 1, pods * 21 // 20)
    return pods


def command(
    open_bets: Annotated[int, typer.Option(min=0, max=10**12, help="Open bets of the whole platform, at most.")],
    bets_per_second: Annotated[
        int,
        typer.Option(
            min=0, max=10**7, help="Bets per second, at the peak: their request keys are kept for 15 minutes."
        ),
    ] = 0,
    pods: Annotated[int, typer.Option(min=1, max=1_000, help="Number of bet-services, at the peak.")] = 2,
) -> None:
    """Say how much memory each bet-service needs, from measured bytes per open bet."""
    found = size(open_bets, bets_per_second, pods)
    typer.echo(f"each of {pods} bet-services needs {_divided(found.needs_bytes, MIB):,} MiB, one of the others away")
    typer.echo(f"resources: {{memory: {found.memory_mib}Mi, memoryLimit: {found.limit_mib}Mi}}")
    if found.needs_bytes > LARGE_BYTES:
        fewest = fewest_pods(open_bets, bets_per_second)
        typer.echo(f"That is over {LARGE_BYTES // MIB:,} MiB: the healer would call a person. Run {fewest:,} or more.")


def _divided(whole: int, by: int) -> int:
    """Rounded up."""
    return -(-whole // by)
