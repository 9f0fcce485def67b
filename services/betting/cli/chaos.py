"""`betting chaos`: breaks something in the running platform, to see it heal."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from betting.cli.options import Data, connected, dsn_of
from betting.supervision.errors import PlatformError

TIMEOUT_S = 3.0
REDIS_PRIMARY = "redis-primary"
TARGETS = f"A process, as `betting status` lists them: bet-service-1, postgres …; or {REDIS_PRIMARY}, whichever it is."


def chaos(
    fault: Annotated[
        str,
        typer.Argument(
            help="kill, pause, continue, stick (Postgres brings it nothing), silence (a feed), step (its clock)."
        ),
    ],
    target: Annotated[str, typer.Argument(help=TARGETS)],
    duration: Annotated[
        float, typer.Option("--for", min=0, help="Seconds until a pause or stick ends; 0: it does not end by itself.")
    ] = 0.0,
    data: Data = Path(".betting"),
) -> None:
    """Break a process of the running platform on purpose, through its supervisor. See it heal: betting heal log."""
    if target == REDIS_PRIMARY:
        target = asyncio.run(_redis_primary(data))
    asyncio.run(_inject(data, fault, target, duration))
    typer.echo(f"{fault} {target}: done")


async def _inject(data: Path, fault: str, target: str, duration_s: float) -> None:
    """Raises PlatformError for what cannot be done; then nothing was."""
    import grpc

    from betting.embedded import ports_plan
    from betting.embedded.folder import DataFolder
    from betting.embedded.ports import HOST
    from betting.internal.v1 import supervisor_pb2, supervisor_pb2_grpc
    from betting.runtime.clock import now_us
    from betting.runtime.principal import METADATA_KEY, service_principal
    from betting.supervision import state

    folder = DataFolder.at(data)
    running = state.load(folder.state)
    if not folder.is_locked():
        raise PlatformError("The platform is not running on this folder: start it with `betting up`.")
    token = service_principal("betting-chaos", bytes.fromhex(folder.internal_secret()), now_us())
    request = supervisor_pb2.InjectFaultRequest(fault=fault, instance=target, duration_ms=int(duration_s * 1_000))
    async with grpc.aio.insecure_channel(f"{HOST}:{running.ports[ports_plan.SUPERVISOR]}") as channel:
        try:
            await supervisor_pb2_grpc.SupervisorServiceStub(channel).InjectFault(
                request, timeout=TIMEOUT_S, metadata=((METADATA_KEY, token),)
            )
        except grpc.aio.AioRpcError as error:
            raise PlatformError(error.details() or error.code().name) from None


async def _redis_primary(data: Path) -> str:
    """The process that is Redis primary now. Raises PlatformError."""
    from betting.journal import redis_record

    async with connected(dsn_of(None, data), "betting-chaos") as database:
        found = await redis_record.read(database)
    if found is None:
        raise PlatformError("No Redis primary is recorded: name a process, valkey-1 or valkey-2.")
    return found[0].primary
