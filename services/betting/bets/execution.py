"""The hot path: many bettors' commands to one shard in one call.

Each is decided where it stands and answers for itself; the call is answered once everything it decided, or read, is
durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg

from betting.bets import cold, messages, translate
from betting.bets.clock import monotonic_us
from betting.bets.cold import ColdRead
from betting.bets.instance import Instance
from betting.bets.shard import MAX_PENDING_ENTRIES, OwnedShard, ShardFrozen, ShardLost, ShardPhase
from betting.engine.apply import CannotApply
from betting.engine.commands import Deposit, PlaceBet, PriorAnswer, Recorded, Rejected, Withdraw
from betting.engine.decide import needs_lookup
from betting.engine.entries import Kind
from betting.engine.ids import is_uuid7
from betting.engine.refusals import Refusal
from betting.engine.validation import check_amount, check_place, is_currency, malformed_currency
from betting.internal.v1 import owner_pb2
from betting.journal import requests
from betting.placement import shard_of
from betting.runtime import errors, logs, postgres
from betting.runtime.principal import Verifier
from betting.v1 import common_pb2

_log = logs.get(__name__)

# What the database knows of a request key: an answer for each user of the shard who used it.
Priors = dict[bytes, list[PriorAnswer]]

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
        """Raises ServiceError when the call as a whole cannot be meant, or Postgres does not answer."""
        try:
            return await self._execute(request)
        except errors.ServiceError as problem:
            _log_refused_call(request.commands, problem.code.name, problem.reason, problem.message)
            raise

    async def _execute(self, request: owner_pb2.ExecuteRequest) -> owner_pb2.ExecuteResponse:
        self._instance.calls += 1
        commands = request.commands
        if not 1 <= len(commands) <= MAX_COMMANDS:
            raise errors.invalid_argument(
                "COMMAND_COUNT", f"a call carries 1 to {MAX_COMMANDS} commands, this one {len(commands)}"
            )
        owned = self._instance.shards.get(request.shard_id)
        shard = request.shard_id
        if owned is None or not owned.takes_commands() or request.epoch > owned.epoch:
            return _all_refused(commands, *_why_not(owned, shard))
        if owned.overloaded:
            message = messages.overloaded(shard, len(owned.entries), MAX_PENDING_ENTRIES)
            return _all_refused(commands, Refusal.OVERLOADED, message)
        try:
            async with asyncio.timeout(request.budget_ms / 1_000 if request.budget_ms > 0 else None):
                priors = await self._priors(owned, commands)
        except TimeoutError:
            return _all_refused(commands, Refusal.DEADLINE_PASSED, messages.deadline_passed(request.budget_ms))
        if not owned.takes_commands():
            return _all_refused(commands, *_why_not(owned, shard))
        response = owner_pb2.ExecuteResponse()
        later: list[ColdRead] = []
        self._decide_all(owned, commands, priors, response, later)
        try:
            await self._instance.committer.durable(owned)
            if later:
                await cold.answer(self._pool, owned, later)
                # Memory may by now have shown more than was durable before.
                await self._instance.committer.durable(owned)
                for one in later:
                    self._log_command(owned.shard, one.command, one.result)
        except ShardLost:
            return _all_refused(commands, Refusal.NOT_OWNER, messages.not_owner(shard))
        except ShardFrozen:
            return _all_refused(commands, Refusal.SHARD_FROZEN, messages.frozen(shard))
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
        priors: Priors,
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
                    continue
            except errors.ServiceError as problem:
                translate.fill_fault(result, problem.code.value[0], problem.reason, problem.message)
            except CannotApply as problem:
                self._instance.committer.mark_broken(owned, str(problem))
                return
            except Exception:  # a command that fails unexpectedly fails alone
                _log.exception(
                    "command failed", shard=owned.shard, correlation_id=command.correlation_id.decode(errors="replace")
                )
                done = "nothing was done" if owned.state.head == head else "it was recorded: ask by its request key"
                translate.fill_fault(result, translate.INTERNAL, "INTERNAL", f"internal error: {done}")
            self._log_command(owned.shard, command, result)

    def _log_command(self, shard: int, command: owner_pb2.Command, result: owner_pb2.Result) -> None:
        """A line for every command that was not carried out, and for those that somebody follows."""
        which = result.WhichOneof("result")
        if which == "fault":
            if result.fault.reason == errors.READ_MODEL_BEHIND:  # the router asks again
                return
            why = {"reason": result.fault.reason, "message": result.fault.message}
        elif which == "refusal":
            reason = common_pb2.RefusalCode.Name(result.refusal.code).removeprefix("REFUSAL_CODE_")
            why = {"reason": reason, "message": result.refusal.message}
        elif self._trace or command.traced:
            why = {}
        else:
            return
        _log.info(
            "command answered",
            correlation_id=command.correlation_id.decode(errors="replace"),
            shard=shard,
            command=command.WhichOneof("command"),
            result=which,
            repeated=result.repeated,
            **why,
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
        priors: Priors,
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
        prior = owned.state.own_answer(user, bet.currency, priors.get(bet.key, ())) if priors else None
        known = fresh and (None not in bet.quotes or instance.book.knows_all(ticks))
        if not known and not self._answered(owned, bet, prior):
            book = instance.book
            message = (
                messages.book_stale(book.age_ms(ticks), book.stale_after_ms) if not fresh else messages.BOOK_UNSURE
            )
            translate.fill_refusal(result, Refusal.BOOK_STALE, message)
            return
        self._money(owned, bet, command.currency, prior, result, now_us)

    def _money(
        self,
        owned: OwnedShard,
        money: PlaceBet | Deposit | Withdraw,
        currency: str,
        prior: PriorAnswer | None,
        result: owner_pb2.Result,
        now_us: int,
    ) -> None:
        instance = self._instance
        limit = instance.refusal_limit
        if limit and limit.blocked(money.user + money.currency, now_us) and not self._answered(owned, money, prior):
            wait_s = limit.wait_s(money.user + money.currency, now_us)
            message = messages.rate_limited(limit.burst, limit.per_second, wait_s)
            translate.fill_refusal(result, Refusal.RATE_LIMITED, message)
            return
        reply = owned.execute(money, now_us, instance.limits, prior)
        if isinstance(reply, Rejected):
            first = owned.state.remembered(money.user, money.currency, money.key) or prior
            message = messages.rejected(reply, money, now_us, first)
            translate.fill_rejected(result, reply.refusal, message)
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
    def _answered(owned: OwnedShard, money: PlaceBet | Deposit | Withdraw, prior: PriorAnswer | None) -> bool:
        """Whether this request key has its answer already: such a repeat is served whatever the state of things."""
        return prior is not None or owned.state.remembered(money.user, money.currency, money.key) is not None

    def _other(
        self,
        owned: OwnedShard,
        command: owner_pb2.Command,
        user: bytes,
        priors: Priors,
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
            prior = owned.state.own_answer(user, currency, priors.get(amount.key, ())) if priors else None
            self._money(owned, amount, command.currency, prior, result, now_us)
        elif which in ("get_balance", "list_open_bets") and not is_currency(currency):
            translate.fill_malformed(result, malformed_currency(currency))
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
            message = f"bet_id has {len(bet)} bytes, a UUID 16: give the one that placing the bet returned"
            raise errors.invalid_argument("BET_ID", message)
        found = translate.read_open_bet(owned.state, user, bet)
        if found is None:
            return False
        result.bet.CopyFrom(found)
        return True

    async def _priors(self, owned: OwnedShard, commands: Sequence[owner_pb2.Command]) -> Priors:
        """What the database knows of request keys too old to be in memory: one query for the whole call."""
        # Memory forgets by the shard's time, which never runs backwards; the clock may.
        now_us = max(self._instance.clock.now_us(), owned.state.now_us)
        old = [c.request_key for c in commands if is_uuid7(c.request_key) and needs_lookup(c.request_key, now_us)]
        if not old:
            return {}
        async with postgres.translated(), self._pool.acquire() as connection:
            found = await requests.find(connection, [(owned.shard, key) for key in old])
        return {
            key: [PriorAnswer(each.kind, each.body) for each in entries] for (_shard, key), entries in found.items()
        }


def _why_not(owned: OwnedShard | None, shard: int) -> tuple[Refusal, str]:
    if owned is not None and owned.phase is ShardPhase.FROZEN:
        return Refusal.SHARD_FROZEN, messages.frozen(shard)
    return Refusal.NOT_OWNER, messages.not_owner(shard)


def _all_refused(commands: Sequence[owner_pb2.Command], refusal: Refusal, message: str) -> owner_pb2.ExecuteResponse:
    if refusal is not Refusal.NOT_OWNER:  # the router asks the owner there is now: nobody was refused anything
        _log_refused_call(commands, "REFUSED", refusal.name, message)
    response = owner_pb2.ExecuteResponse()
    for _ in commands:
        translate.fill_refusal(response.results.add(), refusal, message)
    return response


def _log_refused_call(commands: Sequence[owner_pb2.Command], code: str, reason: str, message: str) -> None:
    """One line for all commands of a call that was turned down as a whole, with each one's id."""
    ids = [command.correlation_id.decode(errors="replace") for command in commands[:MAX_COMMANDS]]
    _log.warning("commands refused", correlation_ids=ids, code=code, reason=reason, message=message)
