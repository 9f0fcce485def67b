"""Answers that are not in an owner's memory: settled bets from the read model, old request keys from the journal.

All of a call's are looked up together, and none waits for the projector: the commands of other bettors in the same call
wait with them. What the read model does not hold yet is answered READ_MODEL_BEHIND, and asked again by the router.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from betting.bets import translate
from betting.bets.shard import OwnedShard
from betting.engine.commands import PriorAnswer, Recorded
from betting.engine.entries import Kind
from betting.engine.ids import account_id, is_uuid7
from betting.internal.v1 import owner_pb2
from betting.journal import read_model, requests
from betting.journal.read_model import BetRow
from betting.runtime import errors, postgres


@dataclass(frozen=True, slots=True)
class ColdRead:
    """A get_bet or get_by_request_key of a verified user, and where its answer goes."""

    command: owner_pb2.Command
    user: bytes
    result: owner_pb2.Result


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A bet to look up in the read model for one read."""

    bet: bytes
    read: ColdRead


async def answer(pool: asyncpg.Pool, owned: OwnedShard, reads: Sequence[ColdRead]) -> None:
    """Fills every read's result; what is wrong with one, or with the database, is said as its fault."""
    try:
        wanted = [_Wanted(one.command.get_bet.bet_id, one) for one in reads if one.command.HasField("get_bet")]
        wanted += await _by_request_key(pool, owned, [one for one in reads if not one.command.HasField("get_bet")])
        if wanted:
            await _settled_bets(pool, owned, wanted)
    except errors.ServiceError as problem:
        for one in reads:
            if one.result.WhichOneof("result") is None:
                _fault(one, problem)


async def _by_request_key(pool: asyncpg.Pool, owned: OwnedShard, reads: Sequence[ColdRead]) -> list[_Wanted]:
    """Answers what memory and journal can; returns the bets that are settled."""
    found = {}
    unknown = [(owned.shard, _key(one)) for one in reads if is_uuid7(_key(one)) and _remembered(owned, one) is None]
    if unknown:
        async with postgres.translated(), pool.acquire() as connection:
            found = await requests.find(connection, unknown)
    settled = []
    for one in reads:
        priors = [PriorAnswer(entry.kind, entry.body) for entry in found.get((owned.shard, _key(one)), ())]
        own = owned.state.own_answer(one.user, one.command.currency.encode(), priors)
        try:
            bet = _recorded(owned, one, _remembered(owned, one) or own)
        except errors.ServiceError as problem:
            _fault(one, problem)
        else:
            if bet is not None:
                settled.append(_Wanted(bet, one))
    return settled


def _key(read: ColdRead) -> bytes:
    return read.command.get_by_request_key.request_key


def _remembered(owned: OwnedShard, read: ColdRead) -> PriorAnswer | None:
    return owned.state.remembered(read.user, read.command.currency.encode(), _key(read))


def _recorded(owned: OwnedShard, read: ColdRead, prior: PriorAnswer | None) -> bytes | None:
    """Answers by what a request key was recorded with; returns the bet where that has been settled since."""
    key = _key(read)
    if not is_uuid7(key):
        raise errors.invalid_argument(
            "REQUEST_KEY_NOT_UUID7", f"request_key is {key[:16].hex()}: give a UUIDv7 (RFC 9562)"
        )
    currency = read.command.currency.encode()
    if prior is None or prior.body[:16] != account_id(read.user, currency):
        raise errors.not_found(
            "REQUEST_NOT_FOUND",
            "no request with this request_key and currency was recorded for you: it may be sent again",
        )
    if prior.kind != Kind.BET_PLACED:
        translate.fill_recorded(read.result, Recorded(prior.kind, key, prior.body, False), read.command.currency)
        return None
    bet = translate.placed_bet(prior.body, key, currency)
    if bet.bet_id in owned.state.open_bets:
        read.result.bet.CopyFrom(bet)
        return None
    return bet.bet_id


async def _settled_bets(pool: asyncpg.Pool, owned: OwnedShard, wanted: Sequence[_Wanted]) -> None:
    confirmed = owned.confirmed
    async with postgres.translated(), pool.acquire() as connection:
        behind = await read_model.watermark(connection, owned.shard) < confirmed
        rows = await read_model.bets_by_id(connection, {one.bet for one in wanted})
    for one in wanted:
        try:
            one.read.result.bet.CopyFrom(_settled_bet(owned, one, rows.get(one.bet), behind))
        except errors.ServiceError as problem:
            _fault(one.read, problem)


def _settled_bet(owned: OwnedShard, wanted: _Wanted, row: BetRow | None, behind: bool) -> owner_pb2.Bet:
    """Raises NOT_FOUND, also for somebody else's bet, and UNAVAILABLE while the read model is behind."""
    account = owned.state.accounts.get(row.account) if row is not None else None
    mine = account is not None and account.user == wanted.read.user
    settled = wanted.bet not in owned.state.open_bets
    unknown_yet = row is None or (mine and settled and row.settled_at_us is None)
    if behind and unknown_yet:
        raise errors.unavailable(
            errors.READ_MODEL_BEHIND, "settled bets cannot be read for a moment: ask again in a second"
        )
    if row is None or account is None or not mine:
        raise errors.not_found(
            "BET_NOT_FOUND",
            f"you have no bet {uuid.UUID(bytes=wanted.bet)}: ListOpenBets and ListSettledBets name those you have",
        )
    found = translate.open_bet(wanted.bet, row.record, account.currency)
    found.request_key = row.request_key
    found.settled = settled
    found.payout_minor = row.payout_minor or 0
    found.settled_at_us = row.settled_at_us or 0
    return found


def _fault(read: ColdRead, problem: errors.ServiceError) -> None:
    translate.fill_fault(read.result, problem.code.value[0], problem.reason, problem.message)
