"""The gateway by itself: how many single bets a second it takes over HTTP, with an owner that accepts everything.

Usage: PYTHONPATH=tests/support python tests/bench/gateway_alone.py [connections ...]  (needs wrk)

The owner is a process of its own that answers after OWNER_DELAY_MS (default 3: about one group commit). What this
shows is the gateway's own cost: HTTP, gRPC-Web, token cache, rate limits, routing, gathering. It says nothing about
durability.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import grpc.aio
import in_process
import jwt
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from betting.clients.owners import Directory, GrpcOwnerConnection, OwnerRouter, Route
from betting.embedded.ports import held_ports
from betting.gateway.authentication import SigningKeys
from betting.gateway.endpoints import Call
from betting.gateway.main import Gateway, assemble
from betting.gateway.protocols.encoding import encode_frame
from betting.gateway.settings import GatewaySettings
from betting.internal.v1 import keys_pb2, owner_pb2, owner_pb2_grpc
from betting.life import Life
from betting.runtime import ids
from betting.runtime.outcomes import PeerRecords
from betting.v1 import bet_pb2, common_pb2

SHARDS = 16
USERS = 64
SECONDS = 8
DELAY_S = float(os.environ.get("OWNER_DELAY_MS", "3")) / 1000

LUA = """
local bodies, heads, made, n = {BODIES}, {TOKENS}, {}, 0
function request()
  n = n % #heads + 1
  if not made[n] then
    made[n] = wrk.format("POST", "/betting.v1.BetService/PlaceBet", {
      ["Content-Type"] = "application/grpc-web+proto", ["Authorization"] = "Bearer " .. heads[n],
      ["grpc-timeout"] = "10S" }, bodies[1])
  end
  return made[n]
end
"""


class AcceptAll(owner_pb2_grpc.OwnerServiceServicer):
    """An owner without rules, money or journal."""

    async def Execute(self, request: owner_pb2.ExecuteRequest, context: object) -> owner_pb2.ExecuteResponse:
        await asyncio.sleep(DELAY_S)
        return self._accepted(request)

    async def ExecuteShards(
        self, request: owner_pb2.ExecuteShardsRequest, context: object
    ) -> owner_pb2.ExecuteShardsResponse:
        await asyncio.sleep(DELAY_S)
        return owner_pb2.ExecuteShardsResponse(responses=[self._accepted(one) for one in request.requests])

    def _accepted(self, request: owner_pb2.ExecuteRequest) -> owner_pb2.ExecuteResponse:
        placed = owner_pb2.Placed(bet_id=bytes(16), placed_at_us=1, potential_payout_minor=955)
        return owner_pb2.ExecuteResponse(results=[owner_pb2.Result(placed=placed) for _ in request.commands])


class NoHistory:
    """The benchmark settles nothing."""

    async def unary(self, call: Call) -> bytes:
        """An empty page."""
        return b""


async def serve_owner(address: str) -> None:
    """Runs the owner until the process is ended."""
    server = grpc.aio.server()
    owner_pb2_grpc.add_OwnerServiceServicer_to_server(AcceptAll(), server)
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


async def measure(connections: list[int]) -> None:
    """Starts everything, runs wrk for each number of connections, prints a line each."""
    with held_ports(2) as ports:
        await measure_at(*(f"127.0.0.1:{port}" for port in ports), connections)


async def measure_at(owner: str, http: str, connections: list[int]) -> None:
    """The same at the owner's and the gateway's addresses."""
    process = subprocess.Popen([sys.executable, __file__, "--owner", owner])  # noqa: ASYNC220 - before anything runs
    key = Ed25519PrivateKey.generate()
    gateway, router = await start_gateway(owner, http, key)
    work = [asyncio.ensure_future(run()) for run in (*router.background, gateway.listener.sweep)]
    try:
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "bets.lua"
            script.write_text(lua(key))
            for count in connections:
                await run_wrk(count, http, script, router)
    finally:
        process.terminate()
        process.wait()
        for task in work:
            task.cancel()


async def start_gateway(owner: str, http: str, key: Ed25519PrivateKey) -> tuple[Gateway, OwnerRouter]:
    """A gateway whose limits do not bite, in front of one owner of all shards."""
    settings = in_process.settings(
        GatewaySettings,
        http_address=http,
        money_per_user_s=1e8,
        money_per_user_burst=1e8,
        requests_per_address_s=1e8,
        requests_per_address_burst=1e8,
    )

    async def routes() -> list[Route]:
        return [Route(shard, "owner@1", owner, 1, "owned") for shard in range(SHARDS)]

    async def keys() -> list[keys_pb2.SigningKey]:
        raw = key.public_key().public_bytes_raw()
        return [keys_pb2.SigningKey(key_id="k1", public_key=raw, not_after_us=2**60)]

    directory = Directory(routes)
    await directory.refresh()
    records = PeerRecords()
    router = OwnerRouter(
        directory,
        lambda owner, address: GrpcOwnerConnection(address, Life.parse("bet-service", owner), lambda: b"", records),
        shard_count=SHARDS,
    )
    gateway = assemble(settings, router=router, targets={}, keys=SigningKeys(keys), settled_bets=NoHistory())
    await gateway.listener.open()
    return gateway, router


def lua(key: Ed25519PrivateKey) -> str:
    """The wrk script: one bet, placed by many users in turn."""
    now_s = int(time.time())
    tokens = []
    for _ in range(USERS):
        said = {"iss": "betting", "sub": str(ids.new_uuid7()), "sid": str(uuid.uuid4()), "role": "bettor",
                "iat": now_s, "exp": now_s + 3_600}  # fmt: skip
        tokens.append(jwt.encode(said, key, algorithm="EdDSA", headers={"kid": "k1"}))
    price = common_pb2.Price(numerator=91, denominator=100)
    leg = bet_pb2.Leg(market_id=123_456, selection_id=1, price=price)
    request = bet_pb2.PlaceBetRequest(request_key=str(ids.new_uuid7()), currency="GBP", stake_minor=500, legs=[leg])
    body = "".join(f"\\{byte:03d}" for byte in encode_frame(request.SerializeToString()))
    listed = ", ".join(f'"{token}"' for token in tokens)
    return LUA.replace("BODIES", f'"{body}"').replace("TOKENS", listed)


async def run_wrk(connections: int, http: str, script: Path, router: OwnerRouter) -> None:
    """One run: bets a second, latency, the gateway's own CPU time per bet, bets per call to the owner."""
    before, cpu_before_s = router.statistics(), time.process_time()
    arguments = ["-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", "-s", str(script), f"http://{http}/"]
    wrk = await asyncio.create_subprocess_exec("wrk", *arguments, stdout=asyncio.subprocess.PIPE)
    output = (await wrk.communicate())[0].decode()
    after, cpu_s = router.statistics(), time.process_time() - cpu_before_s
    bets, calls = after.commands_total - before.commands_total, after.calls_total - before.calls_total
    found = {name: re.search(rf"{name}\s+([\d.]+\w*)", output) for name in ("50%", "99%", "Requests/sec:")}
    shown = {name: match[1] if match else "?" for name, match in found.items()}
    failed = re.search(r"Non-2xx.*|Socket errors.*", output)
    sys.stdout.write(
        f"{connections:4d} connections  {shown['Requests/sec:']:>9} bets/s"
        f"  p50 {shown['50%']:>8}  p99 {shown['99%']:>8}"
        f"  gateway {cpu_s / max(bets, 1) * 1e6:5.1f} us CPU per bet  {bets / max(calls, 1):6.1f} bets per call"
        f"  {failed[0] if failed else ''}\n"
    )
    sys.stdout.flush()


def main() -> int:
    """Runs the owner (its own process), or the measurement."""
    if sys.argv[1:2] == ["--owner"]:
        uvloop.run(serve_owner(sys.argv[2]))
        return 0
    if shutil.which("wrk") is None:
        sys.stderr.write("wrk is not installed: apt-get install wrk\n")
        return 2
    uvloop.run(measure([int(argument) for argument in sys.argv[1:]] or [64, 256]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
