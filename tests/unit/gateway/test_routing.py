"""The way to the owners: callers are held, not failed, while a shard changes hands, and nothing is answered twice."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from betting.clients.owners import Directory, OwnerRouter, Route, RouterLimits
from betting.clients.owners.directory import RouteTable
from betting.clients.owners.framing import execute_request, execute_shards_request, frame_command
from betting.clients.owners.shard_queues import ShardQueue, Waiter
from betting.internal.v1 import owner_pb2
from betting.runtime.errors import READ_MODEL_BEHIND, ServiceError, unavailable
from betting.v1 import common_pb2

LIMITS = RouterLimits(
    default_timeout_s=5.0,
    max_waiting_per_shard=50,
    abandon_after_s=0.02,
    sweep_s=0.005,
    prune_s=0.01,
    read_again_s=0.02,
    reads_again_max=3,
)
BEHIND = owner_pb2.Result(fault=owner_pb2.Fault(code=14, reason=READ_MODEL_BEHIND, message="ask again"))
NOT_OWNER = owner_pb2.Result(refusal=common_pb2.Refusal(code=common_pb2.REFUSAL_CODE_NOT_OWNER))


def command(key: bytes = b"") -> owner_pb2.Command:
    """A deposit of one."""
    return owner_pb2.Command(request_key=key, currency="GBP", deposit=owner_pb2.Deposit(amount_minor=1))


@given(
    st.lists(st.binary(max_size=300), max_size=20), st.integers(0, 2_047), st.integers(0, 2**62), st.integers(0, 10**6)
)
def test_put_together_calls_are_what_protobuf_would_write(
    keys: list[bytes], shard_id: int, epoch: int, budget_ms: int
) -> None:
    """Framed commands make the same message as building it whole."""
    commands = [command(key) for key in keys]
    whole = owner_pb2.ExecuteRequest(shard_id=shard_id, epoch=epoch, budget_ms=budget_ms, commands=commands)
    raw = execute_request(shard_id, epoch, budget_ms, [frame_command(one) for one in commands])
    assert owner_pb2.ExecuteRequest.FromString(raw) == whole
    both = owner_pb2.ExecuteShardsRequest.FromString(execute_shards_request([raw, raw]))
    assert list(both.requests) == [whole, whole]


def test_an_old_reading_of_the_directory_is_ignored() -> None:
    """Epochs only rise: a late answer of the database cannot bring a former owner back."""
    table = RouteTable()
    assert table.update([Route(1, "a", "a:1", 5, "owned")]) == [1]
    assert table.update([Route(1, "b", "b:1", 4, "owned")]) == []
    assert table.update([Route(1, None, None, 5, "free")]) == [1]
    route = table.get(1)
    assert route is not None
    assert route.owner is None


def test_a_lane_takes_batches_in_order_and_bounded() -> None:
    """Five hundred commands at most, and replies that fit into a message."""
    route = Route(0, "a", "a:1", 1, "owned")
    queue = ShardQueue(0, 10_000)
    for number in range(700):
        queue.add(Waiter(str(number).encode(), 10.0, lambda _: None))
    first = queue.take(route)
    assert first is not None
    assert [waiter.command for waiter in first.waiters] == [str(number).encode() for number in range(500)]
    queue.landed(first)
    queue.put_back(first.waiters[498:])
    second = queue.take(route)
    assert second is not None
    assert [waiter.command for waiter in second.waiters][:3] == [b"498", b"499", b"500"]
    heavy = ShardQueue(0, 10)
    for _ in range(3):
        heavy.add(Waiter(b"x", 10.0, lambda _: None, reply_bytes=900_000))
    batch = heavy.take(route)
    assert batch is not None
    assert len(batch.waiters) == 2


class Owners:
    """Owners in memory: who has which shard at which epoch, and what they do with commands."""

    def __init__(self, shards: int = 4) -> None:
        self.routes = {shard: Route(shard, "a", "a:1", 1, "owned") for shard in range(shards)}
        self.published = dict(self.routes)
        self.done: Counter[bytes] = Counter()
        self.behind: Counter[bytes] = Counter()  # how often a read finds nothing yet
        self.calls: list[tuple[str, list[int]]] = []
        self.behaviour: Callable[[str], object] | None = None
        self.closed: list[str] = []
        self.dialled: list[tuple[str, str]] = []

    def move(self, shard: int, address: str, *, publish: bool = True) -> None:
        """Gives a shard to another owner."""
        self.routes[shard] = Route(shard, address[0], address, self.routes[shard].epoch + 1, "owned")
        if publish:
            self.published[shard] = self.routes[shard]

    async def fetch(self) -> list[Route]:
        """The directory as published."""
        return list(self.published.values())

    def dial(self, owner: str, address: str) -> Connection:
        """A connection to an owner."""
        self.dialled.append((owner, address))
        return Connection(self, address)


class Connection:
    """One of those owners."""

    def __init__(self, owners: Owners, address: str) -> None:
        self._owners = owners
        self._address = address

    async def execute(self, requests: Sequence[bytes], timeout_s: float) -> Sequence[owner_pb2.ExecuteResponse]:
        """Deposits, idempotent by request key; refuses shards of others."""
        asked = [owner_pb2.ExecuteRequest.FromString(raw) for raw in requests]
        self._owners.calls.append((self._address, [request.shard_id for request in asked]))
        if self._owners.behaviour is not None:
            outcome = self._owners.behaviour(self._address)
            if isinstance(outcome, ServiceError):
                raise outcome
            if isinstance(outcome, asyncio.Event):
                await outcome.wait()
        await asyncio.sleep(0)
        return [self._answer(request) for request in asked]

    def _answer(self, request: owner_pb2.ExecuteRequest) -> owner_pb2.ExecuteResponse:
        route = self._owners.routes[request.shard_id]
        response = owner_pb2.ExecuteResponse()
        for one in request.commands:
            if (route.address, route.epoch) != (self._address, request.epoch):
                response.results.append(NOT_OWNER)
                continue
            if self._owners.behind[one.get_bet.bet_id] > 0:
                self._owners.behind[one.get_bet.bet_id] -= 1
                response.results.append(BEHIND)
                continue
            self._owners.done[one.request_key] += 1
            response.results.append(owner_pb2.Result(balance=owner_pb2.Balance(cash_minor=1)))
        return response

    async def settle_market(
        self, request: owner_pb2.SettleMarketRequest, timeout_s: float
    ) -> owner_pb2.SettleMarketResponse:
        """Refuses shards of others with a status."""
        route = self._owners.routes[request.shard_id]
        if (route.address, route.epoch) != (self._address, request.epoch):
            raise ServiceError(grpc.StatusCode.FAILED_PRECONDITION, "NOT_OWNER", "elsewhere")
        return owner_pb2.SettleMarketResponse(done=True)

    async def close(self) -> None:
        """Ends the connection."""
        self._owners.closed.append(self._address)


@asynccontextmanager
async def running(owners: Owners, limits: RouterLimits = LIMITS) -> AsyncIterator[OwnerRouter]:
    """A router in action."""
    directory = Directory(owners.fetch, min_interval_s=0.005, poll_interval_s=0.5)
    await directory.refresh()
    router = OwnerRouter(directory, owners.dial, shard_count=len(owners.routes), limits=limits)
    tasks = [asyncio.ensure_future(work()) for work in router.background]
    try:
        yield router
    finally:
        await router.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    """Lets everything else run until the condition holds; the test's own timeout is the bound."""
    while not condition():  # noqa: ASYNC110 - the router has no event for what only tests wait for
        await asyncio.sleep(0)


def users(count: int) -> list[bytes]:
    """Some user ids."""
    return [uuid.UUID(int=number + 1).bytes for number in range(count)]


async def test_concurrent_commands_share_few_calls() -> None:
    """Two hundred callers over four shards need a handful of calls, each shard once in a call."""
    owners = Owners()
    async with running(owners, RouterLimits()) as router:
        results = await asyncio.gather(*(router.execute(user, command(user)) for user in users(200)))
    assert all(result.balance.cash_minor == 1 for result in results)
    assert len(owners.calls) <= 8
    assert all(len(set(shards)) == len(shards) for _, shards in owners.calls)


async def test_a_moved_shard_is_followed() -> None:
    """A refusal as not-owner makes the router look who owns the shard now; the caller only waits."""
    owners = Owners()
    async with running(owners) as router:
        await router.execute(users(1)[0], command(b"before"))
        for shard in range(4):
            owners.move(shard, "b:1")
        results = await asyncio.gather(*(router.execute(user, command(user)) for user in users(20)))
        assert all(result.balance.cash_minor == 1 for result in results)
        await until(lambda: "a:1" in owners.closed)  # nobody is there any more
    assert set(owners.done.values()) == {1}


async def test_the_next_life_at_an_address_has_a_connection_of_its_own() -> None:
    """A restart on the same port: what was experienced with the life before is not about the new one."""
    owners = Owners(1)
    async with running(owners) as router:
        await router.execute(users(1)[0], command(b"before"))
        owners.routes[0] = owners.published[0] = Route(0, "a-reborn", "a:1", 2, "owned")
        await router.execute(users(1)[0], command(b"after"))
        assert owners.dialled == [("a", "a:1"), ("a-reborn", "a:1")]
        await until(lambda: owners.closed == ["a:1"])
    assert set(owners.done.values()) == {1}


async def test_callers_are_held_while_nobody_owns_their_shard() -> None:
    """Between two owners a command waits, and is carried out once there is one."""
    owners = Owners(1)
    owners.published[0] = Route(0, None, None, 1, "free")
    async with running(owners) as router:
        waiting = asyncio.ensure_future(router.execute(users(1)[0], command(b"k")))
        await until(lambda: router.statistics().waiting > 0)
        owners.move(0, "b:1")
        assert (await waiting).balance.cash_minor == 1
    assert owners.done == {b"k": 1}


async def test_a_lost_connection_is_tried_again_with_the_same_key() -> None:
    """The owner may have done it before the connection broke: only the same key makes asking again safe."""
    owners = Owners(1)
    failures = iter([unavailable("X", "x"), unavailable("X", "x")])
    owners.behaviour = lambda _: next(failures, None)
    async with running(owners) as router:
        assert (await router.execute(users(1)[0], command(b"same"))).balance.cash_minor == 1
        assert router.statistics().repeats_total == 2
    assert owners.done == {b"same": 1}


async def test_a_hanging_owner_is_left_when_the_directory_names_another() -> None:
    """A frozen owner never answers; once the shard was stolen, callers go to the thief within the grace time."""
    owners = Owners(1)
    never = asyncio.Event()
    owners.behaviour = lambda address: never if address == "a:1" else None
    async with running(owners) as router:
        waiting = asyncio.ensure_future(router.execute(users(1)[0], command(b"k")))
        await until(lambda: bool(owners.calls))
        owners.move(0, "b:1")
        async with asyncio.timeout(2):
            assert (await waiting).balance.cash_minor == 1
    assert owners.done == {b"k": 1}


async def test_a_caller_whose_deadline_passes_is_told_what_is_known() -> None:
    """Never sent: nothing was done. Sent and unanswered: the outcome is unknown."""
    owners = Owners(2)
    owners.published[0] = Route(0, None, None, 1, "free")
    never = asyncio.Event()
    owners.behaviour = lambda _: never
    async with running(owners) as router:
        by_shard = {router.shard_of(user): user for user in users(20)}
        with pytest.raises(ServiceError) as unsent:
            await router.execute(by_shard[0], command(), timeout_s=0.03)
        with pytest.raises(ServiceError) as sent:
            await router.execute(by_shard[1], command(), timeout_s=0.03)
    assert (unsent.value.code, unsent.value.reason) == (grpc.StatusCode.UNAVAILABLE, "SHARD_UNAVAILABLE")
    assert (sent.value.code, sent.value.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "OUTCOME_UNKNOWN")


async def test_deadlines_are_kept_also_by_a_router_that_rested() -> None:
    """Nobody called for a while: the first caller's deadline is looked after all the same."""
    owners = Owners(1)
    owners.published[0] = Route(0, None, None, 1, "free")
    patient = RouterLimits(sweep_s=0.005, prune_s=60.0)
    async with running(owners, patient) as router:
        await asyncio.sleep(0.05)
        began = asyncio.get_running_loop().time()
        with pytest.raises(ServiceError):
            await router.execute(users(1)[0], command(), timeout_s=0.1)
        assert asyncio.get_running_loop().time() - began < 5


async def test_a_deadline_ends_the_wait_of_its_caller_only() -> None:
    """Others in the same call get their answers."""
    owners = Owners(1)
    release = asyncio.Event()
    owners.behaviour = lambda _: release
    async with running(owners) as router:
        user = users(1)[0]
        patient = asyncio.ensure_future(router.execute(user, command(b"patient")))
        with pytest.raises(ServiceError):
            await router.execute(user, command(b"hasty"), timeout_s=0.02)
        release.set()
        assert (await patient).balance.cash_minor == 1
    assert owners.done == {b"patient": 1, b"hasty": 1}


async def test_held_callers_are_bounded() -> None:
    """Beyond the bound a caller is refused as overloaded, which leaves its key free."""
    owners = Owners(1)
    owners.published[0] = Route(0, None, None, 1, "free")
    async with running(owners) as router:
        held = [asyncio.ensure_future(router.execute(users(1)[0], command())) for _ in range(50)]
        await until(lambda: router.statistics().waiting == 50)
        refused = await router.execute(users(1)[0], command())
        assert refused.refusal.code == common_pb2.REFUSAL_CODE_OVERLOADED
        owners.move(0, "b:1")
        assert len(await asyncio.gather(*held)) == 50


async def test_a_quarantined_shard_answers_at_once() -> None:
    """Nobody may own it, so waiting would be in vain."""
    owners = Owners(1)
    owners.published[0] = Route(0, None, None, 1, "quarantined")
    async with running(owners) as router:
        result = await router.execute(users(1)[0], command())
    assert result.refusal.code == common_pb2.REFUSAL_CODE_SHARD_FROZEN


async def test_an_owner_that_refuses_the_call_itself_is_not_asked_again() -> None:
    """A fault that asking again cannot mend is answered, without its inner text."""
    owners = Owners(1)
    owners.behaviour = lambda _: ServiceError(grpc.StatusCode.INVALID_ARGUMENT, "COMMAND_COUNT", "secret detail")
    async with running(owners) as router:
        with pytest.raises(ServiceError) as caught:
            await router.execute(users(1)[0], command())
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.INTERNAL, "OWNER_CALL")
    assert "secret" not in caught.value.message
    assert len(owners.calls) == 1


async def test_settling_follows_a_moved_shard() -> None:
    """SettleMarket says not-owner with a status; the router goes where the shard is now."""
    owners = Owners(1)
    async with running(owners) as router:
        owners.move(0, "b:1")
        assert (await router.settle_market(0, 5, 1, {1: 5}, timeout_s=2)).done


def read(bet_id: bytes) -> owner_pb2.Command:
    """A look at a settled bet."""
    return owner_pb2.Command(get_bet=owner_pb2.GetBet(bet_id=bet_id))


async def test_a_read_that_is_early_is_repeated_and_nobody_waits_with_it() -> None:
    """The read models lag: the reader hears nothing of it, and bets to the same shard go on meanwhile."""
    owners = Owners(1)
    owners.behind[b"early"] = 2
    async with running(owners) as router:
        reading = asyncio.ensure_future(router.execute(users(1)[0], read(b"early")))
        await until(lambda: owners.behind[b"early"] == 1)
        assert (await router.execute(users(1)[0], command(b"k"))).balance.cash_minor == 1
        assert not reading.done()
        assert (await reading).balance.cash_minor == 1


async def test_a_read_is_not_repeated_for_ever() -> None:
    """Read models that stand still are said to, after a few tries or when the caller's time is nearly up."""
    owners = Owners(1)
    owners.behind[b"stuck"] = 1_000
    async with running(owners) as router:
        with pytest.raises(ServiceError) as caught:
            await router.execute(users(1)[0], read(b"stuck"))
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, READ_MODEL_BEHIND)
        assert owners.behind[b"stuck"] == 1_000 - 1 - LIMITS.reads_again_max
        with pytest.raises(ServiceError) as caught:
            await router.execute(users(1)[0], read(b"stuck"), timeout_s=0.03)
        assert caught.value.reason == READ_MODEL_BEHIND


async def test_closing_answers_reads_that_are_put_off() -> None:
    """Also those that wait in no queue."""
    owners = Owners(1)
    owners.behind[b"early"] = 1
    slow = RouterLimits(read_again_s=1.0)
    async with running(owners, slow) as router:
        reading = asyncio.ensure_future(router.execute(users(1)[0], read(b"early")))
        await until(lambda: owners.behind[b"early"] == 0)
        await asyncio.sleep(0.01)
    with pytest.raises(ServiceError) as caught:
        await reading
    assert caught.value.reason == "SHUTTING_DOWN"


async def test_closing_answers_everybody() -> None:
    """Nobody waits for a process that has gone."""
    owners = Owners(1)
    owners.published[0] = Route(0, None, None, 1, "free")
    async with running(owners) as router:
        waiting = asyncio.ensure_future(router.execute(users(1)[0], command()))
        await until(lambda: router.statistics().waiting > 0)
    with pytest.raises(ServiceError) as caught:
        await waiting
    assert caught.value.reason == "SHUTTING_DOWN"


async def test_a_database_that_is_away_leaves_the_known_routes() -> None:
    """The directory in memory goes on to serve."""
    owners = Owners(1)
    async with running(owners) as router:

        async def away() -> list[Route]:
            raise unavailable("POSTGRES_UNAVAILABLE", "away")

        owners.fetch = away  # type: ignore[method-assign]
        assert (await router.execute(users(1)[0], command(b"k"))).balance.cash_minor == 1


async def test_a_frozen_shard_answers_at_once_though_its_owner_is_still_named() -> None:
    """Whoever froze it has dropped its memory and would say NOT_OWNER until the callers' deadlines."""
    owners = Owners(1)
    owners.published[0] = Route(0, "a", "a:1", 1, "frozen")
    owners.routes[0] = Route(0, "nobody", "x:1", 1, "frozen")
    async with running(owners) as router:
        result = await router.execute(users(1)[0], command(), timeout_s=5)
    assert result.refusal.code == common_pb2.REFUSAL_CODE_SHARD_FROZEN


async def test_who_was_on_the_way_to_a_shard_that_freezes_is_not_told_that_nothing_was_done() -> None:
    """The call that carried the command broke off; another, still waiting behind it, was never sent."""
    owners = Owners(1)
    owners.behaviour = lambda _: unavailable("CUT", "cut")
    async with running(owners) as router:
        sent = asyncio.ensure_future(router.execute(users(1)[0], command(b"sent")))
        await until(lambda: bool(owners.calls))
        owners.published[0] = Route(0, "a", "a:1", 1, "frozen")
        with pytest.raises(ServiceError, match="may have been carried out") as error:
            await sent
        assert error.value.reason == "OUTCOME_UNKNOWN"
        result = await router.execute(users(1)[0], command(b"never sent"))
    assert "nothing was done" in result.refusal.message


def test_a_caller_that_cannot_take_its_answer_keeps_nobody_else_from_theirs() -> None:
    """Its neighbours in the batch have theirs."""
    queue = ShardQueue(0, 10)
    told: list[object] = []

    def broken(_: object) -> None:
        raise RuntimeError("gone")

    for deliver in (told.append, broken, told.append):
        queue.add(Waiter(b"x", 10.0, deliver))
    queue.freeze()
    assert len(told) == 2
