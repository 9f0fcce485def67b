"""Calling another service, one Target per peer: deadline, retries, hedging, connections, correlation, errors.

Each class of methods (see method.py) has a breaker and a bulkhead of its own: what goes wrong with one, or keeps it
busy, is no reason not to call another.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar, cast

import grpc

from betting import life
from betting.runtime import channels, context, errors, logs, metrics, remote_errors, retry
from betting.runtime.breaker import Breaker, BreakerPolicy, BreakerStatistics, CallOutcome, State, outcome_of_error
from betting.runtime.bulkhead import IN_FLIGHT_MAX, QUEUED_MAX, Bulkhead, BulkheadStatistics
from betting.runtime.errors import ServiceError
from betting.runtime.hedge import LatencyWindow
from betting.runtime.method import class_of
from betting.runtime.outcomes import End, Outcomes, end_of
from betting.runtime.principal import METADATA_KEY
from betting.runtime.retry import RetryBudget, RetryStatistics
from betting.runtime.silence import Silence

DEFAULT_TIMEOUT_S = 5.0
DEFAULT_MESSAGE_BYTES_MAX = 4 * 1024 * 1024

_log = logs.get(__name__)

Q = TypeVar("Q")
R = TypeVar("R")
Stub = TypeVar("Stub")
Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class ClassStatistics:
    """One class of a peer's methods at one moment."""

    breaker: BreakerStatistics
    bulkhead: BulkheadStatistics


@dataclass(frozen=True, slots=True)
class TargetStatistics:
    """One peer at one moment; `classes` by name, of the methods in the stubs that were made."""

    name: str
    address: str
    classes: Mapping[str, ClassStatistics]
    retries: RetryStatistics
    hedges_total: int
    channels_left_total: int


class Target:
    """One peer: its channel and all that protects us from it and it from us. Made by `ServiceContext.target`.

    in_flight_max, queued_max: the places of each class of methods.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        in_flight_max: int = IN_FLIGHT_MAX,
        queued_max: int = QUEUED_MAX,
        max_message_bytes: int = DEFAULT_MESSAGE_BYTES_MAX,
        breaker: BreakerPolicy | None = None,
        serving_only: bool = False,
        outcomes: Outcomes | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.address = address
        self._now_s = monotonic_s
        self._open_channel = partial(channels.open_channel, address, max_message_bytes, serving_only=serving_only)
        self._channel = self._open_channel()
        self._silence = Silence(self._now_s())
        self._left: dict[asyncio.Task[None], grpc.aio.Channel] = {}
        self._channels_left_total = 0
        self._classes: dict[str, _Class] = {}
        self._policy = breaker
        self._places = (in_flight_max, queued_max)
        self._budget = RetryBudget()
        self.outcomes = outcomes or Outcomes(address)
        self._hedges_total = 0
        self._naming = _NamingChannel(name, self._class_of)
        self._stubs: dict[object, Any] = {}

    def stub(self, stub_type: Callable[[grpc.aio.Channel], Stub]) -> Stub:
        """The stub of a generated class (`bet_pb2_grpc.BetServiceStub`), whose methods `call` and `stream` take."""
        if stub_type not in self._stubs:
            self._stubs[stub_type] = stub_type(cast("grpc.aio.Channel", self._naming))
        return cast("Stub", self._stubs[stub_type])

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Q, R],
        request: Q,
        *,
        timeout_s: float | None = None,
        idempotent: bool,
        principal: bytes | None = None,
        hedge: bool = False,
    ) -> R:
        """One answer. `method` comes from a stub of this target.

        At most `timeout_s` seconds (default 5), and never longer than the current request's deadline. Only idempotent
        calls are sent again; only reads should be hedged. Raises ServiceError with the remote's code and reason, or
        UNAVAILABLE BREAKER_OPEN, RESOURCE_EXHAUSTED OVERLOADED (our own queue), DEADLINE_EXCEEDED.
        """
        assert idempotent or not hedge, "a call that is not idempotent must not be hedged"
        call = _Call(self._naming.of(method), request, self._end_s(timeout_s), _metadata(principal))
        self._budget.deposit()
        attempt = 1
        while True:
            try:
                return cast("R", await (self._hedged(call) if hedge else self._attempt(call)))
            except ServiceError as error:
                pause_s = self._pause_s(error, attempt, call) if idempotent else None
                if pause_s is None:
                    raise
            await asyncio.sleep(pause_s)
            attempt += 1

    async def stream(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[Q, R],
        request: Q,
        *,
        timeout_s: float | None = None,
        principal: bytes | None = None,
        wait_for_ready: bool = False,
        silent_after_s: Callable[[], float] | None = None,
    ) -> AsyncIterator[R]:
        """The messages of a server stream, until it ends. No deadline unless given; neither bulkhead nor retries: the
        reader decides when to start again. `wait_for_ready`: waits for an address that can be called rather than fail.
        `silent_after_s`: how many seconds the next message may take, asked before each one; a stream that takes longer
        ends with UNAVAILABLE STREAM_SILENT, and its channel is left like one on which calls get no answer.
        Raises ServiceError."""
        self._leave_if_silent(self._now_s())
        silence = self._silence
        try:
            responses = self._naming.of(method).on(self._channel)(
                request, timeout=timeout_s, metadata=_metadata(principal), wait_for_ready=wait_for_ready or None
            )
        except grpc.aio.UsageError:
            raise remote_errors.closed(self.name) from None
        messages = aiter(responses)
        try:
            while True:
                limit_s = None if silent_after_s is None else silent_after_s()
                try:
                    async with asyncio.timeout(limit_s):
                        response = await anext(messages, _STREAM_ENDED)
                except TimeoutError:
                    silence.stream_was_silent()
                    raise errors.unavailable(
                        "STREAM_SILENT", f"{self.name} sent nothing for {limit_s:g} s: ask again"
                    ) from None
                if response is _STREAM_ENDED:
                    return
                yield cast("R", response)
        except grpc.aio.AioRpcError as error:
            raise remote_errors.translated(error, self.name) from None
        except asyncio.CancelledError:
            raise self._cancelled_or_closed() from None
        finally:
            responses.cancel()

    def statistics(self) -> TargetStatistics:
        """The counts, frozen."""
        return TargetStatistics(
            name=self.name,
            address=self.address,
            classes={
                name: ClassStatistics(each.breaker.statistics(), each.bulkhead.statistics())
                for name, each in self._classes.items()
            },
            retries=self._budget.statistics(),
            hedges_total=self._hedges_total,
            channels_left_total=self._channels_left_total,
        )

    def open_breakers(self) -> int:
        """How many classes of methods are not called as usual now."""
        return sum(each.breaker.state is not State.CLOSED for each in self._classes.values())

    async def close(self) -> None:
        """Ends calls in flight and the connections."""
        left, self._left = self._left, {}
        for closing in left:
            closing.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for channel in (self._channel, *left.values()):
            await channel.close()

    def _leave_if_silent(self, now_s: float) -> None:
        """Opens a new channel where there is no answer on this one. Calls and streams in flight go on to their end."""
        if not self._silence.is_too_long(now_s):
            return
        _log.warning("connections left: no answer on them", target=self.name)
        self._channels_left_total += 1
        closing = asyncio.ensure_future(self._channel.close(math.inf))
        self._left[closing] = self._channel
        closing.add_done_callback(lambda done: self._left.pop(done, None))
        self._channel = self._open_channel()
        self._silence = Silence(now_s, replaces=True)

    def _end_s(self, timeout_s: float | None) -> float:
        """When to give up, in seconds on this target's clock."""
        asked_s = DEFAULT_TIMEOUT_S if timeout_s is None else timeout_s
        remaining_s = context.remaining_s()
        return self._now_s() + (asked_s if remaining_s is None else min(asked_s, remaining_s))

    def _pause_s(self, error: ServiceError, attempt: int, call: _Call) -> float | None:
        """Seconds until the next attempt, or None: give up."""
        if not retry.retriable(error.code) or error.reason in _OUR_OWN_REFUSALS:
            return None
        now_s = self._now_s()
        pause_s = retry.pause_s(attempt, call.end_s - now_s, random.random())
        return pause_s if pause_s is not None and self._budget.withdraw(now_s) else None

    async def _attempt(self, call: _Call) -> object:
        """One attempt: a place in the bulkhead, the breaker's leave, the wire."""
        rest_s = call.end_s - self._now_s()
        if rest_s <= 0:
            raise errors.deadline_exceeded(
                "DEADLINE_EXCEEDED", f"no time was left to call {self.name}: try again with a longer timeout"
            )
        bulkhead = call.method.kept.bulkhead
        if not bulkhead.try_enter():
            await bulkhead.enter(rest_s)
        try:
            return await self._permitted(call)
        finally:
            bulkhead.leave()

    async def _permitted(self, call: _Call) -> object:
        started_s = self._now_s()
        self._leave_if_silent(started_s)
        breaker, objective_s = call.method.kept.breaker, call.method.kept.objective_s
        permit = breaker.permit(started_s)
        if permit is None:
            raise self._breaker_open(breaker, started_s)
        timeout_s = call.end_s - started_s
        outcome, end, code = CallOutcome.NEUTRAL, End.GIVEN_UP, "CANCELLED"
        number = self.outcomes.began(started_s, objective_s)
        silence = self._silence
        number_there = silence.began(started_s, objective_s)
        named: life.Life | None = None
        try:
            response, named = await self._sent(call, timeout_s)
            outcome, end, code = CallOutcome.SUCCESS, End.ANSWERED, "OK"
        except ServiceError as error:
            outcome = outcome_of_error(error.code, error.reason, timeout_s, objective_s)
            end = end_of(error, timeout_s, objective_s)
            code = error.code.name
            named = error.life
            raise
        finally:
            ended_s = self._now_s()
            breaker.record(permit, outcome, ended_s)
            self.outcomes.ended(number, end, ended_s, named)
            silence.ended(
                number_there,
                ended_s,
                unanswered=end is End.UNANSWERED and code == grpc.StatusCode.DEADLINE_EXCEEDED.name,
            )
            call.method.observe(code, ended_s - started_s)
        return response

    async def _sent(self, call: _Call, timeout_s: float) -> tuple[object, life.Life | None]:
        """The response, and the life that gave it."""
        try:
            sent = call.method.on(self._channel)(call.request, timeout=max(timeout_s, 0.0), metadata=call.metadata)
            return await sent, life.named((await sent.trailing_metadata()).get(life.METADATA_KEY))
        except grpc.aio.AioRpcError as error:
            raise remote_errors.translated(error, self.name) from None
        except grpc.aio.UsageError:
            raise remote_errors.closed(self.name) from None
        except asyncio.CancelledError:
            raise self._cancelled_or_closed() from None

    async def _hedged(self, call: _Call) -> object:
        """The first answer of two attempts, the second begun when the first is slower than most."""
        started_s = self._now_s()
        after_s = call.method.window.hedge_after_s(call.end_s - started_s)
        if after_s is None:
            return await self._attempt(call)
        attempts = [asyncio.ensure_future(self._attempt(call))]
        try:
            done, _ = await asyncio.wait(attempts, timeout=after_s)
            if not done and self._budget.withdraw(self._now_s()):
                self._hedges_total += 1
                attempts.append(asyncio.ensure_future(self._attempt(call)))
            return await _first_success(attempts)
        finally:
            if not attempts[0].done():  # it would have been slower still: without it the percentile sinks
                call.method.window.observe(self._now_s() - started_s)
            await _abandon(attempts)

    def _cancelled_or_closed(self) -> BaseException:
        """gRPC says CancelledError both when our caller gave up and when the channel was closed under the call."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            return asyncio.CancelledError()
        return remote_errors.closed(self.name)

    def _class_of(self, path: str) -> _Class:
        found = class_of(path)
        known = self._classes.get(found.name)
        if known is None:
            in_flight_max, queued_max = self._places
            known = self._classes[found.name] = _Class(
                found.objective_s,
                Breaker(self._policy),
                Bulkhead(f"{self.name} ({found.name})", in_flight_max=in_flight_max, queued_max=queued_max),
            )
        return known

    def _breaker_open(self, breaker: Breaker, now_s: float) -> ServiceError:
        wait_s = breaker.retry_after_s(now_s)
        return errors.unavailable(
            "BREAKER_OPEN", f"{self.name} was failing and is not called now: try again in {wait_s:.0f} s"
        )


_STREAM_ENDED: Final = object()
# Answers that we gave ourselves: asking again right away would only give them again.
_OUR_OWN_REFUSALS = frozenset({"BREAKER_OPEN", "CHANNEL_CLOSED"})


@dataclass(frozen=True, slots=True)
class _Call:
    """What all attempts of one call share; `end_s` on the target's clock."""

    method: _Method
    request: object
    end_s: float
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class _Class:
    """What the methods of one class share."""

    objective_s: float
    breaker: Breaker
    bulkhead: Bulkhead


class _Method:
    """One method of one target: how it is called on a channel, and what we have seen of it.

    make: gives its callable on a channel. kept: what it shares with the others of its class.
    """

    def __init__(self, target: str, path: str, kept: _Class, make: Callable[[grpc.aio.Channel], Any]) -> None:
        self.kept = kept
        self.target = target
        self._make = make
        self._made: tuple[grpc.aio.Channel, Any] | None = None
        self._path = path
        self._series: dict[str, metrics.Series] = {}
        self.window = LatencyWindow()

    def on(self, channel: grpc.aio.Channel) -> Any:
        """Its callable on this channel, made once."""
        if self._made is None or self._made[0] is not channel:
            self._made = channel, self._make(channel)
        return self._made[1]

    def observe(self, code: str, seconds: float) -> None:
        series = self._series.get(code)
        if series is None:
            series = self._series[code] = _latencies().series(self.target, self._path, code)
        series.observe(seconds)
        if code == "OK":
            self.window.observe(seconds)


class _NamingChannel:
    """What generated stubs take for a channel: it notes how each method is called, as the channel may change."""

    def __init__(self, target: str, class_of: Callable[[str], _Class]) -> None:
        self._target = target
        self._class_of = class_of

    def of(self, method: object) -> _Method:
        if not isinstance(method, _Method) or method.target != self._target:
            raise ValueError(f"this method is not from target.stub(...) of the target {self._target}")
        return method

    def __getattr__(self, arity: str) -> Callable[..., _Method]:
        """arity: "unary_unary" and its like, as the channel's methods are called that make callables."""

        def noted(path: str, *arguments: Any, **options: Any) -> _Method:
            return _Method(
                self._target,
                path,
                self._class_of(path),
                lambda channel: getattr(channel, arity)(path, *arguments, **options),
            )

        return noted


def _latencies() -> metrics.Latencies:
    return metrics.latencies(
        "betting_grpc_client_seconds",
        "Duration of calls to other services, one per attempt",
        ("target", "method", "code"),
    )


def _metadata(principal: bytes | None) -> Metadata:
    pairs: list[tuple[str, str | bytes]] = []
    correlation = context.correlation_id.get()
    if correlation:
        pairs.append((context.CORRELATION_KEY, correlation))
    source = context.source.get()
    if source:
        pairs.append((context.SOURCE_KEY, source))
    if principal is not None:
        pairs.append((METADATA_KEY, principal))
    return tuple(pairs)


async def _first_success(attempts: Sequence[asyncio.Future[object]]) -> object:
    """The first result; if all fail, the first attempt's error."""
    pending = set(attempts)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for attempt in done:
            if attempt.exception() is None:
                return attempt.result()
    return attempts[0].result()


async def _abandon(attempts: Sequence[asyncio.Future[object]]) -> None:
    for attempt in attempts:
        attempt.cancel()
    await asyncio.gather(*attempts, return_exceptions=True)
