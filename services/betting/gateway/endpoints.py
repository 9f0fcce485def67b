"""The handlers of calls: the owner of a shard, another service, or the read models. They return serialized replies."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import asyncpg
import grpc.aio
from google.protobuf import message

from betting.clients.owners import inputs
from betting.clients.owners.framing import frame_command
from betting.clients.owners.router import OwnerRouter, result_of
from betting.clients.owners.shard_queues import CommandResult, Waiter
from betting.engine.ids import account_id
from betting.engine.records import unpack_record
from betting.gateway import bets
from betting.gateway.authentication import Caller
from betting.gateway.methods import Method
from betting.internal.v1 import owner_pb2
from betting.journal import read_model
from betting.journal.read_model import BetRow
from betting.runtime import context, paging, postgres
from betting.runtime.client import Target
from betting.runtime.errors import ServiceError, unavailable
from betting.v1 import bet_pb2, common_pb2

# What a page of open bets can take on the wire, per bet (20 legs).
_BET_BYTES: Final = 700
_BET_SERVICE: Final = "/betting.v1.BetService/"

Answer = bytes | ServiceError
Done = Callable[[Answer], None]


@dataclass(slots=True)  # not frozen: that would cost a microsecond per request
class Call:
    """One call: the parsed request and its serialized form, the caller if authenticated, deadline and correlation id.

    `source` is the network address of the client, as far as our own proxies report it. `traced`: the caller sent its
    own correlation id.
    """

    method: Method
    request: Any
    payload: bytes
    caller: Caller | None
    timeout_s: float
    correlation: str
    source: str
    traced: bool = False


class Endpoint(Protocol):
    """A method with one request and one reply."""

    async def unary(self, call: Call) -> bytes:
        """The serialized reply; raises ServiceError."""


class OwnerEndpoint(Protocol):
    """Answers calls with one command to the caller's shard; can do so without a task."""

    def start(self, call: Call, done: Done) -> Waiter:
        """Sends the command; `done` is called once. Raises ServiceError for a request that is refused at the edge."""


Q = TypeVar("Q", bound=message.Message)


class OwnerCall(Generic[Q]):
    """A method that is one command: `command` makes it, `reply` reads the result."""

    def __init__(
        self,
        router: OwnerRouter,
        command: Callable[[Q, bytes, bytes], owner_pb2.Command],
        reply: Callable[[Q, owner_pb2.Result], message.Message],
    ) -> None:
        self._router = router
        self._command = command
        self._reply = reply

    def start(self, call: Call, done: Done) -> Waiter:
        """See OwnerEndpoint."""
        caller = _known(call)
        request = call.request
        command = self._command(request, caller.principal, call.correlation.encode("ascii"))
        if call.traced:
            command.traced = True
        reply = self._reply

        def deliver(outcome: CommandResult) -> None:
            try:
                answer: Answer = reply(request, result_of(outcome)).SerializeToString()
            except ServiceError as error:
                answer = error
            done(answer)

        return self._router.submit(
            caller.shard_id, frame_command(command), call.timeout_s, deliver, _reply_bytes(command)
        )

    async def unary(self, call: Call) -> bytes:
        """See Endpoint."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        waiter = self.start(call, lambda answer: None if answered.done() else answered.set_result(answer))
        try:
            answer = await answered
        finally:
            waiter.give_up()
        if isinstance(answer, ServiceError):
            raise answer
        return answer


class PlaceBets:
    """Many bets of one user: one command each, all on the same shard, each answered for itself."""

    def __init__(self, router: OwnerRouter, currencies: Collection[str]) -> None:
        self._router = router
        self._currencies = currencies

    async def unary(self, call: Call) -> bytes:
        """See Endpoint. Raises the error if no bet that was sent got an answer."""
        caller = _known(call)
        request: bet_pb2.PlaceBetsRequest = call.request
        made = bets.place_bets(request, caller.principal, call.correlation.encode("ascii"), self._currencies)
        for command in made:
            if call.traced and not isinstance(command, ServiceError):
                command.traced = True
        sent = [command for command in made if not isinstance(command, ServiceError)]
        answers = await self._outcomes(caller.shard_id, sent, call.timeout_s) if sent else []
        if sent and all(isinstance(answer, ServiceError) for answer in answers):
            result_of(answers[0])
        coming = iter(answers)
        outcomes = [command if isinstance(command, ServiceError) else next(coming) for command in made]
        replies = [_placed(bet, outcome) for bet, outcome in zip(request.bets, outcomes, strict=True)]
        return bet_pb2.PlaceBetsResponse(results=replies).SerializeToString()

    async def _outcomes(
        self, shard_id: int, commands: list[owner_pb2.Command], timeout_s: float
    ) -> list[CommandResult]:
        finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        outcomes: dict[int, CommandResult] = {}

        def deliver(index: int, outcome: CommandResult) -> None:
            outcomes[index] = outcome
            if len(outcomes) == len(commands) and not finished.done():
                finished.set_result(None)

        def delivery(index: int) -> Callable[[CommandResult], None]:
            return lambda outcome: deliver(index, outcome)

        waiters = [
            self._router.submit(shard_id, frame_command(command), timeout_s, delivery(index))
            for index, command in enumerate(commands)
        ]
        try:
            await finished
        finally:
            for waiter in waiters:
                waiter.give_up()
        return [outcomes[index] for index in range(len(commands))]


class Forward:
    """Methods of another service, bytes in and bytes out; the request was parsed, so it is well-formed."""

    def __init__(self, target: Target | None, methods: list[Method]) -> None:
        self._target = target
        self._stub: dict[str, Any] = {}
        if target is not None:
            self._stub = target.stub(_raw_stub(methods))

    async def unary(self, call: Call) -> bytes:
        """See Endpoint."""
        target = self._there(call.method)
        _follow(call)
        reply: bytes = await target.call(
            self._stub[call.method.path],
            call.payload,
            timeout_s=call.timeout_s,
            idempotent=call.method.idempotent,
            hedge=call.method.hedged,
            principal=call.caller.principal if call.caller is not None else None,
        )
        return reply

    def stream(self, call: Call) -> AsyncGenerator[bytes, None]:
        """The serialized replies, until the service ends the stream. Raises ServiceError."""
        target = self._there(call.method)
        _follow(call)
        replies = target.stream(
            self._stub[call.method.path],
            call.payload,
            timeout_s=None if call.timeout_s == float("inf") else call.timeout_s,
            principal=call.caller.principal if call.caller is not None else None,
        )
        return cast("AsyncGenerator[bytes, None]", replies)

    def _there(self, method: Method) -> Target:
        if self._target is None:
            raise unavailable("SERVICE_NOT_CONFIGURED", f"{method.service} is not part of this installation")
        return self._target


def owner_endpoints(router: OwnerRouter, currencies: Collection[str]) -> dict[str, OwnerCall[Any]]:
    """The methods that are one command to the shard's owner, by path. currencies: ISO 4217 codes that are taken."""
    place = partial(bets.place_bet, currencies=currencies)
    by_key = partial(bets.get_by_request_key, currencies=currencies)
    open_bets = partial(bets.list_open_bets, currencies=currencies)
    return {
        _BET_SERVICE + "PlaceBet": OwnerCall(router, place, bets.placed_reply),
        _BET_SERVICE + "GetBet": OwnerCall(router, bets.get_bet, lambda _, result: bets.get_bet_reply(result)),
        _BET_SERVICE + "GetBetByRequestKey": OwnerCall(
            router, by_key, lambda _, result: bets.by_request_key_reply(result)
        ),
        _BET_SERVICE + "ListOpenBets": OwnerCall(
            router, open_bets, lambda _, result: bets.list_open_bets_reply(result)
        ),
    }


def forwards(methods: Mapping[str, Method], targets: Mapping[str, Target | None]) -> dict[str, Forward]:
    """Every method of the services in `targets` (by full name), by path."""
    found: dict[str, Forward] = {}
    for service, target in targets.items():
        of_service = [method for method in methods.values() if method.service == service]
        forward = Forward(target, of_service)
        found.update({method.path: forward for method in of_service})
    return found


def _raw_stub(methods: list[Method]) -> Callable[[grpc.aio.Channel], dict[str, Any]]:
    """A stub for serialized messages: bytes in, bytes out."""

    def build(channel: grpc.aio.Channel) -> dict[str, Any]:
        return {
            method.path: channel.unary_stream(method.path) if method.streams else channel.unary_unary(method.path)
            for method in methods
        }

    return build


def _placed(request: bet_pb2.PlaceBetRequest, outcome: CommandResult) -> bet_pb2.PlaceBetsResult:
    try:
        return bets.one_of_many(bets.placed_reply(request, result_of(outcome)))
    except ServiceError as error:
        return bets.error_of_many(error)


def _follow(call: Call) -> None:
    """Sets what goes on to the service with every call; a connection carries the requests of many users."""
    context.correlation_id.set(call.correlation)
    context.source.set(call.source)


def _known(call: Call) -> Caller:
    assert call.caller is not None, "methods of the owners are for signed-in users"
    return call.caller


def _reply_bytes(command: owner_pb2.Command) -> int:
    if command.HasField("list_open_bets"):
        return command.list_open_bets.page_size * _BET_BYTES
    return 0


_QUERY_TIMEOUT_S: Final = 5.0


class ListSettledBets:
    """BetService.ListSettledBets. pool: of prepared connections; currencies: ISO 4217 codes that are taken."""

    def __init__(self, pool: asyncpg.Pool, currencies: Collection[str]) -> None:
        self._pool = pool
        self._currencies = currencies

    async def unary(self, call: Call) -> bytes:
        """See Endpoint; raises INVALID_ARGUMENT, or UNAVAILABLE when the database does not answer."""
        request: bet_pb2.ListSettledBetsRequest = call.request
        assert call.caller is not None
        currency = inputs.currency(request.currency, self._currencies)
        size = paging.page_size(request.page_size)
        token = paging.decode_token(request.page_token, int)
        before = read_model.FIRST_PAGE if token is None else token[0]
        account = account_id(call.caller.user_id, currency.encode("ascii"))
        async with postgres.translated():
            rows = await read_model.settled_bets(self._pool, account, size + 1, before, timeout_s=_QUERY_TIMEOUT_S)
        return _page(rows, size, currency).SerializeToString()


def _page(rows: list[BetRow], size: int, currency: str) -> bet_pb2.ListSettledBetsResponse:
    """At most `size` bets; one row more says that there is another page."""
    shown = rows[:size]
    token = paging.encode_token(shown[-1].settled_sequence or 0) if len(rows) > size else ""
    return bet_pb2.ListSettledBetsResponse(bets=[_bet(row, currency) for row in shown], next_page_token=token)


def _bet(row: BetRow, currency: str) -> bet_pb2.Bet:
    record = unpack_record(row.record)
    legs = [
        bet_pb2.Leg(
            market_id=leg.market,
            selection_id=leg.selection,
            price=common_pb2.Price(numerator=leg.numerator, denominator=leg.denominator),
        )
        for leg in record.legs
    ]
    return bet_pb2.Bet(
        bet_id=str(uuid.UUID(bytes=row.bet)),
        request_key=str(uuid.UUID(bytes=row.request_key)),
        currency=currency,
        stake_minor=record.stake_minor,
        legs=legs,
        status=bet_pb2.BET_STATUS_SETTLED,
        potential_payout_minor=row.potential_payout_minor,
        payout_minor=row.payout_minor,
        placed_at_us=record.placed_at_us,
        settled_at_us=row.settled_at_us,
    )
