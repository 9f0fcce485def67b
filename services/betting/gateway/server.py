"""The HTTP server: aiohttp parses the requests that are not on the fast path."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager, nullcontext
from typing import Any, Final

from aiohttp import HttpVersion11, web, web_response
from aiohttp.web_exceptions import HTTPException
from multidict import CIMultiDict

from betting.gateway.connections import HttpConnection
from betting.gateway.dispatch import Dispatcher, log_failure, refusal, unexpected
from betting.gateway.fast_path import FastPath
from betting.gateway.heads import Correlations, Head, HeadReader, correlation_of, failure_of
from betting.gateway.limits import BodyRoom
from betting.gateway.pages import Pages
from betting.gateway.protocols.failures import Code, Failure
from betting.gateway.protocols.wires import HttpReply, StreamWire, Wire
from betting.gateway.settings import GatewaySettings
from betting.runtime.errors import ServiceError
from betting.runtime.networks import network_of

SERVER_NAME: Final = "betting"
# The header Server of what aiohttp answers by itself: Socket.IO's handshakes, requests that it cannot parse.
web_response.SERVER_SOFTWARE = SERVER_NAME  # type: ignore[attr-defined]
# Our own sweep ends idle connections: aiohttp does not see the requests of the fast path.
_NEVER_S: Final = 86_400.0
_LINGER_S: Final = 2.0

_ROOM: Final = web.RequestKey("room", BodyRoom)
# Answers a request from an address. Raises Failure.
Mount = Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]


class _TrackedResponse:
    """A response that reports to its connection when it was written, and the length of the request's body."""

    connection: HttpConnection | None = None
    body_bytes: int | None = None

    def track(self, request: web.BaseRequest, connection: HttpConnection | None) -> None:
        """Sets the connection to report to (None: none)."""
        self.connection = connection
        self.body_bytes = _declared_length(request)


class Reply(_TrackedResponse, web.Response):
    """A whole response."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Writes the rest of the response, then tells the connection that it may take its next request."""
        await super().write_eof(data)
        if self.connection is not None:
            self.connection.answered(self.body_bytes if self.keep_alive else None)


class Stream(_TrackedResponse, web.StreamResponse):
    """A response in pieces."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Writes the rest of the response, then tells the connection that it may take its next request."""
        await super().write_eof(data)
        if self.connection is not None:
            self.connection.answered(self.body_bytes if self.keep_alive else None)


class HttpServer:
    """aiohttp's low-level server with our handler: protocols, mounts (Socket.IO) and pages."""

    def __init__(
        self,
        *,
        heads: HeadReader,
        dispatcher: Dispatcher,
        fast: FastPath,
        pages: Pages,
        correlations: Correlations,
        settings: GatewaySettings,
    ) -> None:
        self._heads = heads
        self._dispatcher = dispatcher
        self._fast = fast
        self._pages = pages
        self._correlations = correlations
        self._mounts: dict[str, Mount] = {}
        self._request_bytes_max = settings.request_bytes_max
        self._receive_timeout_s = settings.receive_timeout.total_seconds()
        self._streams: set[asyncio.Task[Any]] = set()
        self._draining = False
        quiet = logging.getLogger("betting.gateway.http")
        quiet.setLevel(logging.CRITICAL)
        self.aiohttp = web.Server(
            self._handle,
            handler_cancellation=True,
            access_log=None,
            logger=quiet,
            auto_decompress=False,
            keepalive_timeout=_NEVER_S,
            lingering_time=_LINGER_S,
        )

    def mount(self, prefix: str, handler: Mount) -> None:
        """Adds a handler for paths that begin with a prefix (Socket.IO)."""
        self._mounts[prefix] = handler

    @property
    def draining(self) -> bool:
        """Whether streams are being ended."""
        return self._draining

    def end_streams(self) -> None:
        """Ends every stream with UNAVAILABLE DRAINING: clients reconnect to another gateway."""
        self._draining = True
        for task in self._streams:
            task.cancel()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = connection_of(request)
        if connection is not None:
            connection.handling()
        path = request.rel_url.raw_path
        mount = next((mount for prefix, mount in self._mounts.items() if path.startswith(prefix)), None)
        response = await (self._answer(request, path, connection) if mount is None else self._mounted(request, mount))
        if isinstance(response, Reply):
            response.track(request, connection)
            if connection is not None and connection.is_ending:
                response.force_close()
        return response

    async def _mounted(self, request: web.BaseRequest, mount: Mount) -> web.StreamResponse:
        """The answer of a mounted handler, within the limits of the address."""
        correlation = correlation_of(request.headers) or self._correlations.new()
        try:
            _check_expectation(request)
            source = self._heads.source(request.headers, _peer(request))
            self._heads.admit(source)
            with self._with_body(request, source) if request.can_read_body else nullcontext():
                response = await mount(request, source)
        except Failure as failure:
            return self._refused(request, failure, correlation)
        except (ConnectionError, HTTPException):
            raise
        except Exception as error:
            return self._refused(request, unexpected(error, request.path, correlation), correlation)
        if not isinstance(response, web.Response):
            return response
        reply = Reply(body=response.body, status=response.status, headers=response.headers)
        if not request.content.is_eof():
            reply.force_close()  # the rest of the body will not be read
        return reply

    async def _answer(
        self, request: web.BaseRequest, path: str, connection: HttpConnection | None
    ) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        correlation = correlation_of(request.headers) or self._correlations.new()
        try:
            _check_expectation(request)
            if request.method == "OPTIONS":
                return _response(HttpReply(204, "", b""), self._heads.cors.preflight(origin), correlation)
            page = self._pages.page(path) if request.method in ("GET", "HEAD") else None
            if page is not None:
                return _response(page, self._heads.cors.headers(origin), correlation)
            return await self._call(request, path, correlation, connection)
        except (Failure, ServiceError) as error:
            return self._refused(request, error, correlation)
        except (ConnectionError, HTTPException):
            raise
        except Exception as error:
            return self._refused(request, unexpected(error, path, correlation), correlation)

    def _refused(self, request: web.BaseRequest, error: Failure | ServiceError, correlation: str) -> Reply:
        failure = failure_of(error) if isinstance(error, ServiceError) else error
        log_failure(failure, request.rel_url.raw_path, correlation)
        reply = refusal(request.headers.get("Content-Type", ""), failure)
        response = _response(reply, self._heads.cors.headers(request.headers.get("Origin")), correlation)
        if not request.content.is_eof():
            response.force_close()  # the rest of the body will not be read
        return response

    async def _call(
        self, request: web.BaseRequest, path: str, correlation: str, connection: HttpConnection | None
    ) -> web.StreamResponse:
        head = await self._heads.read(request.method, path, request.headers, _peer(request))
        with self._dispatcher.place(head), self._dispatcher.body_room(head.holder) as room:
            request[_ROOM] = room
            body = await self._body(request)
            if head.method.streams:
                return await self._stream(request, head, body, correlation, connection)
            answer = await self._dispatcher.unary(head, body, correlation)
        if connection is not None:
            connection.learn(self._fast.known_head(head, request.headers))
        return _response(HttpReply(200, head.wire.media_type, answer), head.cors, correlation)

    @contextmanager
    def _with_body(self, request: web.BaseRequest, source: str) -> Iterator[None]:
        """A place for a request that is no call, and room for its body."""
        with self._dispatcher.body_place(source), self._dispatcher.body_room(network_of(source)) as room:
            request[_ROOM] = room
            yield

    async def _body(self, request: web.BaseRequest) -> bytes:
        return await read_body(request, bytes_max=self._request_bytes_max, timeout_s=self._receive_timeout_s)

    async def _stream(
        self, request: web.BaseRequest, head: Head, body: bytes, correlation: str, connection: HttpConnection | None
    ) -> web.StreamResponse:
        if self._draining:
            raise Failure(Code.UNAVAILABLE, "DRAINING", "this gateway is stopping: watch again")
        task = asyncio.current_task()
        assert task is not None
        response = Stream(headers=_headers(head.wire.media_type, head.cors, correlation))
        response.track(request, connection)
        self._streams.add(task)
        try:
            await response.prepare(request)
            async with aclosing(self._dispatcher.stream(head, body, correlation)) as pieces:
                async for piece in pieces:
                    await response.write(piece)
        except asyncio.CancelledError:
            if not self.draining or request.transport is None:
                raise
            task.uncancel()
            await response.write(_drained(head.wire))
        finally:
            self._streams.discard(task)
        await response.write_eof()
        return response


async def read_body(request: web.BaseRequest, *, bytes_max: int, timeout_s: float) -> bytes:
    """The body of a request, asked for where its client waits to be (Expect: 100-continue; RFC 9110, 10.1.1).

    Raises Failure: BODY_TOO_LARGE, REQUEST_SLOW, BODY for one that breaks off, or that there is no room for it now.
    """
    room = request[_ROOM]
    length = request.content_length
    if length is not None and length > bytes_max:
        raise _too_large(bytes_max)
    content = request.content
    if content.is_eof():  # all of it is here
        body = content.read_nowait()
        if len(body) > bytes_max:
            raise _too_large(bytes_max)
        room.take(len(body))
        return body
    waits = "Expect" in request.headers and request.version >= HttpVersion11  # of older ones it is ignored
    if waits and request.transport is not None and not content.total_bytes:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    chunks = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            while not content.at_eof():
                chunk = await content.readany()
                if len(chunks) + len(chunk) > bytes_max:
                    raise _too_large(bytes_max)
                room.take(len(chunk))
                chunks += chunk
    except TimeoutError:
        message = f"the body did not arrive within {timeout_s:g} s: send it at once"
        raise Failure(Code.DEADLINE_EXCEEDED, "REQUEST_SLOW", message, http_status=408) from None
    except web.RequestPayloadError:
        raise Failure(Code.INVALID_ARGUMENT, "BODY", "the body breaks off or is not what its headers say") from None
    return bytes(chunks)


def _too_large(bytes_max: int) -> Failure:
    message = f"the body is larger than {bytes_max} bytes: send less at once"
    return Failure(Code.RESOURCE_EXHAUSTED, "BODY_TOO_LARGE", message, http_status=413)


def _check_expectation(request: web.BaseRequest) -> None:
    """Raises Failure EXPECTATION for one that is not 100-continue (RFC 9110, 10.1.1)."""
    expected = request.headers.get("Expect")
    if expected is not None and expected.strip().lower() != "100-continue":
        message = f"the expectation {expected[:40]!r} cannot be met: send 100-continue, or no Expect"
        raise Failure(Code.UNIMPLEMENTED, "EXPECTATION", message, http_status=417)


def connection_of(request: web.BaseRequest) -> HttpConnection | None:
    """The connection a request came in on; None when it has gone."""
    transport = request.transport
    connection = transport.get_protocol() if transport is not None else None
    return connection if isinstance(connection, HttpConnection) else None


def _declared_length(request: web.BaseRequest) -> int | None:
    """Bytes of the request's body, where the head says so; None where only the body itself does."""
    if "Transfer-Encoding" in request.headers or "Upgrade" in request.headers:
        return None
    return request.content_length or 0


def _drained(wire: Wire) -> bytes:
    assert isinstance(wire, StreamWire)
    return wire.end(Failure(Code.UNAVAILABLE, "DRAINING", "this gateway is stopping: watch again"))


def _peer(request: web.BaseRequest) -> str:
    return request.remote or ""


def _headers(content_type: str, more: Iterable[tuple[str, str]], correlation: str) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict(more)
    if content_type:
        headers["Content-Type"] = content_type
    headers["Server"] = SERVER_NAME
    headers["X-Correlation-Id"] = correlation
    return headers


def _response(reply: HttpReply, cors: Iterable[tuple[str, str]], correlation: str) -> Reply:
    headers: Any = _headers(reply.content_type, (*cors, *reply.headers), correlation)
    return Reply(body=reply.body, status=reply.status, headers=headers)
