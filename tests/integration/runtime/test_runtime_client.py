"""Targets over real sockets: when a call is sent again, when it is not sent at all, and what its caller is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import in_process
import pytest

from betting.runtime import context, errors, hedge, retry
from betting.runtime.breaker import BreakerPolicy, State
from betting.runtime.errors import ServiceError
from betting.runtime.service import Composition, ServiceContext
from betting.v1 import odds_pb2, odds_pb2_grpc, wallet_pb2, wallet_pb2_grpc

Serve = Callable[..., AbstractAsyncContextManager[Any]]


async def _refused(call: Any) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await call
    return caught.value


class _Failing:
    """A handler that fails its first `times` calls."""

    def __init__(self, times: int, error: ServiceError | None = None) -> None:
        self.times = times
        self.error = error or errors.unavailable("SHARD_MOVING", "try again")
        self.calls = 0

    async def __call__(self, _request: Any, _context: Any) -> Any:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return wallet_pb2.GetBalanceResponse(balance=wallet_pb2.Balance(cash_minor=self.calls))


async def test_an_idempotent_call_is_tried_three_times(serve: Serve) -> None:
    """Two failures are hidden, the answer is the third attempt's."""
    failing = _Failing(2)
    async with serve(get_balance=failing) as served:
        response = await served.balance()
    assert response.balance.cash_minor == 3


async def test_the_third_failure_is_the_callers(serve: Serve) -> None:
    """The remote's code, reason and message come out unchanged after three attempts."""
    failing = _Failing(99)
    async with serve(get_balance=failing) as served:
        error = await _refused(served.balance())
        assert served.target.statistics().retries.retries_total == 2
    assert (error.code.name, error.reason, error.message) == ("UNAVAILABLE", "SHARD_MOVING", "try again")
    assert failing.calls == 3


async def test_a_call_that_is_not_idempotent_is_sent_once(serve: Serve) -> None:
    """Money is never moved by a retry that its caller did not ask for."""
    failing = _Failing(1)
    async with serve(get_balance=failing) as served:
        error = await _refused(served.balance(idempotent=False))
    assert error.reason == "SHARD_MOVING"
    assert failing.calls == 1


@pytest.mark.parametrize("make", [errors.aborted, errors.invalid_argument, errors.resource_exhausted, errors.internal])
async def test_answers_that_would_stay_the_same_are_not_asked_for_again(serve: Serve, make: Any) -> None:
    """Only UNAVAILABLE is worth another attempt."""
    failing = _Failing(1, make("SOME_REASON", "no"))
    async with serve(get_balance=failing) as served:
        error = await _refused(served.balance())
    assert error.reason == "SOME_REASON"
    assert failing.calls == 1


async def test_the_retry_budget_ends_retries_in_an_outage(serve: Serve) -> None:
    """Of fifty failing calls only the first few are tried again: an outage is not doubled by its callers."""
    failing = _Failing(10**6)
    async with serve(get_balance=failing, target={"breaker": BreakerPolicy(calls_min=10**6)}) as served:
        for _ in range(50):
            await _refused(served.balance())
        statistics = served.target.statistics().retries
    assert statistics.calls_total == 50
    assert statistics.retries_total <= retry.BUDGET_CAPACITY + 50 * retry.BUDGET_PER_CALL + 5
    assert statistics.refused_total > 0
    assert failing.calls == 50 + statistics.retries_total


async def test_no_attempt_begins_after_the_deadline(serve: Serve) -> None:
    """A request with no time left makes no call at all, whatever timeout is asked for."""
    failing = _Failing(0)
    async with serve(get_balance=failing) as served:
        with context.bound(timeout_s=-0.001):
            error = await _refused(served.balance(timeout_s=5.0))
    assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert failing.calls == 0


class _Clock:
    """A clock that only tests move."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def test_the_breaker_opens_spares_the_target_and_tries_again(serve: Serve) -> None:
    """Twenty failures open it; for ten seconds nothing is sent; then probes are, and their success closes it."""
    failing, clock = _Failing(20), _Clock()
    async with serve(get_balance=failing, target={"monotonic_s": clock}) as served:
        for _ in range(20):
            await _refused(served.balance(idempotent=False))
        refused = await _refused(served.balance())
        assert (refused.code.name, refused.reason) == ("UNAVAILABLE", "BREAKER_OPEN")
        assert failing.calls == 20
        clock.now_s += 10.0
        await served.balance()
        assert served.target.statistics().classes["read"].breaker.state is State.HALF_OPEN
        await served.balance()
        await served.balance()
        assert served.target.statistics().classes["read"].breaker.state is State.CLOSED
        assert served.target.statistics().classes["read"].breaker.opened_total == 1


async def test_callers_errors_never_open_the_breaker(serve: Serve) -> None:
    """A client that sends rubbish a hundred times does not cut everybody else off."""
    failing = _Failing(100, errors.invalid_argument("STAKE_NOT_POSITIVE", "give a positive stake"))
    async with serve(get_balance=failing) as served:
        for _ in range(100):
            await _refused(served.balance())
        assert served.target.statistics().classes["read"].breaker.state is State.CLOSED
        await served.balance()


async def test_deadlines_that_callers_chose_open_no_breaker_and_are_no_silence(serve: Serve) -> None:
    """Sixty calls of 105 ms to a method that takes longer: the next caller is served, the healer hears of nothing."""
    release = asyncio.Event()

    async def slow(_request: Any, _context: Any) -> Any:
        await release.wait()
        return wallet_pb2.GetBalanceResponse()

    async with serve(get_balance=slow, settings={"server_in_flight": 60}, target={"in_flight_max": 60}) as served:
        errors_ = await asyncio.gather(*(_refused(served.balance(timeout_s=0.105)) for _ in range(60)))
        assert {error.code.name for error in errors_} == {"DEADLINE_EXCEEDED"}
        seen = served.target.outcomes.statistics(time.monotonic())
        assert (seen.unanswered, seen.silent_s, seen.failures) == (0, 0.0, 0)
        release.set()
        await served.balance()
        assert served.target.statistics().classes["read"].breaker.opened_total == 0


async def test_a_class_of_methods_that_fails_or_hangs_costs_the_others_nothing(serve: Serve) -> None:
    """Reads that fail open their own breaker, reads that hang take their own places, on both sides: writes go on."""
    failing = _Failing(20)
    async with serve(get_balance=failing) as served:
        for _ in range(20):
            await _refused(served.balance(idempotent=False))
        assert (await _refused(served.balance())).reason == "BREAKER_OPEN"
        assert served.target.open_breakers() == 1
        await served.deposit()

    async def hang(_request: Any, _context: Any) -> Any:
        await asyncio.Event().wait()

    options: dict[str, Any] = {"in_flight_max": 2, "queued_max": 0}
    async with serve(get_balance=hang, target=options, settings={"server_in_flight": 2, "server_queued": 0}) as served:
        hanging = [asyncio.ensure_future(served.balance()) for _ in range(2)]
        await asyncio.sleep(0)
        assert (await _refused(served.balance())).reason == "OVERLOADED"
        await served.deposit()
        for each in hanging:
            each.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)


async def test_nobody_listening_is_unavailable_at_once_and_names_no_address() -> None:
    """A dead peer is known within a second, by its name; the socket's error text stays inside."""
    started_s = time.monotonic()
    async with in_process.calling(in_process.free_address(), "wallet-service") as target:
        stub = target.stub(wallet_pb2_grpc.WalletServiceStub)
        error = await _refused(target.call(stub.GetBalance, wallet_pb2.GetBalanceRequest(), idempotent=False))
    assert time.monotonic() - started_s < 3.0
    assert (error.code.name, error.reason) == ("UNAVAILABLE", "UNAVAILABLE")
    assert error.message == "wallet-service cannot be reached: try again later"


async def test_a_peer_that_comes_back_is_found_within_two_seconds() -> None:
    """A restarted service is called again soon after it listens, over the same target."""

    async def compose(_context: ServiceContext) -> Composition:
        return Composition([])

    address = in_process.free_address()
    async with in_process.calling(address, breaker=BreakerPolicy(calls_min=10**6)) as target:
        stub = target.stub(odds_pb2_grpc.OddsServiceStub)

        async def code() -> str:
            error = await _refused(target.call(stub.GetPrices, odds_pb2.GetPricesRequest(), idempotent=False))
            return error.code.name

        for _ in range(20):
            assert await code() == "UNAVAILABLE"
            await asyncio.sleep(0.02)
        async with in_process.running(compose, in_process.settings(grpc_address=address)):
            started_s = time.monotonic()
            codes = ["UNAVAILABLE"]
            while codes[-1] == "UNAVAILABLE" and time.monotonic() - started_s < 2.0:
                codes.append(await code())
                await asyncio.sleep(0.02)
            assert codes[-1] == "UNIMPLEMENTED"


async def test_a_hanging_peer_costs_the_deadline_and_no_more(serve: Serve) -> None:
    """The caller is told in its own time that the answer did not come."""

    async def hang(_request: Any, _context: Any) -> Any:
        await asyncio.Event().wait()

    async with serve(get_balance=hang) as served:
        started_s = time.monotonic()
        error = await _refused(served.balance(timeout_s=0.2))
        assert time.monotonic() - started_s < 3.0
    assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert error.message == "peer did not answer in time, whether it did anything is not known: ask again"


async def test_the_clients_bulkhead_bounds_what_is_in_flight(serve: Serve) -> None:
    """One in flight, one queued: a third caller is told OVERLOADED, a queued one out of time DEADLINE_EXCEEDED."""
    release = asyncio.Event()

    async def hang(_request: Any, _context: Any) -> Any:
        await release.wait()
        return wallet_pb2.GetBalanceResponse()

    async with serve(get_balance=hang, target={"in_flight_max": 1, "queued_max": 1}) as served:
        first = asyncio.ensure_future(served.balance())
        await asyncio.sleep(0)
        second = asyncio.ensure_future(served.balance(timeout_s=0.1))
        await asyncio.sleep(0)
        assert (await _refused(served.balance())).reason == "OVERLOADED"
        assert (await _refused(second)).code is grpc.StatusCode.DEADLINE_EXCEEDED
        release.set()
        await first
        statistics = served.target.statistics().classes["read"].bulkhead
    assert (statistics.in_flight, statistics.queued) == (0, 0)


async def test_a_caller_that_gives_up_leaves_nothing_behind(serve: Serve) -> None:
    """Cancelling a call frees its place, cancels the remote handler and says nothing about the target's health."""
    started, ended = asyncio.Event(), asyncio.Event()

    async def hang(_request: Any, _context: Any) -> Any:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serve(get_balance=hang) as served:
        call = asyncio.ensure_future(served.balance())
        async with asyncio.timeout(20):
            await started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(20):
            await ended.wait()
        statistics = served.target.statistics()
    assert statistics.classes["read"].bulkhead.in_flight == 0
    assert statistics.classes["read"].breaker.calls_in_window == 0


async def test_a_slow_read_is_hedged_and_the_first_answer_wins(serve: Serve) -> None:
    """After twenty quick reads one hangs: a second is sent and answers; the first is cancelled on the server."""
    calls, abandoned = 0, asyncio.Event()

    async def slow_once(_request: Any, _context: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == hedge.SAMPLES_MIN + 1:
            try:
                await asyncio.Event().wait()
            finally:
                abandoned.set()
        return wallet_pb2.GetBalanceResponse(balance=wallet_pb2.Balance(cash_minor=calls))

    async with serve(get_balance=slow_once) as served:
        for _ in range(hedge.SAMPLES_MIN):
            await served.balance()
        response = await served.balance(hedge=True)
        assert response.balance.cash_minor == hedge.SAMPLES_MIN + 2
        assert served.target.statistics().hedges_total == 1
        async with asyncio.timeout(20):
            await abandoned.wait()
        assert served.target.statistics().classes["read"].bulkhead.in_flight == 0


async def test_money_is_never_hedged(serve: Serve) -> None:
    """Asking for a hedge of a call that is not idempotent is a mistake in our own code."""
    async with serve() as served:
        with pytest.raises(AssertionError, match="must not be hedged"):
            await served.deposit(hedge=True)


async def test_calls_on_a_closed_target_are_unavailable(serve: Serve) -> None:
    """While a process stops, its calls end as ServiceErrors: those in flight, those begun later, and streams."""

    async def hang(_request: Any, _context: Any) -> Any:
        await asyncio.Event().wait()

    async with serve(get_balance=hang, settings={"drain_timeout": 0.1}) as served:
        waiting = asyncio.ensure_future(served.balance(idempotent=False))
        await asyncio.sleep(0.05)
        await served.target.close()
        assert (await _refused(waiting)).reason == "CHANNEL_CLOSED"
        assert (await _refused(served.balance())).reason == "CHANNEL_CLOSED"

        async def read() -> None:
            async for _ in served.target.stream(served.odds.WatchPrices, odds_pb2.WatchPricesRequest()):
                raise AssertionError("nothing can come")

        assert (await _refused(read())).reason == "CHANNEL_CLOSED"


async def test_the_callers_principal_can_be_handed_on(serve: Serve) -> None:
    """A service forwards the verified token it got; it does not happen by itself."""
    seen: list[bytes | None] = []

    async def note(_request: Any, _context: Any) -> Any:
        seen.append(context.principal_token.get())
        return wallet_pb2.GetBalanceResponse()

    token = in_process.user_token(b"\x01" * 16)
    async with serve(get_balance=note) as second:

        async def hand_on(_request: Any, _context: Any) -> Any:
            await second.balance()
            return await second.balance(principal=context.principal_token.get())

        async with serve(get_balance=hand_on) as first:
            await first.balance(principal=token)
    assert seen == [None, token]


async def test_targets_are_cached_by_name_and_need_an_address() -> None:
    """Twice the same name is the same channel and breaker; another address is a mistake; none names its variable."""
    async with in_process.service_context() as service_context:
        first = service_context.target("wallet-service", "127.0.0.1:1")
        assert service_context.target("wallet-service", "127.0.0.1:1") is first
        with pytest.raises(ValueError, match="wallet-service"):
            service_context.target("wallet-service", "127.0.0.1:2")
        with pytest.raises(errors.ConfigurationError, match="BETTING_ODDS_SERVICE"):
            service_context.target("odds-service", "")
        await service_context.forget_target("wallet-service")
        assert service_context.target("wallet-service", "127.0.0.1:2") is not first
