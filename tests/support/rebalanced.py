"""The operator's own loop over ShardRebalances, with bet-services that only beat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from pod_healer import beating

from betting.life import Life
from betting_operator.healing.policy import Policy, Rebalancing
from betting_operator.kubernetes.client import Client, configuration
from betting_operator.kubernetes.rebalancing import Rebalancer, Told


@asynccontextmanager
async def rebalanced(kubeconfig: Path, namespace: str, dsn: str, pods: Sequence[str]) -> AsyncIterator[None]:
    """An operator that looks after ShardRebalances, which need approval. pods: of bet-service; the first owns every
    shard."""
    connection, beats = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    lives = [Life("bet-service", each, "1") for each in pods]
    try:
        async with beating(beats, lives), Client(configuration(kubeconfig)) as client:
            await connection.execute("UPDATE betting.instances SET started_at = now() - interval '1 day'")
            await connection.execute(
                "UPDATE betting.shards SET state = 'owned', owner = $1, desired_owner = $1, address = 'x'",
                str(lives[0]),
            )
            rebalancer = Rebalancer(client, namespace)
            told = Told("demo", "1-2", dsn, policy=Policy(rebalancing=Rebalancing.APPROVE))
            rebalancer.told(told)
            task = asyncio.create_task(rebalancer.run())
            yield
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    finally:
        await connection.execute("DELETE FROM betting.instances")
        await connection.close()
        await beats.close()
