"""What happens around every request a service answers: one function per kind of call, wrapped once at registration.

Correlation id, deadline, caller, bulkhead, metrics, log line, translation of errors. gRPC's own interceptors run anew
for each call; handlers wrapped once do not.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from betting.life import Life
from betting.runtime import context as request_context
from betting.runtime import errors, ids, principal
from betting.runtime.bulkhead import Bulkhead
from betting.runtime.clock import now_us
from betting.runtime.context import CORRELATION_KEY, CORRELATION_LENGTH_MAX
from betting.runtime.errors import ServiceError
from betting.runtime.method import Method

Context = grpc.aio.ServicerContext[Any, Any]
Unary = Callable[[Any, Context], Awaitable[Any]]
Run = Callable[[Any, Context, float | None], Awaitable[Any]]

DRAINING = "DRAINING"
# gRPC rounds the timeouts it sends up: a caller whose deadline has passed hangs up a little before ours has.
DEADLINE_SLACK_S = 0.02


class Interceptor:
    """Wraps handlers. One per server: it knows what is in flight and ends the streams when the server drains.

    life: named in the trailing metadata of every reply, errors included.
    """

    def __init__(self, verifier: principal.Verifier, life: Life, *, default_deadline_s: float) -> None:
        self._named = (life.metadata,)
        self._verifier = verifier
        self._default_deadline_s = default_deadline_s
        self._streams: set[asyncio.Task[Any]] = set()
        # Streams that we ended ourselves: their CancelledError is an answer, not the caller's leaving.
        self._ended: set[asyncio.Task[Any]] = set()
        self._draining = False
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()
        # Told of every call that has ended: the main loop gets on.
        self.done: Callable[[], None] = lambda: None

    @property
    def in_flight(self) -> int:
        """Calls being answered, streams included."""
        return self._calls

    def wrap(self, method: Method, handler: Any, bulkhead: Bulkhead | None) -> Any:
        """The handler to register instead of a generated one; its calls take places in `bulkhead`, if it is given.

        Raises TypeError for a method that is not async.
        """
        behaviour = behaviour_of(handler)
        if not (inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour)):
            raise TypeError(f"{method.path} must be `async def`")
        if handler.response_streaming:
            return self._stream_handler(method, handler, behaviour)
        run = self._timed(behaviour)
        if bulkhead is not None:
            run = self._bounded(run, bulkhead)
        return self._unary_handler(method, handler, run)

    async def idle(self) -> None:
        """Returns when nothing is in flight."""
        await self._idle.wait()

    def end_streams(self) -> None:
        """Ends every stream with UNAVAILABLE DRAINING: their readers start again elsewhere."""
        self._draining = True
        for task in self._streams - self._ended:
            self._ended.add(task)
            task.cancel()

    def _unary_handler(self, method: Method, handler: Any, run: Run) -> Any:
        parse = _parser(handler)
        monotonic = time.monotonic

        async def handle(raw: Any, context: Context) -> Any:
            started_s = monotonic()
            self._begin()
            try:
                remaining_s = self._open(context, started_s)
                response = await run(parse(raw), context, remaining_s)
            except BaseException as error:
                await self._fail(method, context, error, started_s)
                raise
            else:
                method.succeeded(monotonic() - started_s)
                return response
            finally:
                self._end()

        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(
                handle, handler.request_deserializer, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(handle, None, handler.response_serializer)

    def _stream_handler(self, method: Method, handler: Any, behaviour: Callable[[Any, Context], Any]) -> Any:
        parse = _parser(handler)

        async def handle(raw: Any, context: Context) -> None:
            started_s = time.monotonic()
            self._begin()
            task = asyncio.current_task()
            assert task is not None
            try:
                self._open(context, started_s)
                self._join(task)
                await _written(behaviour(parse(raw), context), context)
            except BaseException as error:
                self._streams.discard(task)
                await self._fail(method, context, self._answer_if_ended(task, error), started_s)
                raise
            else:
                method.succeeded(time.monotonic() - started_s)
            finally:
                self._streams.discard(task)
                self._ended.discard(task)
                self._end()

        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                handle, handler.request_deserializer, handler.response_serializer
            )
        return grpc.unary_stream_rpc_method_handler(handle, None, handler.response_serializer)

    def _begin(self) -> None:
        self._calls += 1
        if self._calls == 1:
            self._idle.clear()

    def _end(self) -> None:
        self._calls -= 1
        self.done()
        if self._calls == 0:
            self._idle.set()

    def _join(self, task: asyncio.Task[Any]) -> None:
        if self._draining:
            raise errors.unavailable(DRAINING, "this instance is stopping: call again")
        self._streams.add(task)

    def _open(self, context: Context, started_s: float) -> float | None:
        """Sets the request's context; the seconds its caller gave it, or None."""
        correlation, token = "", None
        for key, value in context.invocation_metadata() or ():
            if key == CORRELATION_KEY:
                correlation = str(value)
            elif key == principal.METADATA_KEY:
                token = value
        if not correlation or len(correlation) > CORRELATION_LENGTH_MAX:
            correlation = str(ids.new_uuid7())
            context.set_trailing_metadata(((CORRELATION_KEY, correlation), *self._named))
        else:
            context.set_trailing_metadata(self._named)
        request_context.correlation_id.set(correlation)
        # Everything is set, also to nothing: a request inherits the context that its server was started in.
        principal.current.set(None)
        request_context.principal_token.set(None)
        remaining_s = context.time_remaining()
        request_context.deadline.set(None if remaining_s is None else started_s + remaining_s)
        if token is not None:
            principal.current.set(self._verifier.verify(token, now_us()))  # type: ignore[arg-type]
            request_context.principal_token.set(token)  # type: ignore[arg-type]
        return remaining_s

    def _timed(self, behaviour: Unary) -> Run:
        """Calls without a deadline get the default; others are ended by gRPC when theirs has passed."""
        default_s = self._default_deadline_s

        async def run(request: Any, context: Context, remaining_s: float | None) -> Any:
            if remaining_s is not None:
                return await behaviour(request, context)
            request_context.deadline.set(time.monotonic() + default_s)
            timeout = asyncio.timeout(default_s)
            try:
                async with timeout:
                    return await behaviour(request, context)
            except TimeoutError:
                if timeout.expired():
                    raise errors.deadline_exceeded(
                        "DEADLINE_EXCEEDED",
                        f"not done in {default_s:g} s, which callers get that set no deadline: try again",
                    ) from None
                raise

        return run

    def _bounded(self, inner: Run, bulkhead: Bulkhead) -> Run:
        default_s = self._default_deadline_s

        async def run(request: Any, context: Context, remaining_s: float | None) -> Any:
            if not bulkhead.try_enter():
                await bulkhead.enter(default_s if remaining_s is None else remaining_s)
            try:
                return await inner(request, context, remaining_s)
            finally:
                bulkhead.leave()

        return run

    async def _fail(self, method: Method, context: Context, error: BaseException, started_s: float) -> None:
        """Counts and logs a failed call; for errors that are answers it raises the status, otherwise it returns."""
        duration_s = time.monotonic() - started_s
        if isinstance(error, asyncio.CancelledError):
            method.failed(_code_of_cancelled(), "", duration_s)
            return
        if isinstance(error, grpc.aio.AbortError):
            method.failed(_code_set(context), "", duration_s)
            return
        if not isinstance(error, Exception):
            return
        answer = error if isinstance(error, ServiceError) else method.unexpected(error)
        method.failed(answer.code, answer.reason, duration_s, answer.message)
        await self._abort(context, answer)

    async def _abort(self, context: Context, answer: ServiceError) -> None:
        trailing = (
            (CORRELATION_KEY, request_context.correlation_id.get()),
            (errors.DETAILS_KEY, errors.encode_details(answer)),
            *self._named,
        )
        await context.abort(answer.code, errors.bounded_message(answer), trailing)

    def _answer_if_ended(self, task: asyncio.Task[Any], error: BaseException) -> BaseException:
        """For a stream that `end_streams` cancelled: the error for its reader. Otherwise the error itself."""
        if task not in self._ended or not isinstance(error, asyncio.CancelledError):
            return error
        task.uncancel()
        return errors.unavailable(DRAINING, "this instance is stopping: call again")


async def _written(produced: AsyncIterator[Any] | Awaitable[None], context: Context) -> None:
    """Sends what a streaming handler produces, whether it yields or writes by itself."""
    if not inspect.isasyncgen(produced):
        await produced  # type: ignore[misc]
        return
    async with aclosing(produced):
        async for message in produced:
            await context.write(message)


def behaviour_of(handler: Any) -> Any:
    """The servicer's own method behind a handler."""
    return handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream


def _parser(handler: Any) -> Callable[[Any], Any]:
    """Parses a request inside our own error handling: bytes that are no message are the caller's error."""
    if handler.request_streaming:
        return lambda messages: messages
    deserialize = handler.request_deserializer

    def parse(raw: bytes) -> Any:
        try:
            return deserialize(raw)
        except DecodeError:
            raise errors.invalid_argument(
                "MALFORMED_REQUEST",
                f"the {len(raw)} bytes are not a message of this method's type: encode it with the published protos",
            ) from None

    return parse


def _code_of_cancelled() -> grpc.StatusCode:
    remaining_s = request_context.remaining_s()
    passed = remaining_s is not None and remaining_s <= DEADLINE_SLACK_S
    return grpc.StatusCode.DEADLINE_EXCEEDED if passed else grpc.StatusCode.CANCELLED


def _code_set(context: Context) -> grpc.StatusCode:
    code: Any = context.code()
    return code if isinstance(code, grpc.StatusCode) else errors.code_from_number(int(code or 0))
