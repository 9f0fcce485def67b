"""The only place that changes a state. Facts in, no rules: replaying an old entry under new code gives the old result.

Functions here are per kind and format; one for a released format is never edited.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import error as StructError

from betting.engine.entries import Entry, Kind
from betting.engine.ids import key_minute
from betting.engine.records import (
    ACCOUNT_BODY,
    AMOUNT,
    BET_CONTENT_HEAD,
    BET_CONTENT_LEG,
    EVIDENCE_HEAD,
    EVIDENCE_LEG,
    LEG_SIZE,
    MOVED_BODY,
    NO_CURSOR,
    RECORD_HEAD,
    REFUSED_HEAD,
    RESETTLED_BODY,
    SETTLED_BODY,
    TOTALS_BODY,
    markets_of,
    unpack_kept,
    unpack_result,
)
from betting.engine.state import (
    RECENT_MINUTES,
    RECENT_SLACK_MINUTES,
    US_PER_MINUTE,
    Account,
    MarketResult,
    Settling,
    ShardState,
    index_bet,
)

# A remembered answer begins with its kind.
_KIND_BYTES = {int(kind): bytes((kind,)) for kind in Kind}


class CannotApply(Exception):
    """An entry that does not fit the state. The shard freezes; the process lives on."""


def apply(state: ShardState, entry: Entry) -> None:
    """Changes the state by one entry, whole or not at all as far as the head is concerned.

    Raises CannotApply when the entry is out of order, of an unknown kind or format, or contradicts the state; the state
    must then be thrown away.
    """
    if entry.sequence != state.head + 1:
        raise CannotApply(f"shard {state.shard}: entry {entry.sequence} does not follow {state.head}")
    try:
        _, kind, fmt, at_us, _, _, _, _, cash, stakes, house, clearing, receivable, _ = entry
        assert cash + stakes + house + clearing + receivable == 0, "debits and credits differ"
        _CHANGES[kind, fmt](state, entry)
        state.house_minor += house
        state.clearing_minor += clearing
        if at_us > state.now_us:
            _move_clock(state, at_us)
    except (KeyError, IndexError, TypeError, ValueError, StructError, AssertionError) as problem:
        where = f"shard {state.shard}, entry {entry.sequence}, kind {entry.kind}, format {entry.format}"
        raise CannotApply(f"{where}: {type(problem).__name__}: {problem}") from problem
    state.head = entry.sequence


def _move_clock(state: ShardState, at_us: int) -> None:
    if at_us // US_PER_MINUTE > state.now_us // US_PER_MINUTE:
        oldest = at_us // US_PER_MINUTE - RECENT_MINUTES - RECENT_SLACK_MINUTES
        for minute in [m for m in state.recent if m < oldest]:
            del state.recent[minute]
    state.now_us = at_us


def _remember(state: ShardState, entry: Entry) -> None:
    key = entry.request_key
    assert key is not None
    assert len(key) == 16, "a request key has 16 bytes"
    minute = key_minute(key)
    used = max(state.now_us, entry.at_us) // US_PER_MINUTE
    if minute <= used - RECENT_MINUTES:  # it was looked up: who looks again meanwhile must find it in memory
        minute = used
    bucket = state.recent.get(minute)
    if bucket is None:
        bucket = state.recent[minute] = {}
    bucket[state.key_owner(entry.kind, entry.body) + key] = _KIND_BYTES[entry.kind] + entry.body


def _account_opened(state: ShardState, entry: Entry) -> None:
    assert entry.account is not None
    assert entry.account not in state.accounts, "account exists"
    user, currency = ACCOUNT_BODY.unpack(entry.body)
    state.accounts[entry.account] = Account(user, currency, 0, 0, 0, ())
    state.account_ids[user + currency] = entry.account


def _moved(state: ShardState, entry: Entry) -> None:
    assert entry.account is not None
    account, _amount, *balance = MOVED_BODY.unpack(entry.body)
    old = state.accounts[entry.account]
    cash = old.cash_minor + entry.cash_minor
    receivable = old.receivable_minor + entry.receivable_minor
    assert cash >= 0
    assert receivable <= 0
    assert account == entry.account, "the body is of another account"
    assert balance == [cash, old.open_stakes_minor, receivable], "the balance after differs"
    state.accounts[entry.account] = Account(
        old.user, old.currency, cash, old.open_stakes_minor, receivable, old.open_bets
    )
    _remember(state, entry)


def _bet_placed(state: ShardState, entry: Entry) -> None:
    account, bet, body = entry.account, entry.bet, entry.body
    assert account is not None
    assert bet is not None
    old = state.accounts[account]
    cash = old.cash_minor + entry.cash_minor
    legs = body[32]
    assert cash >= 0
    assert len(bet) == 16, "a bet id has 16 bytes"
    assert bet not in state.open_bets, "bet is open"
    assert len(body) == RECORD_HEAD + EVIDENCE_HEAD + (LEG_SIZE + EVIDENCE_LEG) * legs, "the body has another length"
    assert body[:16] == account, "the body is of another account"
    assert int.from_bytes(body[16:24]) == entry.stakes_minor, "the body has another stake"
    state.accounts[account] = Account(
        old.user,
        old.currency,
        cash,
        old.open_stakes_minor + entry.stakes_minor,
        old.receivable_minor,
        (*old.open_bets, bet),
    )
    record = body[: RECORD_HEAD + LEG_SIZE * legs]
    state.open_bets[bet] = record
    index_bet(state.by_market, bet, record)
    state.bets_accepted += 1
    _remember(state, entry)


def _refused(state: ShardState, entry: Entry) -> None:
    command_kind = entry.body[REFUSED_HEAD.size - 1]
    content = len(entry.body) - REFUSED_HEAD.size
    if command_kind == Kind.BET_PLACED:
        legs = entry.body[REFUSED_HEAD.size + BET_CONTENT_HEAD - 1]
        assert content == BET_CONTENT_HEAD + BET_CONTENT_LEG * legs, "the refused bet has another length"
    else:
        assert content == AMOUNT.size, "the refused amount has another length"
    _remember(state, entry)


def _market_resulted(state: ShardState, entry: Entry) -> None:
    assert entry.market is not None
    assert entry.market not in state.settling, "the version before has not finished"
    version, outcomes = unpack_result(entry.body)
    known = state.results.get(entry.market)
    before = (known.bets, known.payout_minor) if known is not None else (0, 0)
    state.results[entry.market] = MarketResult(version, outcomes, entry.sequence, done=False, bets=0, payout_minor=0)
    state.settling[entry.market] = Settling(version, dict(state.by_market.get(entry.market, {})), before)


def _bet_settled(state: ShardState, entry: Entry) -> None:
    assert entry.bet is not None
    assert entry.market is not None
    _version, _number, payout = SETTLED_BODY.unpack(entry.body)
    assert entry.house_minor == -entry.stakes_minor - payout, "the body has another payout"
    record = state.open_bets.pop(entry.bet)
    _check_record(entry, record, -entry.stakes_minor)
    for market in markets_of(record):
        bets = state.by_market[market]
        del bets[entry.bet]
        if not bets:
            del state.by_market[market]
        settling = state.settling.get(market)
        if settling is not None:
            settling.unvisited.pop(entry.bet, None)
    state.reopened.pop(entry.bet, None)
    _post(state, entry, dropped=entry.bet)
    _count(state, entry.market, payout)


def _check_record(entry: Entry, record: bytes, stakes_minor: int) -> None:
    assert len(record) == RECORD_HEAD + LEG_SIZE * record[32], "the bet has another length"
    assert record[:16] == entry.account, "the bet is of another account"
    assert int.from_bytes(record[16:24]) == stakes_minor, "the bet has another stake"


def _bets_kept(state: ShardState, entry: Entry) -> None:
    assert entry.market is not None
    _version, cursor, kept = unpack_kept(entry.body)
    settling = state.settling[entry.market]
    for bet in kept:
        del settling.unvisited[bet]
    if cursor != NO_CURSOR:
        settling.cursor = cursor


def _bet_resettled(state: ShardState, entry: Entry) -> None:
    assert entry.market is not None
    assert entry.bet is not None
    assert entry.bet not in state.open_bets, "bet is open"
    _version, _number, before, payout = RESETTLED_BODY.unpack(entry.body)
    assert entry.house_minor == before - payout, "the body has other payouts"
    _post(state, entry)
    _count(state, entry.market, payout)


def _bet_reopened(state: ShardState, entry: Entry) -> None:
    assert entry.bet is not None
    assert entry.market is not None
    assert entry.bet not in state.open_bets, "bet is open"
    _version, number, before = SETTLED_BODY.unpack_from(entry.body)
    assert entry.house_minor == before - entry.stakes_minor, "the body has another payout"
    record = entry.body[SETTLED_BODY.size :]
    _check_record(entry, record, entry.stakes_minor)
    state.open_bets[entry.bet] = record
    index_bet(state.by_market, entry.bet, record)
    state.reopened[entry.bet] = number
    _post(state, entry, added=entry.bet)
    _count(state, entry.market, 0)


def _market_settled(state: ShardState, entry: Entry) -> None:
    assert entry.market is not None
    version, bets, payout = TOTALS_BODY.unpack(entry.body)
    settling = state.settling.pop(entry.market)
    assert (settling.version, settling.bets, settling.payout_minor) == (version, bets, payout), "totals differ"
    result = state.results[entry.market]
    state.results[entry.market] = result._replace(done=True, bets=bets, payout_minor=payout)


def _post(state: ShardState, entry: Entry, dropped: bytes | None = None, added: bytes | None = None) -> None:
    assert entry.account is not None
    old = state.accounts[entry.account]
    cash = old.cash_minor + entry.cash_minor
    stakes = old.open_stakes_minor + entry.stakes_minor
    receivable = old.receivable_minor + entry.receivable_minor
    assert cash >= 0
    assert stakes >= 0
    assert receivable <= 0
    bets = old.open_bets
    if dropped is not None:
        at = bets.index(dropped)
        bets = bets[:at] + bets[at + 1 :]
    if added is not None:
        bets = (*bets, added)
    state.accounts[entry.account] = Account(old.user, old.currency, cash, stakes, receivable, bets)


def _count(state: ShardState, market: int, payout_minor: int) -> None:
    settling = state.settling[market]
    settling.bets += 1
    settling.payout_minor += payout_minor


_CHANGES: dict[tuple[int, int], Callable[[ShardState, Entry], None]] = {
    (Kind.ACCOUNT_OPENED, 1): _account_opened,
    (Kind.DEPOSITED, 1): _moved,
    (Kind.WITHDRAWN, 1): _moved,
    (Kind.BET_PLACED, 1): _bet_placed,
    (Kind.REFUSED, 1): _refused,
    (Kind.MARKET_RESULTED, 1): _market_resulted,
    (Kind.BET_SETTLED, 1): _bet_settled,
    (Kind.BETS_KEPT, 1): _bets_kept,
    (Kind.BET_RESETTLED, 1): _bet_resettled,
    (Kind.BET_REOPENED, 1): _bet_reopened,
    (Kind.MARKET_SETTLED, 1): _market_settled,
}
