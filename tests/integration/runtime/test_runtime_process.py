"""The process: what it does on signals, and how its exit code tells what happened. Real processes, real signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import in_process
import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from betting.journal import migrate, schema
from betting.release import version
from betting.runtime.client import Target
from betting.runtime.errors import ServiceError
from betting.v1 import odds_pb2, odds_pb2_grpc, wallet_pb2, wallet_pb2_grpc

SCRIPT = Path(__file__).with_name("service_under_test.py")
TIMEOUT_S = 20.0


class Process:
    """A running service; its log lines, signals and exit code."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self.process = process
        self.address = address
        self.lines: list[dict[str, Any]] = []

    async def line(self, event: str) -> dict[str, Any]:
        """Reads on to the line of this event."""
        assert self.process.stdout is not None
        async with asyncio.timeout(TIMEOUT_S):
            while raw := await self.process.stdout.readline():
                self.lines.append(json.loads(raw))
                if self.lines[-1]["event"] == event:
                    return self.lines[-1]
        raise AssertionError(f"the log ended without {event!r}: {self.lines}")

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self.process.send_signal(number)

    def tell(self, text: str) -> None:
        """Writes a line to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")

    async def ended(self) -> tuple[int, str]:
        """Exit code and stderr; the rest of the log is in `lines`."""
        async with asyncio.timeout(TIMEOUT_S):
            out, error = await self.process.communicate()
        self.lines += [json.loads(line) for line in out.splitlines()]
        assert self.process.returncode is not None
        return self.process.returncode, error.decode()

    def events(self) -> list[str]:
        """What the log said, in order."""
        return [line["event"] for line in self.lines]


Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts the service under test; what still runs at the end is killed."""
    started: list[asyncio.subprocess.Process] = []

    async def _start(mode: str = "serve", **variables: str) -> Process:
        address = variables.get("BETTING_GRPC_ADDRESS") or in_process.free_address()
        environment = {
            "PATH": os.environ["PATH"],
            "BETTING_INSTANCE": "wallet-1",
            "BETTING_GRPC_ADDRESS": address,
            "BETTING_INTERNAL_SECRET": in_process.SECRET,
            "BETTING_DRAIN_TIMEOUT": "10",
        } | variables
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(SCRIPT),
            mode,
            env={name: value for name, value in environment.items() if value},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        started.append(process)
        return Process(process, address)

    yield _start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def _deposit(target: Target) -> asyncio.Future[Any]:
    stub = target.stub(wallet_pb2_grpc.WalletServiceStub)
    return asyncio.ensure_future(
        target.call(stub.Deposit, wallet_pb2.DepositRequest(), timeout_s=TIMEOUT_S, idempotent=False)
    )


async def _refusing(address: str) -> None:
    """Returns when new connections are refused."""
    host, port = address.split(":")
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                return
            writer.close()
            await writer.wait_closed()
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains(start: Start, number: signal.Signals) -> None:
    """The call in flight is finished, new ones are refused, a broken hook stops nothing, and the exit code is 0."""
    service = await start()
    await service.line("serving")
    async with in_process.calling(service.address) as target:
        deposit = _deposit(target)
        await service.line("deposit entered")
        service.signal(number)
        await service.line("hook on_drain")
        await _refusing(service.address)
        async with in_process.calling(service.address) as newcomer:
            stub = newcomer.stub(wallet_pb2_grpc.WalletServiceStub)
            with pytest.raises(ServiceError) as caught:
                await newcomer.call(stub.GetBalance, wallet_pb2.GetBalanceRequest(), timeout_s=2, idempotent=True)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        assert not deposit.done()
        service.tell("go on")
        assert (await deposit).repeated
    assert await service.ended() == (0, "")
    wanted = ["serving", "deposit entered", "draining", "hook on_drain", "drained", "hook on_close", "stopped"]
    assert [event for event in service.events() if event in wanted] == wanted
    assert service.events().count("hook failed") == 2


async def test_drain_ends_streams_and_health_watches_at_once(start: Start) -> None:
    """A watcher is told NOT_SERVING, a stream ends with UNAVAILABLE DRAINING: neither holds the process up."""
    service = await start(BETTING_DRAIN_TIMEOUT="15")
    await service.line("serving")
    async with in_process.calling(service.address) as target, grpc.aio.insecure_channel(service.address) as channel:
        stream = target.stream(target.stub(odds_pb2_grpc.OddsServiceStub).WatchPrices, odds_pb2.WatchPricesRequest())
        assert (await anext(stream)).sequence == 1
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        service.signal(signal.SIGTERM)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(ServiceError) as caught:
            await anext(stream)
        assert (caught.value.code.name, caught.value.reason) == ("UNAVAILABLE", "DRAINING")
        assert await service.ended() == (0, "")
        watch.cancel()
    drained = next(line for line in service.lines if line["event"] == "drained")
    assert drained["all_calls_finished"] is True
    assert drained["duration_s"] < 5.0


async def test_fault_signals_do_nothing_unless_they_are_allowed(start: Start) -> None:
    """Neither ends the process, which is what they do by default, nor breaks it; both are logged."""
    service = await start()
    await service.line("serving")
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        service.signal(number)
        line = await service.line("signal ignored: fault hooks are off")
        assert line["signal"] == number.name
    async with in_process.calling(service.address) as target:
        stream = target.stream(target.stub(odds_pb2_grpc.OddsServiceStub).WatchPrices, odds_pb2.WatchPricesRequest())
        assert (await anext(stream)).sequence == 1


async def test_allowed_fault_signals_break_what_the_service_has_for_them(start: Start) -> None:
    """SIGUSR2 steps the wall clock of any service; SIGUSR1 finds something to silence in a feed only."""
    service = await start(BETTING_FAULT_HOOKS="true")
    await service.line("serving")
    service.signal(signal.SIGUSR2)
    assert (await service.line("clock step injected"))["off_us"] == 5_000_000
    service.signal(signal.SIGUSR1)
    assert (await service.line("signal ignored: this service has no fault for it"))["signal"] == "SIGUSR1"


async def test_a_call_that_never_ends_is_cut_off_after_the_drain_timeout(start: Start) -> None:
    """Draining is bounded; what had to be cut off is said."""
    service = await start(BETTING_DRAIN_TIMEOUT="0.2")
    await service.line("serving")
    async with in_process.calling(service.address) as target:
        deposit = _deposit(target)
        await service.line("deposit entered")
        service.signal(signal.SIGTERM)
        with pytest.raises(ServiceError):
            await deposit
    assert (await service.ended())[0] == 0
    assert next(line for line in service.lines if line["event"] == "drained")["all_calls_finished"] is False


async def test_a_second_signal_ends_the_process_at_once(start: Start) -> None:
    """Somebody in a hurry need not wait for the drain: 128 + signal."""
    service = await start()
    await service.line("serving")
    async with in_process.calling(service.address) as target:
        deposit = _deposit(target)
        await service.line("deposit entered")
        service.signal(signal.SIGTERM)
        await service.line("draining")
        service.signal(signal.SIGTERM)
        assert (await service.ended())[0] == 128 + signal.SIGTERM
        with pytest.raises(ServiceError):
            await deposit


async def test_a_dead_background_task_is_exit_code_1(start: Start) -> None:
    """Fail stop, quickly, with the reason in the log, also while a call hangs."""
    service = await start()
    await service.line("serving")
    async with in_process.calling(service.address) as target:
        deposit = _deposit(target)
        await service.line("deposit entered")
        service.tell("die")
        assert (await service.ended())[0] == 1
        with pytest.raises(ServiceError):
            await deposit
    last = next(line for line in service.lines if line["event"] == "stopped by an error")
    assert last["level"] == "critical"
    assert "told to die" in last["exception"]
    assert "hook on_close" in service.events()
    assert "draining" not in service.events()


async def test_a_service_that_cannot_be_composed_is_exit_code_1(start: Start) -> None:
    """An error in compose is a failure like any other: logged, code 1."""
    service = await start("compose-fails")
    assert (await service.ended())[0] == 1
    assert "cannot be put together" in service.lines[-1]["exception"]


@pytest.mark.parametrize(
    ("mode", "variables", "line"),
    [
        ("serve", {"BETTING_INSTANCE": ""}, "wallet-service: BETTING_INSTANCE is not set\n"),
        (
            "serve",
            {"BETTING_INTERNAL_SECRET": "abcd"},
            "wallet-service: BETTING_INTERNAL_SECRET is wrong: give at least 32 random bytes as hexadecimal digits\n",
        ),
        (
            "needs-postgres",
            {},
            "wallet-service: BETTING_POSTGRES_DSN is not set, and this service needs it\n",
        ),
    ],
)
async def test_a_configuration_mistake_is_exit_code_2(
    start: Start, mode: str, variables: dict[str, str], line: str
) -> None:
    """One line on stderr that names the variable, no traceback."""
    service = await start(mode, **variables)
    assert await service.ended() == (2, line)


async def test_a_busy_port_is_exit_code_3(start: Start) -> None:
    """One line that names the address; the process that has the port is not disturbed."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        code, error = await (await start(BETTING_GRPC_ADDRESS=address)).ended()
        assert (code, error.count("\n")) == (3, 1)
        assert f"cannot listen on {address}" in error
        code, error = await (await start(BETTING_METRICS_ADDRESS=address)).ended()
        assert (code, error.count("\n")) == (3, 1)
        assert f"cannot serve metrics on {address}" in error


async def test_two_services_cannot_share_a_port(start: Start) -> None:
    """SO_REUSEPORT is off: the second is told, and the first goes on."""
    first = await start()
    await first.line("serving")
    second = await start(BETTING_GRPC_ADDRESS=first.address)
    assert (await second.ended())[0] == 3
    async with in_process.calling(first.address) as target:
        stub = target.stub(wallet_pb2_grpc.WalletServiceStub)
        await target.call(stub.GetBalance, wallet_pb2.GetBalanceRequest(), idempotent=True)


async def test_sigterm_while_waiting_for_postgres_ends_cleanly(start: Start) -> None:
    """A service that waits says for whom (without the password), and can still be stopped."""
    address = in_process.free_address()
    dsn = f"postgresql://user:hunter2@{address}/betting"
    service = await start("needs-postgres", BETTING_POSTGRES_DSN=dsn)
    assert (await service.line("waiting for Postgres"))["address"] == address
    service.signal(signal.SIGTERM)
    assert await service.ended() == (0, "")
    assert "hunter2" not in json.dumps(service.lines)


async def _health(address: str) -> Any:
    async with grpc.aio.insecure_channel(address) as channel:
        reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    return reply.status


async def test_a_service_waits_for_database_and_migrations_and_then_serves(start: Start, database: Any) -> None:
    """It never migrates: it says what it waits for, its health says NOT_SERVING, and it serves once all is there."""
    server = database.dsn.rpartition("/")[0]
    service = await start("needs-postgres", BETTING_POSTGRES_DSN=f"{server}/made_later")
    line = await service.line("waiting for the database to be created")
    assert (line["level"], line["address"]) == ("warning", server.rpartition("@")[2])
    assert await _health(service.address) == health_pb2.HealthCheckResponse.NOT_SERVING
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE made_later")
    ids = schema.migration_ids()
    line = await service.line("waiting for migrations: run `betting migrate`")
    assert (line["first"], line["pending"]) == (ids[0], len(ids))
    assert await _health(service.address) == health_pb2.HealthCheckResponse.NOT_SERVING
    await asyncio.to_thread(migrate.migrate, f"{server}/made_later")
    await service.line("schema is current")
    await service.line("serving")
    service.signal(signal.SIGTERM)
    assert await service.ended() == (0, "")


async def test_a_service_refuses_a_schema_of_a_newer_release(start: Start, database: Any) -> None:
    """Both versions and what to do, in one line, with the exit code of a configuration mistake."""
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO public._yoyo_migration (migration_hash, migration_id) VALUES ('x', '9000.future')"
        )
        connection.execute("INSERT INTO betting.releases (release) VALUES ('7.1.0')")
    service = await start("needs-postgres", BETTING_POSTGRES_DSN=database.dsn)
    code, error = await service.ended()
    assert code == 2
    assert error == (
        "wallet-service: the database has 1 migration that this release "
        f"({version()}, schema {schema.migration_ids()[-1]}) does not know: it has schema 9000.future, made by 7.1.0: "
        "use that release, or restore a backup from before it\n"
    )


async def test_a_service_starts_on_a_newer_schema_that_says_so(start: Start, database: Any) -> None:
    """A pod that restarts while a new release has migrated and not replaced it yet."""
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO public._yoyo_migration (migration_hash, migration_id) VALUES ('x', '9000.future')"
        )
        connection.execute("INSERT INTO betting.compatible_migrations VALUES ('9000.future', '0001.journal')")
    service = await start("needs-postgres", BETTING_POSTGRES_DSN=database.dsn)
    await service.line("serving")
    service.signal(signal.SIGTERM)
    assert await service.ended() == (0, "")


async def test_a_drain_delay_passes_between_not_serving_and_the_end(start: Start) -> None:
    """Whoever balances load gets time to look elsewhere; calls that still come meanwhile are answered."""
    service = await start(BETTING_DRAIN_DELAY="1.5")
    await service.line("serving")
    service.signal(signal.SIGTERM)
    line = await service.line("draining")
    assert line["delay_s"] == 1.5
    assert await _health(service.address) == health_pb2.HealthCheckResponse.NOT_SERVING
    async with in_process.calling(service.address) as target:
        stub = target.stub(wallet_pb2_grpc.WalletServiceStub)
        await target.call(stub.GetBalance, wallet_pb2.GetBalanceRequest(), idempotent=False)
    assert (await service.ended())[0] == 0


async def test_a_broken_pipe_behind_the_log_fails_no_request(start: Start) -> None:
    """When whoever collects the log dies, the service goes on, and still drains with exit code 0."""
    service = await start()
    await service.line("serving")
    transport = service.process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
    transport.close()
    async with in_process.calling(service.address) as target:
        stub = target.stub(wallet_pb2_grpc.WalletServiceStub)
        for _ in range(3):
            await target.call(stub.GetBalance, wallet_pb2.GetBalanceRequest(), idempotent=False)
    service.signal(signal.SIGTERM)
    async with asyncio.timeout(TIMEOUT_S):
        assert await service.process.wait() == 0


async def test_requests_are_counted_and_logged(start: Start) -> None:
    """One wide line and one count per request, with the process's name on both."""
    metrics_address = in_process.free_address()
    service = await start(BETTING_METRICS_ADDRESS=metrics_address)
    await service.line("serving")
    async with in_process.calling(service.address) as target:
        stub = target.stub(wallet_pb2_grpc.WalletServiceStub)
        token = in_process.user_token(b"\x01" * 16)
        await target.call(stub.GetBalance, wallet_pb2.GetBalanceRequest(), idempotent=True, principal=token)
    line = await service.line("request")

    def scrape() -> str:
        with urllib.request.urlopen(f"http://{metrics_address}/metrics", timeout=5) as response:
            return str(response.read().decode())

    text = await asyncio.to_thread(scrape)
    service.signal(signal.SIGTERM)
    assert await service.ended() == (0, "")
    assert (line["method"], line["code"], line["level"]) == ("/betting.v1.WalletService/GetBalance", "OK", "info")
    assert (line["workload"], line["instance"], line["role"]) == ("wallet-service", "wallet-1", "bettor")
    assert line["user_id"] == "01" * 16
    assert len(line["correlation_id"]) == 36
    wanted = (
        'betting_grpc_server_seconds_count{code="OK",instance="wallet-1",'
        'method="/betting.v1.WalletService/GetBalance",workload="wallet-service"} 1.0'
    )
    assert wanted in text


@pytest.mark.parametrize("given", ["", "0f3c5a7e9b1d2c4f"])
async def test_the_termination_log_names_the_life(start: Start, tmp_path: Path, given: str) -> None:
    """The one a supervisor gave, or one made anew by each start; nothing else is in the file, however it ends."""
    path = tmp_path / "termination-log"
    path.write_text("left by the life before, and longer than a boot id")
    boot_ids = []
    for _ in range(2):
        service = await start(BETTING_TERMINATION_LOG=str(path), BETTING_BOOT_ID=given)
        serving = await service.line("serving")
        service.signal(signal.SIGKILL)
        await service.ended()
        assert path.read_text() == serving["boot_id"]
        boot_ids.append(serving["boot_id"])
    assert boot_ids == [given, given] if given else len(set(boot_ids)) == 2


async def test_a_termination_log_that_cannot_be_written_stops_nobody(start: Start, tmp_path: Path) -> None:
    """A warning names the variable."""
    service = await start(BETTING_TERMINATION_LOG=str(tmp_path))
    await service.line("serving")
    assert "termination log not written" in service.events()


async def test_callers_leave_an_instance_that_hangs(start: Start) -> None:
    """With two instances its calls go to the other one, long before keepalive ends its connection (13 s). Streams on
    the channel that was left go on.
    """
    services = [await start(BETTING_INSTANCE=f"wallet-{number}") for number in (1, 2)]
    for service in services:
        await service.line("serving")
    async with in_process.calling(",".join(service.address for service in services)) as target:
        stub, odds = target.stub(wallet_pb2_grpc.WalletServiceStub), target.stub(odds_pb2_grpc.OddsServiceStub)

        async def is_answered() -> bool:
            try:
                await target.call(stub.GetBalance, wallet_pb2.GetBalanceRequest(), timeout_s=1.0, idempotent=False)
            except ServiceError:
                return False
            return True

        async def answered(calls: int) -> int:
            """How many of these, sent 25 ms apart, were answered."""
            sent = []
            for _ in range(calls):
                sent.append(asyncio.ensure_future(is_answered()))
                await asyncio.sleep(0.025)
            return sum(await asyncio.gather(*sent))

        stream = target.stream(odds.WatchPrices, odds_pb2.WatchPricesRequest())
        assert (await anext(stream)).sequence == 1
        assert await answered(20) == 20
        services[0].signal(signal.SIGSTOP)
        following = asyncio.ensure_future(anext(stream))
        stopped_s = time.monotonic()
        while await answered(20) < 20:
            assert time.monotonic() - stopped_s < 8.0
        assert not following.done()
        assert target.statistics().channels_left_total
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        services[0].signal(signal.SIGCONT)
