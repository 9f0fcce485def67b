"""The whole platform from its command line: the README's example, garbage at every port, and kill -9 of everything."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import psutil
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from betting.audit import audit
from betting.embedded.database import dsn_of
from betting.embedded.topology import SHARD_COUNT
from betting.gateway.methods import Access, public_methods
from betting.supervision import leftovers, state
from betting.supervision.state import PlatformState, ProcessPhase

pytestmark = pytest.mark.slow

README = Path(__file__).resolve().parents[3] / "README.md"
READY_TIMEOUT_S = 90.0
BETTING = (sys.executable, "-c", "from betting.cli.main import main; main()")
# What no server here speaks, or not like this; the last is oversized for every one of them.
GARBAGE = (
    b"\x00" * 64,
    os.urandom(4_096),
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64,
    b"*1\r\n$999999999\r\n",
    b"\x00\x00\x00\x08\x04\xd2\x16\x30",  # Postgres: a start that is cut off
    b"POST /betting.v1.BetService/PlaceBet HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 200_000,
)
# Health and addresses, public keys, and batches in which each command says whose it is.
IN_ITSELF = {
    "/betting.internal.v1.DiagnosticsService/GetDiagnostics",
    "/betting.internal.v1.SigningKeyService/ListSigningKeys",
    "/betting.internal.v1.OwnerService/Execute",
    "/betting.internal.v1.OwnerService/ExecuteShards",
}
MALFORMED = b"\xff\xff\xff\xff"
OVERSIZED_BYTES = 5 * 1024 * 1024


class Up:
    """`betting up` on a folder, as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> PlatformState:
        """Returns once everything is ready and every shard has its owner: the last processes start before that."""
        command = [*BETTING, "up", "--data", str(self.folder), "--free-ports", "--plain"]
        with (self.folder.parent / "up.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, process_group=0)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            assert self._process.poll() is None, (self.folder.parent / "up.log").read_text()[-2_000:]
            assert time.monotonic() < deadline, "it did not become ready"
            with contextlib.suppress(Exception):
                now = self.now()
                if now.supervisor_pid == self._process.pid and _all_ready(now) and self.owned_shards() == SHARD_COUNT:
                    return now
            time.sleep(0.1)  # another process: it tells by its state file and `betting status` only

    def owned_shards(self) -> int:
        """How many shards have an owner, as `betting status` tells."""
        status = subprocess.run(
            [*BETTING, "status", "--data", str(self.folder), "--plain"], capture_output=True, text=True, check=True
        )
        return sum(" owned " in line for line in status.stdout.splitlines())

    def now(self) -> PlatformState:
        """What the supervisor says."""
        return state.load(self.folder / "state.json")

    def kill_everything(self) -> None:
        """kill -9 of the supervisor and of all its children."""
        assert self._process is not None
        everything = [psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children(recursive=True)]
        for each in everything:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        self._process.wait(timeout=10)

    def end(self) -> None:
        """SIGTERM, then whatever is left."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=60)
        leftovers.end(self.folder)


def _all_ready(now: PlatformState) -> bool:
    names = {process.name for process in now.processes if process.phase is ProcessPhase.READY}
    return {"healer", "api-gateway", "season-replay", "user-service", "bet-service-2"} <= names


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Started once for all tests of this module."""
    platform = Up(tmp_path_factory.mktemp("platform") / "data")
    try:
        platform.start()
        yield platform
    finally:
        platform.end()


def example(port: int) -> str:
    """The README's blocks of shell, one after the other, at the test's port."""
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    block = "".join(each for each in blocks if "curl" in each)
    assert "http://127.0.0.1:8080" in block
    return block.replace("127.0.0.1:8080", f"127.0.0.1:{port}").replace(".venv/bin/python", sys.executable)


def test_the_readmes_example_places_a_bet_and_watches_it(up: Up) -> None:
    """As printed: registered, paid in, bet, the balance says so, and Socket.IO tells of the bet and of prices."""
    *_, placed, balance, following, watching, bet, prices = shown_by_example(up).strip().splitlines()
    assert '"betId"' in placed
    assert '"openStakesMinor": "1000"' in balance
    assert "'ok': True" in following
    assert "'ok': True" in watching
    assert bet.startswith("bet:placed {")
    assert prices.startswith("odds:update {")


def test_garbage_at_every_port_hurts_nobody(up: Up) -> None:
    """Malformed, half-open, oversized: no process ends, no log has a traceback, and meanwhile everything serves."""
    before = {process.name: process.boot_id for process in up.now().processes}
    held = []
    for port in up.now().ports.values():
        for piece in GARBAGE:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(piece)
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(0.05)
                connection.recv(1_024)
        held += [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(3)]  # they say nothing, ever
    assert up.owned_shards() == SHARD_COUNT
    bet(up)
    for connection in held:
        connection.close()
    assert {process.name: process.boot_id for process in up.now().processes} == before
    assert not crashes(up)


async def test_malformed_and_oversized_messages_are_refused_by_every_method(up: Up) -> None:
    """INVALID_ARGUMENT or an earlier no for what is no message, RESOURCE_EXHAUSTED for what is too long."""
    answers: dict[str, set[str]] = {}
    for name, port in up.now().ports.items():
        if not name.endswith(".grpc"):
            continue
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for method in await methods_of(channel):
                code = await code_of(channel, method, MALFORMED)
                answers.setdefault(code, set()).add(f"{name} {method}")
            code = await code_of(channel, "/grpc.health.v1.Health/Check", b"\x0a" + b"x" * OVERSIZED_BYTES)
            assert code == "RESOURCE_EXHAUSTED", name
    assert answers.keys() <= {"INVALID_ARGUMENT", "UNAUTHENTICATED"}, answers
    assert sum(map(len, answers.values())) > 50
    assert not crashes(up)


async def test_nobody_is_answered_without_saying_who_calls(up: Up) -> None:
    """By no service, whatever is asked; but for what anybody may ask."""
    answered: set[str] = set()
    asked = 0
    anybody = {path for path, method in public_methods().items() if method.access is Access.OPEN} | IN_ITSELF
    for name, port in up.now().ports.items():
        if not name.endswith(".grpc"):
            continue
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for method in await methods_of(channel):
                asked += 1
                if await code_of(channel, method, b"") != "UNAUTHENTICATED":
                    answered.add(method)
    assert asked > 50
    assert answered <= anybody, answered - anybody


def test_a_bet_can_be_followed_through_the_logs(up: Up) -> None:
    """Its correlation id is in the lines of the gateway and of the owner."""
    correlation = "whole-platform-7"
    bet(up, f'-H "X-Correlation-Id: {correlation}"')
    logs = {file.stem: file.read_text("utf-8") for file in (up.folder / "logs").glob("*.log")}
    found = {name for name, text in logs.items() if correlation in text}
    assert "api-gateway" in found
    assert any(name.startswith("bet-service") for name in found)


def test_chaos_finds_the_redis_primary_and_refuses_what_it_does_not_know(up: Up) -> None:
    """By its role; and nothing is done to a target that there is not."""
    data = ("--data", str(up.folder))

    def chaos(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*BETTING, "chaos", *arguments, *data], capture_output=True, text=True, timeout=60, check=False
        )

    done = chaos("continue", "redis-primary")
    assert (done.returncode, done.stdout) in [(0, "continue valkey-1: done\n"), (0, "continue valkey-2: done\n")], done
    for fault, target in (("continue", "redis-secondary"), ("melt", "redis-primary")):
        refused = chaos(fault, target)
        assert refused.returncode != 0
        assert len(refused.stderr.splitlines()) == 1, refused.stderr


def test_after_kill_9_of_everything_the_next_up_goes_on_with_the_same_data(up: Up) -> None:
    """A bet acknowledged just before is there, every promise about money holds, and new bets are taken."""
    acknowledged = bet(up)
    up.kill_everything()
    up.start()
    dsn = dsn_of(up.folder)
    bets = asyncio.run(_bets(dsn))
    assert uuid.UUID(acknowledged).bytes in bets
    report = asyncio.run(audit(dsn, None))
    assert report.holds, [check.name for check in report.failed]
    bet(up)
    assert len(asyncio.run(_bets(dsn))) == len(bets) + 1


def bet(up: Up, curl_options: str = "") -> str:
    """Places the README's bet; its id."""
    shown = shown_by_example(up, curl_options)
    found = re.search(r'"betId": ?"([0-9a-f-]+)"', shown)
    assert found is not None, shown
    return found[1]


def shown_by_example(up: Up, curl_options: str = "") -> str:
    """What the README's example prints. It is written for curl, which not every machine that runs this has."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    script = example(up.now().ports["http"])
    if curl_options:
        script = script.replace("curl ", f"curl {curl_options} ")
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def crashes(up: Up) -> list[str]:
    """Log files with a traceback in them."""
    return [file.name for file in (up.folder / "logs").glob("*.log") if "Traceback" in file.read_text("utf-8")]


async def methods_of(channel: grpc.aio.Channel) -> list[str]:
    """Every unary method a server has, by its own reflection."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)

    async def ask(**question: str) -> Any:
        return await anext(aiter(stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**question)]))))

    listed = await ask(list_services="*")
    found = []
    for service in listed.list_services_response.service:
        answer = await ask(file_containing_symbol=service.name)
        for encoded in answer.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(encoded)
            found += [
                f"/{service.name}/{method.name}"
                for each in file.service
                for method in each.method
                if f"{file.package}.{each.name}" == service.name and service.name.startswith("betting.")
                if not method.server_streaming
            ]
    return found


async def code_of(channel: grpc.aio.Channel, method: str, message: bytes) -> str:
    """How a call ends."""
    try:
        await channel.unary_unary(method)(message, timeout=5)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def _bets(dsn: str) -> list[bytes]:
    """Every bet in the journal."""

    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("SELECT bet FROM betting.journal WHERE kind = 10 ORDER BY bet")
        return [row["bet"].bytes for row in rows]
    finally:
        await connection.close()
