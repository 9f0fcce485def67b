"""Requests whose head was seen before, answered without parsing their HTTP head again.

A client that places bet after bet sends the same head each time, byte for byte, but for the length of the body. The
first request with a head goes through aiohttp and all checks; its outcome, a Plan, is kept under the peer's address and
the exact bytes of the head. A later request with the same bytes means the same, so only what may have changed is
checked again: the session, the rates, the body. Whatever is unusual about a request sends it back the long way.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Final

from google.protobuf import message

from betting.clients.owners.shard_queues import Waiter
from betting.gateway.dispatch import Dispatcher, refusal
from betting.gateway.endpoints import Answer, Call, OwnerEndpoint
from betting.gateway.heads import Correlations, Head
from betting.gateway.protocols.failures import Failure
from betting.gateway.protocols.wires import UnaryWire, http_bytes
from betting.runtime import clock
from betting.runtime.errors import ServiceError

MAX_BODY_BYTES: Final = 16_384
# About a kilobyte each.
MAX_KNOWN_HEADS: Final = 20_000
_USUAL_ONLY: Final = ("Expect", "Upgrade", "Transfer-Encoding", "Content-Encoding")


@dataclass(slots=True)
class KnownHead:
    """A request head that was parsed and checked before: what it asks for, and the head of its answer."""

    head: Head
    endpoint: OwnerEndpoint
    content_length: int
    success: bytes  # the answer's head up to the value of Content-Length


class KnownHeads:
    """Known heads by peer and bytes; the least recently used goes first."""

    def __init__(self, capacity: int = MAX_KNOWN_HEADS) -> None:
        self._capacity = capacity
        self._known_heads: OrderedDict[tuple[str, bytes], KnownHead] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known_heads)

    def get(self, peer: str, head: bytes) -> KnownHead | None:
        """What this head means from this peer, if that is known."""
        key = (peer, head)
        known_head = self._known_heads.get(key)
        if known_head is not None:
            self._known_heads.move_to_end(key)
        return known_head

    def put(self, peer: str, head: bytes, known_head: KnownHead) -> None:
        """Adds an entry; over `capacity` the least recently used one is dropped."""
        self._known_heads[(peer, head)] = known_head
        if len(self._known_heads) > self._capacity:
            self._known_heads.popitem(last=False)


class FastPath:
    """Finds out which heads may be answered without aiohttp, and answers requests that have such a head."""

    def __init__(
        self, endpoints: Mapping[str, OwnerEndpoint], dispatcher: Dispatcher, correlations: Correlations
    ) -> None:
        self.known_heads = KnownHeads()
        self._endpoints = endpoints
        self._dispatcher = dispatcher
        self._correlations = correlations
        self._date = b""
        self.tick(clock.now_us() / clock.US_PER_S)
        self.answered_total = 0

    def known_head(self, head: Head, headers: Mapping[str, str]) -> KnownHead | None:
        """The plan for requests with this head; None when they must take the long way."""
        endpoint = self._endpoints.get(head.method.path)
        length = headers.get("Content-Length", "")
        if endpoint is None or head.caller is None or head.wire.json or not isinstance(head.wire, UnaryWire):
            return None
        if any(name in headers for name in _USUAL_ONLY) or not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            return None
        return KnownHead(head, endpoint, int(length), _success(head))

    def start(self, known_head: KnownHead, body: bytes, write: Callable[[bytes], None]) -> Waiter | None:
        """Begins to answer; None (with nothing done) when the request must take the long way."""
        head = known_head.head
        caller = head.caller
        assert caller is not None
        if caller.revoked or caller.expires_at_us <= clock.now_us():
            return None
        wire = head.wire
        assert isinstance(wire, UnaryWire)
        started_s = time.monotonic()
        try:
            payload = wire.payload(body)
            request: Any = head.method.request.FromString(payload)
        except (Failure, message.DecodeError):
            return None
        if not self._admitted(head, started_s):
            return None
        correlation = head.correlation or self._correlations.new()
        dispatcher, requests = self._dispatcher, self._dispatcher.requests

        def done(answer: Answer) -> None:
            requests.give_back(head.holder)
            self.answered_total += 1
            if isinstance(answer, bytes):
                dispatcher.observe(head, "OK", time.monotonic() - started_s)
                content = wire.reply(answer)
                rest = (known_head.success, len(content), self._date, correlation.encode("ascii"), content)
                write(b"%b%d\r\nDate: %b\r\nX-Correlation-Id: %b\r\n\r\n%b" % rest)
            else:
                failure = dispatcher.failed(head.method, answer, correlation)
                dispatcher.observe(head, failure.code.name, time.monotonic() - started_s)
                write(http_bytes(refusal(wire.media_type, failure), (*head.cors, ("X-Correlation-Id", correlation))))

        call = Call(
            head.method, request, payload, caller, head.timeout_s, correlation, head.source, bool(head.correlation)
        )
        try:
            requests.take(head.holder)
        except Failure:
            return None
        try:
            return known_head.endpoint.start(call, done)
        except ServiceError:
            requests.give_back(head.holder)
            return None

    def abandoned(self, known_head: KnownHead) -> None:
        """The connection of a request on its way has gone."""
        self._dispatcher.requests.give_back(known_head.head.holder)

    def tick(self, now_s: float) -> None:
        """Keeps the Date header (RFC 9110, 6.6.1); called every second. now_s: seconds since 1970."""
        self._date = formatdate(now_s, usegmt=True).encode("ascii")

    def _admitted(self, head: Head, now_s: float) -> bool:
        return head.address.take(1, now_s) == 0.0 and head.own.take(1, now_s) == 0.0


def _success(head: Head) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Type: {head.wire.media_type}", "Server: betting"]
    lines += [f"{name}: {value}" for name, value in head.cors]
    return ("\r\n".join(lines) + "\r\nContent-Length: ").encode("latin-1")
