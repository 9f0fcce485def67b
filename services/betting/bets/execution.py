"""The hot path: many bettors' commands to one shard in one call.

Each is decided where it stands and answers for itself; the call is answered once everything it decided, or read, is
durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
import structlog

from betting.bets import cold, translate
from betting.bets.clock import monotonic_us
from betting.bets.cold import ColdRead
from betting.bets.instance import Instance
from betting.bets.shard import OwnedShard, Phase, ShardFrozen, ShardLost
from betting.engine.apply import CannotApply
from betting.engine.commands import Deposit, PlaceBet, Prior, Recorded, TurnedAway, Withdraw
from betting.engine.decide import needs_lookup
from betting.engine.entries import Kind
from betting.engine.ids import is_uuid7
from betting.engine.refusals import Refusal
from betting.engine.validation import check_amount, check_place, is_currency
from betting.internal.v1 import owner_pb2
from betting.journal import requests
from betting.placement import shard_of
from betting.runtime import errors, postgres
from betting.runtime.principal import Verifier

log = structlog.get_logger(__name__)

MAX_COMMANDS = 500

# A plain int: comparing with an IntEnum member costs, and this is the hot path.
BET_PLACED = int(Kind.BET_PLACED)


class Execution:
    """Turns ExecuteRequest into ExecuteResponse. Never raises for what a single command got wrong."""

    def __init__(self, instance: Instance, verifier: Verifier, pool: asyncpg.Pool, *, trace: bool = False) -> None:
        """`trace` logs a line for every command, not only for those that somebody follows."""
        self._trace = trace
        self._instance = instance
        self._verifier = verifier
        self._pool = pool

    async def execute(self, request: owner_pb2.ExecuteRequest) -> owner_pb2.ExecuteResponse:
        """Raises ServiceError when the call as a whole cannot be meant."""
        commands = request.commands
        if not 1 <= len(commands) <= MAX_COMMANDS:
            raise errors.invalid_argument(
                "COMMAND_COUNT", f"a call carries 1 to {MAX_COMMANDS} commands, this one {len(commands)}"
            )
        owned = self._instance.shards.get(request.shard_id)
        if owned is None or not owned.takes_commands() or request.epoch > owned.epoch:
            return _all_refused(commands, _why_not(owned))
        if owned.overloaded:
            return _all_refused(commands, Refusal.OVERLOADED)
        try:
            async with asyncio.timeout(request.budget_ms / 1_000 if request.budget_ms > 0 else None):
                priors = await self._priors(owned, commands)
        except TimeoutError:
            return _all_refused(commands, Refusal.DEADLINE_PASSED)
        if not owned.takes_commands():
            return _all_refused(commands, _why_not(owned))
        response = owner_pb2.ExecuteResponse()
        later: list[ColdRead] = []
        self._decide_all(owned, commands, priors, response, later)
        try:
            await self._instance.committer.durable(owned)
            if later:
                await cold.answer(self._pool, owned, later)
                # Memory may by now have shown more than was durable before.
                await self._instance.committer.durable(owned)
        except ShardLost:
            return _all_refused(commands, Refusal.NOT_OWNER)
        except ShardFrozen:
            return _all_refused(commands, Refusal.SHARD_FROZEN)
        return response

    async def execute_shards(self, request: owner_pb2.ExecuteShardsRequest) -> owner_pb2.ExecuteShardsResponse:
        """Several shards in one call; what is wrong with one is said of its own commands only.

        Raises ServiceError when a shard is named twice.
        """
        shards = [one.shard_id for one in request.requests]
        if len(set(shards)) != len(shards):
            raise errors.invalid_argument("SHARD_TWICE", "each shard may be named once in a call")
        responses = await asyncio.gather(*(self._isolated(one) for one in request.requests))
        return owner_pb2.ExecuteShardsResponse(responses=responses)

    async def _isolated(self, request: owner_pb2.ExecuteRequest) -> owner_pb2.ExecuteResponse:
        try:
            return await self.execute(request)
        except errors.ServiceError as problem:
            response = owner_pb2.ExecuteResponse()
            for _ in request.commands:
                translate.fill_fault(response.results.add(), problem.code.value[0], problem.reason, problem.message)
            return response

    def _decide_all(
        self,
        owned: OwnedShard,
        commands: Sequence[owner_pb2.Command],
        priors: dict[bytes, Prior],
        response: owner_pb2.ExecuteResponse,
        later: list[ColdRead],
    ) -> None:
        now_us = self._instance.clock.now_us()
        ticks = monotonic_us()
        fresh = self._instance.book.is_fresh(ticks)
        add = response.results.add
        for command in commands:
            result = add()
            head = owned.state.head
            try:
                user = self._user_of(owned.shard, command.principal, now_us)
                if command.HasField("place_bet"):
                    self._place(owned, command, user, priors, result, now_us, ticks, fresh)
                elif not self._other(owned, command, user, priors, result, now_us):
                    later.append(ColdRead(command, user, result))
            except errors.ServiceError as problem:
                translate.fill_fault(result, problem.code.value[0], problem.reason, problem.message)
            except CannotApply as problem:
                self._instance.committer.condemn(owned, str(problem))
                return
            except Exception:  # a command that fails unexpectedly fails alone
                log.exception(
                    "command_failed", shard=owned.shard, correlation_id=command.correlation_id.decode(errors="replace")
                )
                done = "nothing was done" if owned.state.head == head else "it was recorded: ask by its request key"
                translate.fill_fault(result, translate.INTERNAL, "INTERNAL", f"internal error: {done}")
            if self._trace or command.traced:
                self._log_command(owned.shard, command, result)

    @staticmethod
    def _log_command(shard: int, command: owner_pb2.Command, result: owner_pb2.Result) -> None:
        log.info(
            "command",
            correlation_id=command.correlation_id.decode(errors="replace"),
            shard=shard,
            command=command.WhichOneof("command"),
            result=result.WhichOneof("result"),
            refusal=result.refusal.code or None,
            repeated=result.repeated,
        )

    def _user_of(self, shard: int, token: bytes, now_us: int) -> bytes:
        user = self._verifier.verify(token, now_us).user_id
        if user is None:
            raise errors.permission_denied("NOT_A_BETTOR", "money moves only for a bettor: sign in as one")
        if shard_of(user, self._instance.shard_count) != shard:
            raise errors.invalid_argument("WRONG_SHARD", f"this user is not in shard {shard}: route by shard_of(user)")
        return user

    def _place(
        self,
        owned: OwnedShard,
        command: owner_pb2.Command,
        user: bytes,
        priors: dict[bytes, Prior],
        result: owner_pb2.Result,
        now_us: int,
        ticks: int,
        fresh: bool,
    ) -> None:
        instance = self._instance
        bet = translate.place_bet(command, user, instance.book, ticks)
        malformed = check_place(bet)
        if malformed is not None:
            translate.fill_malformed(result, malformed)
            return
        prior = priors.get(bet.key) if priors else None
        if not fresh and not self._answered(owned, bet.key, prior):
            translate.fill_refusal(result, Refusal.BOOK_STALE)
            return
        self._money(owned, bet, command.currency, prior, result, now_us)

    def _money(
        self,
        owned: OwnedShard,
        money: PlaceBet | Deposit | Withdraw,
        currency: str,
        prior: Prior | None,
        result: owner_pb2.Result,
        now_us: int,
    ) -> None:
        instance = self._instance
        limit = instance.refusal_limit
        if limit and limit.blocked(money.user + money.currency, now_us) and not self._answered(owned, money.key, prior):
            translate.fill_refusal(result, Refusal.RATE_LIMITED)
            return
        reply = owned.execute(money, now_us, instance.limits, prior)
        if isinstance(reply, TurnedAway):
            translate.fill_turned_away(result, reply)
            return
        assert isinstance(reply, Recorded)
        if reply.kind == BET_PLACED and not reply.repeated:
            instance.bets_accepted += 1
            translate.fill_placed_now(result.placed, owned.entries[-1])
            return
        translate.fill_recorded(result, reply, currency)
        if reply.kind == Kind.REFUSED and not reply.repeated:
            limit.record(money.user + money.currency, now_us)

    @staticmethod
    def _answered(owned: OwnedShard, key: bytes, prior: Prior | None) -> bool:
        """Whether this request key has its answer already: such a repeat is served whatever the state of things."""
        return prior is not None or owned.state.remembered(key) is not None

    def _other(
        self,
        owned: OwnedShard,
        command: owner_pb2.Command,
        user: bytes,
        priors: dict[bytes, Prior],
        result: owner_pb2.Result,
        now_us: int,
    ) -> bool:
        """Everything but a bet. False when the answer is not in memory."""
        state = owned.state
        currency = command.currency.encode()
        which = command.WhichOneof("command")
        if which in ("deposit", "withdraw"):
            make = translate.deposit if which == "deposit" else translate.withdraw
            amount = make(command, user)
            malformed = check_amount(amount)
            if malformed is not None:
                translate.fill_malformed(result, malformed)
                return True
            self._money(owned, amount, command.currency, priors.get(amount.key), result, now_us)
        elif which in ("get_balance", "list_open_bets") and not is_currency(currency):
            raise errors.invalid_argument("CURRENCY", "currency must be three upper-case letters (ISO 4217), like GBP")
        elif which == "get_balance":
            translate.read_balance(state, user, currency, result)
        elif which == "list_open_bets":
            translate.read_open_bets(state, user, currency, command.list_open_bets, result)
        elif which == "get_bet":
            return self._get_open_bet(owned, command.get_bet.bet_id, user, result)
        elif which == "get_by_request_key":
            return False
        else:
            translate.fill_fault(result, translate.UNIMPLEMENTED, "NO_COMMAND", "the command is empty or unknown here")
        return True

    def _get_open_bet(self, owned: OwnedShard, bet: bytes, user: bytes, result: owner_pb2.Result) -> bool:
        if len(bet) != 16:
            raise errors.invalid_argument("BET_ID", "bet_id must be a UUID")
        found = translate.read_open_bet(owned.state, user, bet)
        if found is None:
            return False
        result.bet.CopyFrom(found)
        return True

    async def _priors(self, owned: OwnedShard, commands: Sequence[owner_pb2.Command]) -> dict[bytes, Prior]:
        """What the database knows of request keys too old to be in memory: one query for the whole call."""
        # Memory forgets by the shard's time, which never runs backwards; the clock may.
        now_us = max(self._instance.clock.now_us(), owned.state.now_us)
        old = [c.request_key for c in commands if is_uuid7(c.request_key) and needs_lookup(c.request_key, now_us)]
        if not old:
            return {}
        async with postgres.translated(), self._pool.acquire() as connection:
            found = await requests.find(connection, [(owned.shard, key) for key in old])
        return {key: Prior(entry.kind, entry.body) for (_shard, key), entry in found.items()}


def _why_not(owned: OwnedShard | None) -> Refusal:
    if owned is not None and owned.phase is Phase.FROZEN:
        return Refusal.SHARD_FROZEN
    return Refusal.NOT_OWNER


def _all_refused(commands: Sequence[owner_pb2.Command], refusal: Refusal) -> owner_pb2.ExecuteResponse:
    response = owner_pb2.ExecuteResponse()
    for _ in commands:
        translate.fill_refusal(response.results.add(), refusal)
    return response
