"""A shard's state as bytes and back, in slices short enough that bets do not wait behind them.

    capture(state) -> Capture         references only: well under a millisecond for 20,000 bets
    encode(capture) -> chunks         one slice of work per chunk
    load(data)                        a generator: one slice of work per step, returns the state

Layout, big-endian: magic "SHRD", format (2 bytes), header; then sections of (count 4, items): accounts, open bets,
results, settlements under way, reopened bets, recent request keys.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from struct import Struct
from struct import error as StructError
from typing import NamedTuple, TypeVar

from betting.engine.records import LEG_SIZE, RECORD_HEAD, pack_result, unpack_result
from betting.engine.state import Account, MarketResult, Settling, ShardState, index_bet

SNAPSHOT_FORMAT = 1
ITEMS_PER_SLICE = 1_000  # about 2 ms of work

MAGIC = b"SHRD"
_HEAD = Struct(">4sHIqqqqq")
_COUNT = Struct(">I")
_ACCOUNT = Struct(">16s16s3sqqqI")
_RESULT = Struct(">qq?qqH")
_SETTLING = Struct(">qI16sqqqqI")
_REOPENED = Struct(">16sH")
_RECENT = Struct(">q16sHI")

# The bets that accounts list: `open_bets` has the very same ids, a copy of each would cost 49 bytes a bet.
_Ids = dict[bytes, bytes]
_BYTES = tuple(bytes((number,)) for number in range(256))

T = TypeVar("T")


class BadSnapshot(Exception):
    """Bytes that are no snapshot of this format: fall back to the one before."""


class Capture(NamedTuple):
    """References to everything a snapshot holds, taken in one go. Accounts and records are immutable."""

    shard: int
    head: int
    now_us: int
    bets_accepted: int
    house_minor: int
    clearing_minor: int
    accounts: dict[bytes, Account]
    open_bets: dict[bytes, bytes]
    results: dict[int, MarketResult]
    settling: list[bytes]
    reopened: dict[bytes, int]
    recent: dict[int, dict[bytes, bytes]]


def capture(state: ShardState) -> Capture:
    """What the state is at this moment. Later changes to the state do not show."""
    return Capture(
        state.shard,
        state.head,
        state.now_us,
        state.bets_accepted,
        state.house_minor,
        state.clearing_minor,
        state.accounts.copy(),
        state.open_bets.copy(),
        state.results.copy(),
        [_pack_settling(market, settling) for market, settling in state.settling.items()],
        state.reopened.copy(),
        {minute: bucket.copy() for minute, bucket in state.recent.items()},
    )


def encode(taken: Capture) -> Iterator[bytes]:
    """The snapshot in chunks; joined they are what `load` takes."""
    yield _HEAD.pack(
        MAGIC, SNAPSHOT_FORMAT, taken.shard, taken.head, taken.now_us, taken.bets_accepted, taken.house_minor,
        taken.clearing_minor,
    )  # fmt: skip
    yield from _section(len(taken.accounts), taken.accounts.items(), _pack_account)
    yield from _section(len(taken.open_bets), taken.open_bets.items(), b"".join)
    yield from _section(len(taken.results), taken.results.items(), _pack_result)
    yield from _section(len(taken.settling), taken.settling, lambda packed: packed)
    yield from _section(len(taken.reopened), taken.reopened.items(), lambda item: _REOPENED.pack(*item))
    recent = ((minute, slot, answer) for minute, bucket in taken.recent.items() for slot, answer in bucket.items())
    yield from _section(sum(map(len, taken.recent.values())), recent, _pack_recent)


def _section(count: int, items: Iterable[T], pack: Callable[[T], bytes]) -> Iterator[bytes]:
    yield _COUNT.pack(count)
    remaining = iter(items)
    while chunk := list(islice(remaining, ITEMS_PER_SLICE)):
        yield b"".join(map(pack, chunk))


def _pack_account(item: tuple[bytes, Account]) -> bytes:
    account, a = item
    head = _ACCOUNT.pack(
        account, a.user, a.currency, a.cash_minor, a.open_stakes_minor, a.receivable_minor, len(a.open_bets)
    )
    return head + b"".join(a.open_bets)


def _pack_result(item: tuple[int, MarketResult]) -> bytes:
    market, r = item
    packed = pack_result(r.version, r.outcomes)
    return _RESULT.pack(market, r.sequence, r.done, r.bets, r.payout_minor, len(packed)) + packed


def _pack_settling(market: int, s: Settling) -> bytes:
    head = _SETTLING.pack(market, s.version, s.cursor, s.bets, s.payout_minor, *s.before, len(s.unvisited))
    return head + b"".join(s.unvisited)


def _pack_recent(item: tuple[int, bytes, bytes]) -> bytes:
    minute, slot, answer = item
    return _RECENT.pack(minute, slot[16:], answer[0], len(answer) - 1) + answer[1:]


def load(data: bytes) -> Generator[None, None, ShardState]:
    """Builds the state, yielding after each slice of work. Raises BadSnapshot for anything but a whole snapshot."""
    try:
        magic, fmt, shard, head, now_us, accepted, house, clearing = _HEAD.unpack_from(data)
        if magic != MAGIC or fmt != SNAPSHOT_FORMAT:
            raise BadSnapshot(f"snapshot format {fmt} is not readable here")
        state = ShardState(shard)
        state.head, state.now_us, state.bets_accepted = head, now_us, accepted
        state.house_minor, state.clearing_minor = house, clearing
        at = _HEAD.size
        shared: _Ids = {}
        for read in (_read_accounts, _read_bets, _read_results, _read_settling, _read_reopened, _read_recent):
            (left,) = _COUNT.unpack_from(data, at)
            at += _COUNT.size
            while left:
                at = read(state, shared, data, at, min(left, ITEMS_PER_SLICE))
                left -= min(left, ITEMS_PER_SLICE)
                yield
    except (StructError, KeyError, IndexError, ValueError) as problem:
        raise BadSnapshot(f"the snapshot is cut off or garbled: {problem}") from problem
    if at != len(data):
        raise BadSnapshot(f"the snapshot has {len(data) - at} bytes too many")
    return state


def _ids(data: bytes, at: int, count: int) -> tuple[bytes, ...]:
    if at + 16 * count > len(data):
        raise ValueError("an id list runs past the end")
    return tuple(data[at + 16 * i : at + 16 * (i + 1)] for i in range(count))


# Each of these reads so many items from there on, and returns where they end. How long bettors wait for the next owner
# of their shard is decided here and in `apply`: the two with an item for each bet are written for speed.


def _read_accounts(state: ShardState, shared: _Ids, data: bytes, at: int, count: int) -> int:
    for _ in range(count):
        account, user, currency, cash, stakes, receivable, n = _ACCOUNT.unpack_from(data, at)
        at += _ACCOUNT.size
        bets = _ids(data, at, n)
        shared.update(zip(bets, bets, strict=True))
        state.accounts[account] = Account(user, currency, cash, stakes, receivable, bets)
        state.account_ids[user + currency] = account
        at += 16 * int(n)
    return at


def _read_bets(state: ShardState, shared: _Ids, data: bytes, at: int, count: int) -> int:
    open_bets, by_market, end_of_data = state.open_bets, state.by_market, len(data)
    for _ in range(count):
        start = at + 16
        end = start + RECORD_HEAD + LEG_SIZE * data[start + 32]
        if end > end_of_data:
            raise ValueError("a bet record runs past the end")
        bet = shared[data[at:start]]
        open_bets[bet] = record = data[start:end]
        index_bet(by_market, bet, record)
        at = end
    return at


def _read_results(state: ShardState, _shared: _Ids, data: bytes, at: int, count: int) -> int:
    for _ in range(count):
        market, sequence, done, bets, payout, size = _RESULT.unpack_from(data, at)
        at += _RESULT.size
        version, outcomes = unpack_result(data[at : at + size])
        state.results[market] = MarketResult(version, outcomes, sequence, done, bets, payout)
        at += int(size)
    return at


def _read_settling(state: ShardState, _shared: _Ids, data: bytes, at: int, count: int) -> int:
    for _ in range(count):
        market, version, cursor, bets, payout, bets_before, payout_before, n = _SETTLING.unpack_from(data, at)
        at += _SETTLING.size
        settling = Settling(version, dict.fromkeys(_ids(data, at, n)), (bets_before, payout_before))
        settling.bets, settling.payout_minor = bets, payout
        settling.cursor = cursor if any(cursor) else b""
        state.settling[market] = settling
        at += 16 * int(n)
    return at


def _read_reopened(state: ShardState, _shared: _Ids, data: bytes, at: int, count: int) -> int:
    for _ in range(count):
        bet, settlements = _REOPENED.unpack_from(data, at)
        state.reopened[bet] = settlements
        at += _REOPENED.size
    return at


def _read_recent(state: ShardState, _shared: _Ids, data: bytes, at: int, count: int) -> int:
    recent, head, head_size, end_of_data = state.recent, _RECENT.unpack_from, _RECENT.size, len(data)
    for _ in range(count):
        minute, key, kind, size = head(data, at)
        at += head_size
        end = at + size
        if end > end_of_data:
            raise ValueError("a request's body runs past the end")
        bucket = recent.get(minute)
        if bucket is None:
            bucket = recent[minute] = {}
        body = data[at:end]
        bucket[state.key_owner(kind, body) + key] = _BYTES[kind] + body
        at = end
    return int(at)
