"""The gRPC server over real sockets: what callers see of deadlines, limits, identities and errors."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import in_process
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from betting.internal.v1 import diagnostics_pb2, diagnostics_pb2_grpc
from betting.runtime import context, errors, principal
from betting.runtime.errors import ServiceError
from betting.runtime.service import Composition, ServiceContext
from betting.v1 import health_pb2 as platform_pb2
from betting.v1 import odds_pb2, wallet_pb2

Serve = Callable[..., AbstractAsyncContextManager[Any]]
BALANCE = "/betting.v1.WalletService/GetBalance"


async def _refused(call: Any) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await call
    return caught.value


async def _raw(address: str, request: bytes, path: str = BALANCE, **options: Any) -> bytes:
    """A call without any of our client: bytes out, bytes in. Raises AioRpcError."""
    async with grpc.aio.insecure_channel(address) as channel:
        return await _bytes_method(channel, path)(request, **options)


def _bytes_method(channel: grpc.aio.Channel, path: str = BALANCE) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    return channel.unary_unary(path)


async def test_an_error_carries_google_error_info(serve: Serve) -> None:
    """A plain gRPC client finds code, message and ErrorInfo where google.rpc says, and the correlation id."""

    async def refuse(_request: Any, _context: Any) -> Any:
        raise errors.failed_precondition("OWES_RECEIVABLE", "pay what is owed first")

    async with serve(get_balance=refuse) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _raw(served.address, b"", metadata=((context.CORRELATION_KEY, "corr-7"),))
    trailers = dict(caught.value.trailing_metadata() or ())
    info = error_details_pb2.ErrorInfo()
    status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details[0].Unpack(info)
    assert (caught.value.code(), caught.value.details()) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "pay what is owed first",
    )
    assert (info.reason, info.domain) == ("OWES_RECEIVABLE", "selfhealing.bet")
    assert trailers["x-correlation-id"] == "corr-7"


async def test_an_unexpected_error_shows_an_id_and_nothing_of_its_cause(serve: Serve) -> None:
    """The caller gets something to quote, not our insides."""

    async def broken(_request: Any, _context: Any) -> Any:
        raise RuntimeError("hunter2 in table users")

    async with serve(get_balance=broken) as served:
        with context.bound(correlation="corr-8"):
            error = await _refused(served.balance(idempotent=False))
    assert error.code is grpc.StatusCode.INTERNAL
    assert error.message.startswith("internal error: ")
    assert error.message.endswith("the correlation id corr-8")


async def test_bytes_that_are_no_message_are_the_callers_error(serve: Serve) -> None:
    """A request that cannot be parsed is INVALID_ARGUMENT, and the next one is served."""
    async with serve() as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _raw(served.address, b"\xff\xff\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        await served.balance()


async def _shout(address: str, data: bytes) -> None:
    """Sends bytes over a connection of their own and reads until the server hangs up, which it may do at any point."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    with contextlib.suppress(OSError):
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(10):
            await reader.read()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def test_garbage_on_the_port_does_not_harm_the_server(serve: Serve) -> None:
    """HTTP/1, TLS hellos, half a preface, noise: connections end, the service goes on."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    rubbish = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01" + bytes(500),
        preface[:10],
        preface + b"\xff" * 5000,
        bytes(70_000),
    ]
    async with serve() as served:
        for data in rubbish * 3:
            await _shout(served.address, data)
        await served.balance()


async def test_a_message_over_the_limit_is_refused_and_the_next_served(serve: Serve) -> None:
    """4 MiB and a little: RESOURCE_EXHAUSTED; a call within the limit on the same server works."""
    async with serve() as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _raw(served.address, bytes(4 * 1024 * 1024 + 1))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await served.balance()


async def test_our_client_names_an_oversize_message(serve: Serve) -> None:
    """Through a Target the reason is MESSAGE_TOO_LARGE, for requests and for answers, and is not tried again."""
    calls = 0

    async def large(_request: Any, _context: Any) -> Any:
        nonlocal calls
        calls += 1
        return wallet_pb2.GetBalanceResponse(balance=wallet_pb2.Balance(currency="x" * 3000))

    async with serve(get_balance=large, target={"max_message_bytes": 2048}) as served:
        answer = await _refused(served.balance())
        request = wallet_pb2.DepositRequest(currency="x" * 3000)
        asked = await _refused(served.target.call(served.wallet.Deposit, request, idempotent=False))
    assert (answer.code.name, answer.reason, calls) == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE", 1)
    assert asked.reason == "MESSAGE_TOO_LARGE"


async def test_deadline_and_correlation_id_follow_two_hops(serve: Serve) -> None:
    """The second service sees the first caller's id, and no more time than the first had left."""
    seen: list[tuple[str, float | None]] = []

    async def note(_request: Any, _context: Any) -> Any:
        seen.append((context.correlation_id.get(), context.remaining_s()))
        return wallet_pb2.GetBalanceResponse()

    async with serve(get_balance=note) as second:

        async def hand_on(request: Any, servicer_context: Any) -> Any:
            await note(request, servicer_context)
            await asyncio.sleep(0.05)
            return await second.balance()

        async with serve(get_balance=hand_on) as first:
            with context.bound(correlation="corr-two-hops"):
                await first.balance(timeout_s=10.0)
    assert [correlation for correlation, _ in seen] == ["corr-two-hops"] * 2
    first_s, second_s = (remaining_s for _, remaining_s in seen)
    assert first_s is not None
    assert second_s is not None
    # gRPC sends a timeout rounded up to three digits: of 10.001 s it makes 10.1 s.
    assert 5.0 < first_s <= 10.1
    assert second_s <= first_s - 0.03


async def test_a_request_without_an_id_gets_one_and_is_told(serve: Serve) -> None:
    """The id made here is in the trailers, so that even a bare client can quote it."""
    seen: list[str] = []

    async def note(_request: Any, _context: Any) -> Any:
        seen.append(context.correlation_id.get())
        return wallet_pb2.GetBalanceResponse()

    async with serve(get_balance=note) as served:
        async with grpc.aio.insecure_channel(served.address) as channel:
            call = _bytes_method(channel)(b"")
            await call
            told = dict(await call.trailing_metadata())["x-correlation-id"]
        await _raw(served.address, b"", metadata=((context.CORRELATION_KEY, "x" * 65),))
    assert told == seen[0]
    assert len(seen[0]) == len(seen[1]) == 36


async def test_a_caller_without_a_deadline_gets_the_default(serve: Serve) -> None:
    """Nothing runs for ever because somebody forgot a timeout; the handler is cancelled."""
    cancelled = asyncio.Event()

    async def hang(_request: Any, _context: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with serve(get_balance=hang, settings={"default_deadline": 0.05}) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _raw(served.address, b"")
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert cancelled.is_set()


async def test_a_passed_deadline_cancels_the_handler_and_frees_its_place(serve: Serve) -> None:
    """With one place and no queue, the next caller gets in after the first one's deadline."""
    started, ended = asyncio.Event(), asyncio.Event()

    async def hang(_request: Any, _context: Any) -> Any:
        if started.is_set():
            return wallet_pb2.GetBalanceResponse()
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serve(get_balance=hang, settings={"server_in_flight": 1, "server_queued": 0}) as served:
        error = await _refused(served.balance(timeout_s=0.1))
        assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(20):
            await ended.wait()
        await asyncio.sleep(0)
        await served.balance()


class _Gate:
    """A handler that waits to be let through and counts who is inside."""

    def __init__(self) -> None:
        self.entered = 0
        self.arrived = asyncio.Condition()
        self.open = asyncio.Event()

    async def __call__(self, _request: Any, _context: Any) -> Any:
        async with self.arrived:
            self.entered += 1
            self.arrived.notify_all()
        await self.open.wait()
        return wallet_pb2.GetBalanceResponse()

    async def wait_for(self, count: int) -> None:
        """Returns when so many have come in."""
        async with self.arrived:
            async with asyncio.timeout(20):
                await self.arrived.wait_for(lambda: self.entered >= count)


async def test_over_the_bulkhead_is_overloaded_and_queued_calls_are_served(serve: Serve) -> None:
    """Two places, one in the queue: of four callers three are served and one is told OVERLOADED."""
    gate = _Gate()
    async with serve(get_balance=gate, settings={"server_in_flight": 2, "server_queued": 1}) as served:
        calls = [asyncio.ensure_future(served.balance()) for _ in range(4)]
        done, _ = await asyncio.wait(calls, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        (refused,) = done
        error = refused.exception()
        assert isinstance(error, ServiceError)
        assert (error.code.name, error.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert gate.entered == 2
        gate.open.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, wallet_pb2.GetBalanceResponse) for result in results) == 3


async def test_unbounded_methods_and_streams_take_no_place(serve: Serve) -> None:
    """With the only place taken, a method with its own queue, a stream and diagnostics still answer."""
    gate = _Gate()
    settings = {"server_in_flight": 1, "server_queued": 0}
    async with serve(get_balance=gate, settings=settings, unbounded=frozenset({"Deposit"})) as served:
        waiting = asyncio.ensure_future(served.balance())
        await gate.wait_for(1)
        await served.deposit()
        stream = served.target.stream(served.odds.WatchPrices, odds_pb2.WatchPricesRequest())
        assert [message.sequence async for message in stream] == [1, 2, 3]
        diagnostics = served.target.stub(diagnostics_pb2_grpc.DiagnosticsServiceStub)
        await served.target.call(diagnostics.GetDiagnostics, diagnostics_pb2.GetDiagnosticsRequest(), idempotent=True)
        assert (await _refused(served.balance())).reason == "OVERLOADED"
        gate.open.set()
        await waiting


async def test_who_is_calling(serve: Serve) -> None:
    """A good token names the caller, none is fine where nobody asks, a bad one is UNAUTHENTICATED with its reason."""
    seen: list[principal.Principal | None] = []

    async def note(_request: Any, _context: Any) -> Any:
        seen.append(principal.current.get())
        return wallet_pb2.GetBalanceResponse()

    async def need(_request: Any, servicer_context: Any) -> Any:
        principal.require_user(servicer_context)
        return wallet_pb2.DepositResponse()

    user = b"\x07" * 16
    async with serve(get_balance=note, deposit=need) as served:
        await served.balance(principal=in_process.user_token(user))
        await served.balance()
        forged = await _refused(served.balance(principal=in_process.user_token(user, secret="00" * 32)))
        expired = await _refused(served.balance(principal=in_process.user_token(user, expires_at_us=1)))
        missing = await _refused(served.deposit())
        await served.deposit(principal=in_process.user_token(user))
    assert seen[0] is not None
    assert seen[0].user_id == user
    assert seen[1:] == [None]
    assert {error.code.name for error in (forged, expired, missing)} == {"UNAUTHENTICATED"}
    assert [forged.reason, expired.reason, missing.reason] == [
        "PRINCIPAL_FORGED",
        "PRINCIPAL_EXPIRED",
        "PRINCIPAL_MISSING",
    ]


async def test_nothing_of_the_starters_context_reaches_a_request(serve: Serve) -> None:
    """A server started inside a request does not lend that caller's identity or deadline to its own callers."""
    seen: list[tuple[object, ...]] = []

    async def note(_request: Any, _context: Any) -> AsyncIterator[Any]:
        seen.append((principal.current.get(), context.principal_token.get(), context.deadline.get()))
        yield odds_pb2.WatchPricesResponse(sequence=1)

    caller = principal.Principal(b"\x01" * 16, principal.Role.OPERATOR, bytes(16), in_process.FAR_FUTURE_US)
    resets = principal.current.set(caller), context.principal_token.set(b"token"), context.deadline.set(0.0)
    starter = contextvars.copy_context()
    principal.current.reset(resets[0])
    context.principal_token.reset(resets[1])
    context.deadline.reset(resets[2])

    async def scenario() -> None:
        async with serve(watch=note) as served:
            stream = served.target.stream(served.odds.WatchPrices, odds_pb2.WatchPricesRequest())
            assert [message.sequence async for message in stream] == [1]

    await asyncio.get_running_loop().create_task(scenario(), context=starter)
    assert seen == [(None, None, None)]


async def test_health_diagnostics_and_reflection(serve: Serve) -> None:
    """Standard clients find every service, and what the instance says of itself is true."""
    async with serve() as served, grpc.aio.insecure_channel(served.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "betting.v1.WalletService", "betting.v1.OddsService"):
            status = (await health.Check(health_pb2.HealthCheckRequest(service=name))).status
            assert status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
            await health.Check(health_pb2.HealthCheckRequest(service="nobody"))
        stub = diagnostics_pb2_grpc.DiagnosticsServiceStub(channel)  # type: ignore[no-untyped-call]
        instance = (await stub.GetDiagnostics(diagnostics_pb2.GetDiagnosticsRequest())).instance
        listing = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        )
        answers = [answer async for answer in listing]
    names = {service.name for service in answers[0].list_services_response.service}
    assert {"betting.v1.WalletService", "grpc.health.v1.Health", "betting.internal.v1.DiagnosticsService"} <= names
    assert (instance.instance, instance.address) == ("test-1", served.address)
    assert instance.state == platform_pb2.SERVICE_STATE_SERVING
    assert instance.resident_bytes > 10_000_000
    assert len(instance.boot_id) == 16


async def test_a_method_left_out_is_unimplemented(serve: Serve) -> None:
    """A servicer need not implement everything: callers are told so."""
    async with serve() as served:
        error = await _refused(
            served.target.call(served.wallet.Withdraw, wallet_pb2.WithdrawRequest(), idempotent=False)
        )
    assert error.code is grpc.StatusCode.UNIMPLEMENTED


async def test_a_stream_that_fails_says_why_after_what_it_sent(serve: Serve) -> None:
    """Messages sent before the error arrive, then the error with its reason."""

    async def two_then_fail(_request: Any, _context: Any) -> AsyncIterator[Any]:
        yield odds_pb2.WatchPricesResponse(sequence=1)
        yield odds_pb2.WatchPricesResponse(sequence=2)
        raise errors.aborted("GAP", "start again")

    async with serve(watch=two_then_fail) as served:
        got: list[int] = []

        async def read() -> None:
            async for message in served.target.stream(served.odds.WatchPrices, odds_pb2.WatchPricesRequest()):
                got.append(message.sequence)

        error = await _refused(read())
    assert got == [1, 2]
    assert (error.code.name, error.reason) == ("ABORTED", "GAP")


async def test_a_reader_that_leaves_ends_the_stream_on_the_server(serve: Serve) -> None:
    """The handler's clean-up runs when the reader goes away; nothing keeps producing for nobody."""
    ended = asyncio.Event()

    async def endless(_request: Any, _context: Any) -> AsyncIterator[Any]:
        try:
            for sequence in range(10**9):
                yield odds_pb2.WatchPricesResponse(sequence=sequence)
                await asyncio.sleep(0.001)
        finally:
            ended.set()

    async with serve(watch=endless) as served:
        stream = served.target.stream(served.odds.WatchPrices, odds_pb2.WatchPricesRequest())
        async with contextlib.aclosing(stream):
            async for message in stream:
                if message.sequence == 3:
                    break
        async with asyncio.timeout(20):
            await ended.wait()


async def test_while_composing_health_answers_and_services_say_starting() -> None:
    """A service that waits for Postgres is alive, not serving, and says so to callers at once."""
    address = in_process.free_address()
    release = asyncio.Event()

    async def compose(_context: ServiceContext) -> Composition:
        await release.wait()
        return Composition([])

    async def probe() -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            status = (await check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=5)).status
            assert status == health_pb2.HealthCheckResponse.NOT_SERVING
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await _bytes_method(channel)(b"", timeout=2)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            stub = diagnostics_pb2_grpc.DiagnosticsServiceStub(channel)  # type: ignore[no-untyped-call]
            instance = (await stub.GetDiagnostics(diagnostics_pb2.GetDiagnosticsRequest())).instance
            assert instance.state == platform_pb2.SERVICE_STATE_NOT_SERVING
        release.set()

    probing = asyncio.ensure_future(probe())
    async with in_process.running(compose, in_process.settings(grpc_address=address)) as serving:
        await probing
        assert serving == address


async def test_a_background_task_that_ends_stops_the_service() -> None:
    """Fail stop: the error of the task comes out as the cause."""

    async def dies() -> None:
        raise LookupError("gone")

    async def compose(_context: ServiceContext) -> Composition:
        return Composition([], background=[dies])

    with pytest.raises(Exception, match="background task ended") as caught:
        async with in_process.running(compose):
            await asyncio.Event().wait()
    assert isinstance(caught.value.__cause__, LookupError)
