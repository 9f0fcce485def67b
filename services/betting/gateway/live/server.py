"""The Socket.IO server: sessions, subscriptions, and when they end."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from aiohttp import web
from socketio.exceptions import ConnectionRefusedError as Refused

from betting.gateway.authentication import Authenticator, Caller
from betting.gateway.endpoints import Call, Endpoint
from betting.gateway.heads import Correlations
from betting.gateway.live import messages
from betting.gateway.live.bets import LiveBets
from betting.gateway.live.engine import Connection, Engine
from betting.gateway.live.messages import BadRequest
from betting.gateway.live.odds import LiveOdds
from betting.gateway.live.writer import Flusher, Writer
from betting.gateway.methods import public_methods
from betting.gateway.protocols.failures import Failure
from betting.gateway.settings import GatewaySettings
from betting.runtime import clock, logs, metrics
from betting.runtime.errors import ServiceError
from betting.v1 import bet_pb2


class Closing(Enum):
    """Why a session ends: a code, whether to reconnect, and what a person can do."""

    TOKEN_EXPIRED = ("TOKEN_EXPIRED", False, "the access token has ended: connect again with a fresh one")
    SESSION_ENDED = ("SESSION_ENDED", False, "the session has ended: log in again")
    SLOW_READER = ("SLOW_READER", True, "messages were not read in time: connect again and resume")
    DRAINING = ("DRAINING", True, "this gateway is stopping: connect again")

    @property
    def code(self) -> str:
        """For programs."""
        return self.value[0]

    @property
    def reconnect(self) -> bool:
        """Whether reconnecting with the same token helps."""
        return self.value[1]

    @property
    def data(self) -> dict[str, object]:
        """The data of the event `closing`."""
        return {"code": self.code, "reconnect": self.reconnect, "message": self.value[2]}


PREFIX: Final = "/socket.io"
SUBSCRIPTIONS_MAX: Final = 200
EXPIRING_S: Final = 30.0
SWEEP_S: Final = 1.0
BET_TIMEOUT_S: Final = 5.0
DRAIN_S: Final = 1.0
# How long a connection that is over may take to read what it was sent last.
LINGER_S: Final = 5.0
_GET_BET: Final = "/betting.v1.BetService/GetBet"

_log = logs.get(__name__)

Handler = Callable[["Session", Any], Awaitable[dict[str, Any]]]


@dataclass(eq=False)
class Session:
    """One connection. header: the token as an Authorization header; warned: its end was announced."""

    sid: str
    connection_id: str
    connection: Connection
    writer: Writer
    caller: Caller
    header: str
    warned: bool = False
    events: set[int] = field(default_factory=set)
    bets: set[bytes] = field(default_factory=set)

    @property
    def subscriptions(self) -> int:
        """How many subscriptions the session has, to events and to bets together."""
        return len(self.events) + len(self.bets)


class LiveServer:
    """The Socket.IO server of a gateway: sessions, subscriptions, and when they end."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        get_bet: Endpoint,
        odds: LiveOdds,
        make_bets: Callable[[Callable[[str], None]], LiveBets],
        settings: GatewaySettings,
    ) -> None:
        self._engine = Engine(settings)
        self._authenticator = authenticator
        self._get_bet = get_bet
        self._odds = odds
        self._bets = make_bets(lambda sid: self._end_soon(sid, Closing.SLOW_READER))
        self._correlations = Correlations()
        self._flusher = Flusher()
        self._sessions: dict[str, Session] = {}
        self._draining = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = metrics.counter("betting_live_ended_total", "Connections ended by the gateway", ("code",))
        metrics.gauge("betting_live_connections", "Open live connections").set_function(lambda: len(self._sessions))
        self._register()

    def __len__(self) -> int:
        return len(self._sessions)

    async def handle(self, request: web.BaseRequest, source: str) -> web.StreamResponse:
        """Every request under PREFIX, from an address. Raises Failure."""
        return await self._engine.handle(request, source)

    async def run(self) -> None:
        """Background task: prices, bets, and the sweep that ends sessions whose token has expired."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._odds.run())
            group.create_task(self._bets.run())
            group.create_task(self._sweep_for_ever())

    async def drain(self) -> None:
        """Sends `closing` with code DRAINING to every session, then ends them; clients reconnect to another gateway."""
        self._draining = True
        for sid in list(self._sessions):
            self._end_soon(sid, Closing.DRAINING)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=DRAIN_S)

    # What clients may do.

    def _register(self) -> None:
        on = self._engine.on
        on("connect", self._connect)
        on("disconnect", self._disconnect)
        on("authenticate", self._answering(self._authenticate))
        on("subscribe:odds", self._answering(self._subscribe_odds))
        on("unsubscribe:odds", self._answering(self._unsubscribe_odds))
        on("subscribe:bet", self._answering(self._subscribe_bet))
        on("unsubscribe:bet", self._answering(self._unsubscribe_bet))
        on("*", self._unknown)

    async def _connect(self, sid: str, _environ: dict[str, Any], auth: Any = None) -> None:
        if self._draining:
            raise _refused("DRAINING", "this gateway is stopping: connect again")
        try:
            header = f"Bearer {messages.token(auth)}"
            caller = await self._authenticator.caller(header)
        except BadRequest as error:
            raise _refused(error.code, f"connect with auth: {error}") from None
        except ServiceError as error:
            raise _refused(error.reason, error.message) from None
        connection_id, connection = self._engine.connection_of(sid)
        try:
            self._engine.sign_in(connection, caller.user_id)
        except Failure as failure:
            raise _refused("TOO_MANY_CONNECTIONS", failure.message) from None
        writer = Writer(connection, self._flusher)
        self._sessions[sid] = Session(sid, connection_id, connection, writer, caller, header)

    async def _disconnect(self, sid: str, _reason: str = "") -> None:
        session = self._sessions.pop(sid, None)
        if session is None:
            return
        asyncio.get_running_loop().call_later(LINGER_S, session.writer.abort_if_ended)
        for event_id in session.events:
            self._odds.leave(sid, event_id)
        for bet in session.bets:
            self._bets.leave(sid, bet)
        self._engine.sign_out(session.connection)

    async def _authenticate(self, session: Session, data: Any) -> dict[str, Any]:
        header = f"Bearer {messages.token(data)}"
        caller = await self._authenticator.caller(header)
        if caller.user_id != session.caller.user_id:
            raise BadRequest("OTHER_USER", "this token is another user's: open a new connection for it")
        session.caller, session.header, session.warned = caller, header, False
        return {"expiresAtUs": str(caller.expires_at_us)}

    async def _subscribe_odds(self, session: Session, data: Any) -> dict[str, Any]:
        event_id = messages.event_id(data)
        if event_id not in session.events:
            _require_room(session)
        known = await self._odds.knows(event_id)
        if known is None:
            raise BadRequest("UNAVAILABLE", "prices are not known just now: try again in a moment")
        if not known:
            raise BadRequest("NOT_FOUND", f"there is no event {event_id} with prices")
        if session.sid in self._sessions:
            session.events.add(event_id)
            self._odds.join(session.sid, session.writer, event_id)
        return {}

    async def _unsubscribe_odds(self, session: Session, data: Any) -> dict[str, Any]:
        event_id = messages.event_id(data)
        session.events.discard(event_id)
        self._odds.leave(session.sid, event_id)
        return {}

    async def _subscribe_bet(self, session: Session, data: Any) -> dict[str, Any]:
        bet, after = messages.bet_id(data), messages.cursor(data)
        caller = session.caller
        if after is not None and after.shard != caller.shard_id:
            raise BadRequest("SHARD", f"after.shard is {after.shard}: your bets are in shard {caller.shard_id}")
        if bet not in session.bets:
            _require_room(session)
        await self._require_own(caller, bet)
        if session.sid not in self._sessions:
            return {}
        session.bets.add(bet)
        sequence = 0 if after is None else after.sequence
        try:
            await self._bets.follow(session.sid, session.writer, caller.shard_id, bet, sequence)
        except BaseException:
            session.bets.discard(bet)
            raise
        if session.sid not in self._sessions:
            self._bets.leave(session.sid, bet)
        return {"shard": caller.shard_id}

    async def _unsubscribe_bet(self, session: Session, data: Any) -> dict[str, Any]:
        bet = messages.bet_id(data)
        session.bets.discard(bet)
        self._bets.leave(session.sid, bet)
        return {}

    async def _require_own(self, caller: Caller, bet: bytes) -> None:
        """Asks the owner, which answers NOT_FOUND for the bets of other users too."""
        request = bet_pb2.GetBetRequest(bet_id=str(uuid.UUID(bytes=bet)))
        method = public_methods()[_GET_BET]
        correlation = self._correlations.new()
        await self._get_bet.unary(
            Call(method, request, request.SerializeToString(), caller, BET_TIMEOUT_S, correlation, source="")
        )

    async def _unknown(self, event: str, sid: str, *data: Any) -> dict[str, Any]:
        async def refuse(_session: Session, _data: Any) -> dict[str, Any]:
            raise BadRequest("UNKNOWN_EVENT", f"there is no event {event[:50]!r}: see the documentation")

        return await self._answering(refuse)(sid, *data)

    def _answering(self, handler: Handler) -> Callable[..., Awaitable[dict[str, Any]]]:
        """Turns errors of a handler into an answer, or into an event if the client waits for no answer."""

        async def answer(sid: str, *data: Any) -> dict[str, Any]:
            session = self._sessions.get(sid)
            if session is None:
                return _error("NOT_CONNECTED", "connect first")
            if session.writer.is_overfull:  # it asks and asks, and reads no answer
                self._end_soon(sid, Closing.SLOW_READER)
                return _error("SLOW_READER", Closing.SLOW_READER.value[2])
            try:
                return {"ok": True, **await handler(session, data[0] if data else None)}
            except BadRequest as error:
                return self._wrong(sid, error.code, str(error))
            except ServiceError as error:
                return self._wrong(sid, error.reason, error.message)
            except Exception as error:
                _log.error("live request failed", exc_info=error)
                return self._wrong(sid, "INTERNAL", "this could not be done: try again later")

        return answer

    def _wrong(self, sid: str, code: str, message: str) -> dict[str, Any]:
        session = self._sessions.get(sid)
        if session is not None:
            session.writer.write(messages.event("error", {"code": code, "message": message}))
        return _error(code, message)

    # When their time is over.

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            await self._engine.end_anonymous()
            now_us = clock.now_us()
            for session in list(self._sessions.values()):
                await self._check(session, now_us)

    async def _check(self, session: Session, now_us: int) -> None:
        left_us = session.caller.expires_at_us - now_us
        if left_us <= 0:
            self._end_soon(session.sid, Closing.TOKEN_EXPIRED)
        elif session.caller.revoked and not await self._still_holds(session):
            self._end_soon(session.sid, Closing.SESSION_ENDED)
        elif left_us < EXPIRING_S * clock.US_PER_S and not session.warned:
            session.warned = True
            data = {"expiresAtUs": str(session.caller.expires_at_us)}
            session.writer.write(messages.event("token:expiring", data))

    async def _still_holds(self, session: Session) -> bool:
        """Whether the token is still valid. A caller that the cache has dropped is verified again."""
        try:
            session.caller = await self._authenticator.caller(session.header)
        except ServiceError as error:
            return error.code.name == "UNAVAILABLE"
        return True

    def _end_soon(self, sid: str, why: Closing) -> None:
        task = asyncio.create_task(self._end(sid, why))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self, sid: str, why: Closing) -> None:
        """Ends a connection. If the client may reconnect, only the transport is closed."""
        session = self._sessions.get(sid)
        if session is None:
            return
        await self._disconnect(sid)
        self._ended.labels(why.code).inc()
        session.writer.write(messages.event("closing", why.data))
        session.writer.flush()
        if why.reconnect:
            await self._engine.end_transport(session.connection_id)
        else:
            await self._engine.disconnect(sid)


def _require_room(session: Session) -> None:
    if session.subscriptions >= SUBSCRIPTIONS_MAX:
        raise BadRequest("TOO_MANY_SUBSCRIPTIONS", f"a connection has at most {SUBSCRIPTIONS_MAX} subscriptions")


def _refused(code: str, message: str) -> Refused:
    return Refused(message, {"code": code})


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}
