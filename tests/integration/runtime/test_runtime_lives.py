"""Replies name the life that gave them; what callers experience is about lives, whatever an address leads to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import grpc
import in_process
import pytest
from cutting_proxy import CuttingProxy
from healing_waits import until

from betting import life
from betting.clients.owners import GrpcOwnerConnection
from betting.internal.v1 import diagnostics_pb2, diagnostics_pb2_grpc, owner_pb2
from betting.life import Life
from betting.runtime import channels, errors
from betting.runtime.client import Target
from betting.runtime.errors import ServiceError
from betting.runtime.outcomes import CallStatistics, PeerRecords
from betting.runtime.service import Composition, ServiceContext
from betting.v1 import wallet_pb2, wallet_pb2_grpc
from betting_operator.healer.prober import Prober
from betting_operator.healing.signals import Phase, Report
from betting_operator.platforms.port import Instance

Serve = Callable[..., AbstractAsyncContextManager[Any]]


async def said(address: str) -> Life:
    """Who answers there."""
    async with channels.open_channel(address, 1 << 20) as channel:
        stub = diagnostics_pb2_grpc.DiagnosticsServiceStub(channel)
        reply = await stub.GetDiagnostics(diagnostics_pb2.GetDiagnosticsRequest(), timeout=5, wait_for_ready=True)
    return Life(reply.instance.workload, reply.instance.instance, reply.instance.boot_id)


def statistics_of(target: Target) -> CallStatistics:
    """What the target's callers have experienced, as of now."""
    return target.outcomes.statistics(asyncio.get_running_loop().time())


async def balance(target: Target) -> ServiceError | None:
    """One read; its error, if it has one."""
    stub = target.stub(wallet_pb2_grpc.WalletServiceStub)
    try:
        await target.call(stub.GetBalance, wallet_pb2.GetBalanceRequest(), timeout_s=5, idempotent=False)
    except ServiceError as error:
        return error
    return None


async def test_replies_and_errors_name_the_life(serve: Serve) -> None:
    """In the trailing metadata, beside the correlation id."""

    async def refuse(_request: Any, _context: Any) -> Any:
        raise errors.aborted("SOME_REASON", "no")

    async with serve(deposit=refuse) as served:
        one = await said(served.address)
        async with channels.open_channel(served.address, 1 << 20) as channel:
            stub = wallet_pb2_grpc.WalletServiceStub(channel)
            for metadata in ((), (("x-correlation-id", "c"),)):
                call = stub.GetBalance(wallet_pb2.GetBalanceRequest(), metadata=metadata)
                await call
                assert life.named((await call.trailing_metadata()).get(life.METADATA_KEY)) == one
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Deposit(wallet_pb2.DepositRequest())
        assert life.named(dict(refused.value.trailing_metadata() or ())[life.METADATA_KEY]) == one
        assert statistics_of(served.target).life is None
        with pytest.raises(ServiceError):
            await served.deposit()
        assert statistics_of(served.target).life == one


async def test_a_service_that_starts_names_itself_in_its_refusal() -> None:
    """Its callers know from its first word on that the life before it is over."""
    composing, address = asyncio.Event(), in_process.free_address()

    async def compose(_context: ServiceContext[Any]) -> Composition:
        await composing.wait()
        return Composition(servicers=[])

    async def run() -> None:
        async with in_process.running(compose, in_process.settings(grpc_address=address)):
            pass

    starting = asyncio.ensure_future(run())
    try:
        one = await said(address)
        async with in_process.calling(address) as target:
            error = await balance(target)
            assert error is not None
            assert error.reason == "STARTING"
            assert statistics_of(target).life == one
    finally:
        composing.set()
        await starting


async def test_a_restart_on_the_same_address_begins_the_record_anew(serve: Serve) -> None:
    """Silence and failures of the life before are not held against the next one."""
    at = {"grpc_address": in_process.free_address()}
    async with in_process.calling(at["grpc_address"]) as target:
        async with serve(settings=at) as served:
            first = await said(served.address)
            assert await balance(target) is None
        for _ in range(3):
            assert await balance(target) is not None
        gone = statistics_of(target)
        assert (gone.life, gone.unanswered, gone.failures) == (first, 3, 3)
        async with serve(settings=at) as served:
            second = await said(served.address)
            assert second != first

            async def answers() -> bool:
                return await balance(target) is None

            await until(answers, "an answer")
            new = statistics_of(target)
            assert (new.life, new.calls, new.failures, new.unanswered) == (second, 1, 0, 0)


async def test_two_services_behind_one_address_in_turn_are_told_apart(serve: Serve) -> None:
    """Each for itself; once one comes back, nobody can say whom a call without an answer was meant for."""
    async with (
        serve() as one,
        serve() as other,
        CuttingProxy(f"tcp://{one.address}") as balancer,
        in_process.calling(balancer.address) as target,
    ):
        lives = {each.address: await said(each.address) for each in (one, other)}

        async def answered_by(address: str) -> Life | None:
            balancer.lead_to(f"tcp://{address}")
            balancer.cut()

            async def answers() -> bool:
                return await balance(target) is None

            await until(answers, "an answer")
            return statistics_of(target).life

        assert await answered_by(one.address) == lives[one.address]
        assert await answered_by(other.address) == lives[other.address]
        assert await answered_by(one.address) is None


async def test_an_owner_is_known_before_it_answers() -> None:
    """The directory says whom a connection leads to; the life that answers there instead has a record of its own."""
    address, owner = in_process.free_address(), Life("bet-service", "bet-service-1", "0f" * 8)
    records = PeerRecords()
    connection = GrpcOwnerConnection(address, owner, lambda: in_process.user_token(bytes(16)), records)

    def now() -> CallStatistics:
        (only,) = records.statistics(asyncio.get_running_loop().time())
        return only

    async def settle() -> str:
        with pytest.raises(ServiceError) as caught:
            await connection.settle_market(owner_pb2.SettleMarketRequest(), 30.0)
        return caught.value.reason

    try:
        for _ in range(2):
            assert await settle() == "UNAVAILABLE"
        assert (now().life, now().unanswered) == (owner, 2)
        composing = asyncio.Event()

        async def compose(_context: ServiceContext[Any]) -> Composition:
            await composing.wait()
            return Composition(servicers=[])

        async def run() -> None:
            async with in_process.running(compose, in_process.settings(grpc_address=address)):
                pass

        starting = asyncio.ensure_future(run())
        try:
            successor = await said(address)

            async def starts() -> bool:
                return await settle() == "STARTING"

            await until(starts, "the successor's first word")
            assert (now().life, now().unanswered) == (successor, 0)
        finally:
            composing.set()
            await starting
    finally:
        await connection.close()


@asynccontextmanager
async def asking(prober: Prober) -> AsyncIterator[None]:
    """The healer's prober at work."""
    task = asyncio.ensure_future(prober.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_the_healer_takes_word_on_a_life_for_no_other(serve: Serve) -> None:
    """A caller's word on a life that is over is void, though the next one has its name and its address."""
    found: list[Target] = []
    at = {"grpc_address": in_process.free_address()}

    async def compose(context: ServiceContext[Any]) -> Composition:
        found.append(context.target("wallet-service", at["grpc_address"]))
        return Composition(servicers=[])

    running: list[Instance] = []
    prober = Prober(lambda: tuple(running))

    def runs(one: Life, address: str) -> Instance:
        return Instance(one.workload, one.instance, one.boot_id, Phase.RUNNING, address=address)

    def words() -> list[Report]:
        return [each for each in prober.reports() if each.caller == "caller"]

    async with (
        in_process.running(compose, in_process.settings(instance="caller"), service="caller") as caller,
        asking(prober),
    ):
        (target,) = found
        running.append(runs(await said(caller), caller))
        async with serve(settings=at):
            first = await said(at["grpc_address"])
            running.append(runs(first, at["grpc_address"]))
            assert await balance(target) is None

            async def answered() -> bool:
                return [each.life.boot_id for each in words()] == [first.boot_id]

            await until(answered, "a word on the first life")

        async def silent() -> bool:
            await balance(target)
            return any(each.life.boot_id == first.boot_id and each.unanswered >= 2 for each in words())

        await until(silent, "silence of the first life")
        async with serve(settings=at):
            second = await said(at["grpc_address"])
            running[1] = runs(second, at["grpc_address"])

            async def seen() -> bool:
                return any(each.life.boot_id == second.boot_id for each in prober.probes())

            await until(seen, "the second life")
            assert words() == []  # the caller has not called the new life yet

            async def good_word() -> bool:
                await balance(target)
                return bool(words())

            await until(good_word, "a word on the second life")
            assert {(each.life.boot_id, each.unanswered, each.failures) for each in words()} == {(second.boot_id, 0, 0)}


async def test_another_life_that_answers_is_no_answer_of_the_one_asked(serve: Serve) -> None:
    """A restart that the platform has not told of yet does not make the old life well."""
    async with serve() as served:
        one = await said(served.address)
        old = Instance(one.workload, one.instance, "0f" * 8, Phase.RUNNING, address=served.address)
        prober = Prober(lambda: (old,))
        async with asking(prober):

            async def refused() -> bool:
                return any(each.answer.value == "refused" and each.silent_ms for each in prober.probes())

            await until(refused, "silence of the old life")
            assert prober.sizes() == ()
