"""Other people's Socket.IO client: npm's socket.io-client, as a browser has it, through the restart of a gateway."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from owner_calls import Bettor, Owners, user_in
from platform_fixtures import bet_service, odds, owners

__all__ = ["bet_service", "odds", "owners"]

CLIENTS = Path(__file__).resolve().parents[2] / "clients"
NODE = shutil.which("node")
NPM = shutil.which("npm")
WAIT_S = 30.0
HOME_WON = {1: 5, 2: 1, 3: 1}
AWAY_WON = {1: 1, 2: 1, 3: 5}

pytestmark = pytest.mark.skipif(NODE is None or NPM is None, reason="Node.js is not installed: node and npm are needed")


@pytest.fixture(scope="module")
def client() -> Path:
    """The client, with its packages installed."""
    assert NPM is not None
    if not (CLIENTS / "node_modules" / "socket.io-client").exists():
        run = subprocess.run([NPM, "ci"], cwd=CLIENTS, capture_output=True, text=True, timeout=100, check=False)
        assert run.returncode == 0, run.stderr
    return CLIENTS / "live.mjs"


class NodeClient:
    """What it says, line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said: list[list[Any]] = []

    async def until(self, name: str, count: int = 1) -> list[Any]:
        """The count-th line of this name."""
        assert self._process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            while len(self.all(name)) < count:
                line = await self._process.stdout.readline()
                assert line, f"it ended after {self.said}"
                self.said.append(json.loads(line))
        return self.all(name)[count - 1]

    def all(self, name: str) -> list[list[Any]]:
        """The lines of this name so far."""
        return [each for each in self.said if each[0] == name]


@asynccontextmanager
async def node_client(*arguments: str) -> AsyncIterator[NodeClient]:
    """Runs for the length of a block."""
    assert NODE is not None
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(NODE, *arguments, cwd=CLIENTS, stdin=pipe, stdout=pipe)
    try:
        yield NodeClient(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(WAIT_S):
            await process.wait()


async def test_socket_io_client_follows_a_bet_through_a_restart(
    start_gateway: Any, bet_service: Any, odds: str, owners: Owners, client: Path, unused_tcp_port: int
) -> None:
    """It upgrades to a WebSocket, connects again by itself when told to, resumes, and hears everything once."""
    address = f"127.0.0.1:{unused_tcp_port}"
    settings = {"own_shards": False, "http_address": address, "odds_service": odds}
    bettor = Bettor(user_in(1))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(bet_service())
        await owners.all_served()
        await owners.one(1, bettor.deposit(1_000))
        placed = (await owners.one(1, bettor.bet(100))).placed
        bet = str(uuid.UUID(bytes=placed.bet_id))
        async with start_gateway(**settings) as gateway:
            token = gateway.world.token(uuid.UUID(bytes=bettor.user))
            arguments = (str(client), f"http://{address}", token, bet, "1")
            node = await stack.enter_async_context(node_client(*arguments))
            assert (await node.until("connect_error"))[1] == "TOKEN_MALFORMED"
            assert (await node.until("upgraded"))[1] == "websocket"
            assert (await node.until("bet:placed"))[1]["betId"] == bet
            assert (await node.until("odds:update"))[1]["kind"] == "snapshot"
            await owners.settle_shard(1, 1, 1, HOME_WON)
            await node.until("bet:settled")
        assert (await node.until("closing"))[1]["code"] == "DRAINING"
        await node.until("disconnect")
        await owners.settle_shard(1, 1, 2, AWAY_WON)
        snapshots = len(node.all("odds:update"))
        async with start_gateway(**settings):
            assert (await node.until("bet:settled", 2))[1]["payoutMinor"] == "0"
            assert (await node.until("odds:update", snapshots + 1))[1]["kind"] == "snapshot"
            await node.until("subscribed", 2)
        assert [len(node.all(name)) for name in ("bet:placed", "bet:settled", "connected")] == [1, 2, 2]
