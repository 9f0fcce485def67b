"""How fast the money core is, alone in one thread: `.venv/bin/python tests/bench/engine.py [bets]`.

Each row is processor time, the best of a few rounds and the worst beside it: the machine is rarely alone.
"""

from __future__ import annotations

import gc
import hashlib
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable
from typing import NamedTuple

from betting.engine import snapshots
from betting.engine.apply import apply
from betting.engine.commands import Decision, Deposit, PlaceBet, Quote, ResultMarket, SettleChunk
from betting.engine.decide import decide
from betting.engine.entries import Entry
from betting.engine.prices import Limits
from betting.engine.records import SeenLeg
from betting.engine.state import ShardState
from betting.engine.validation import check_place

START_US = 1_800_000_000_000_000
LIMITS = Limits()
USERS = 2_000
ROUNDS = 3
SAMPLE = 10_000
CHUNK_BETS = 250
MARKETS = 100


class Row(NamedTuple):
    """One line of the table."""

    what: str
    best: float
    worst: float
    unit: str


def key(number: int) -> bytes:
    """Request keys of one second; the hash keeps them apart as random bits would."""
    rest = bytearray(hashlib.sha256(number.to_bytes(8)).digest()[:10])
    rest[0], rest[2] = 0x70 | rest[0] & 0x0F, 0x80 | rest[2] & 0x3F
    return (START_US // 1000 + number % 1000).to_bytes(6) + bytes(rest)


def user(number: int) -> bytes:
    """One of the users."""
    return (number % USERS).to_bytes(16)


def funded() -> ShardState:
    """A shard where every user has money."""
    state = ShardState(0)
    for number in range(USERS):
        run(state, Deposit(key(10**9 + number), user(number), b"GBP", 10**12))
    return state


def bet(number: int, legs: int) -> PlaceBet:
    """A bet over `legs` of the markets, each in its own event."""
    markets = [1 + (number + step) % MARKETS for step in range(legs)]
    seen = tuple(SeenLeg(market, 1 + number % 3, 91, 100) for market in markets)
    quotes = tuple(Quote(market, 91, 100, 7, 1, START_US * 2, 120) for market in markets)
    return PlaceBet(key(number), user(number), b"GBP", 100, seen, 0, quotes)


def run(state: ShardState, command: PlaceBet | Deposit | ResultMarket | SettleChunk) -> Decision:
    """Decides and applies."""
    decision = decide(state, command, START_US, LIMITS)
    for entry in decision.entries:
        apply(state, entry)
    return decision


def best_of(what: str, unit: str, work: Callable[[], float]) -> Row:
    """Runs the work a few times."""
    seen = sorted(work() for _ in range(ROUNDS))
    return Row(what, seen[0], seen[-1], unit)


def place_us(legs: int) -> float:
    """Microseconds per bet, decided and applied."""
    state, commands = funded(), [bet(number, legs) for number in range(SAMPLE)]
    gc.collect()
    start = time.process_time()
    for command in commands:
        apply(state, decide(state, command, START_US, LIMITS).entries[0])
    return (time.process_time() - start) / SAMPLE * 1e6


def validate_us() -> float:
    """Microseconds to see that a bet is well-formed."""
    commands = [bet(number, 1) for number in range(SAMPLE)]
    start = time.process_time()
    for command in commands:
        check_place(command)
    return (time.process_time() - start) / SAMPLE * 1e6


def repeat_us() -> float:
    """Microseconds to answer a repeat from memory."""
    state, commands = funded(), [bet(number, 1) for number in range(SAMPLE)]
    for command in commands:
        run(state, command)
    start = time.process_time()
    for command in commands:
        decide(state, command, START_US, LIMITS)
    return (time.process_time() - start) / SAMPLE * 1e6


def settle_us() -> float:
    """Microseconds per bet settled, chunk by chunk, all bets on one market."""
    state = funded()
    for number in range(SAMPLE):
        run(state, bet(number * MARKETS, 1)._replace(key=key(number), user=user(number)))
    run(state, ResultMarket(1, 1, {1: 5, 2: 1, 3: 1}))
    start = time.process_time()
    while not state.results[1].done:
        run(state, SettleChunk(1, 1, CHUNK_BETS, None))
    return (time.process_time() - start) / SAMPLE * 1e6


def journal_of(bets: int) -> list[Entry]:
    """The entries of so many single bets."""
    state, entries = ShardState(0), list[Entry]()
    for number in range(USERS):
        entries += run(state, Deposit(key(10**9 + number), user(number), b"GBP", 10**12)).entries
    for number in range(bets):
        entries += run(state, bet(number, 1)).entries
    return entries


def replayed(entries: Iterable[Entry]) -> ShardState:
    """The state after these entries."""
    state = ShardState(0)
    for entry in entries:
        apply(state, entry)
    return state


def snapshot_rows(bets: int) -> list[Row]:
    """Replay, capture, encode, load; each over a shard with so many open bets and as many request keys."""
    entries = journal_of(bets)
    replay_rate, capture_ms, encode_ms, load_ms, slice_ms = [], [], [], [], []
    data = b""
    for _ in range(ROUNDS):
        gc.collect()
        start = time.process_time()
        state = replayed(entries)
        replay_rate.append(len(entries) / (time.process_time() - start))
        start = time.process_time()
        taken = snapshots.capture(state)
        capture_ms.append((time.process_time() - start) * 1e3)
        start = time.process_time()
        data = b"".join(snapshots.encode(taken))
        encode_ms.append((time.process_time() - start) * 1e3)
        del state, taken
        slices = load_slices_ms(data)
        load_ms.append(sum(slices))
        slice_ms.append(max(slices))
    return [
        Row("replay", max(replay_rate), min(replay_rate), "entries/s"),
        Row("capture", min(capture_ms), max(capture_ms), "ms"),
        Row("encode", min(encode_ms), max(encode_ms), "ms"),
        Row("load", min(load_ms), max(load_ms), "ms"),
        Row("load, longest slice", min(slice_ms), max(slice_ms), "ms"),
        Row("snapshot", len(data) / bets, len(data) / bets, "bytes/bet"),
    ]


def load_slices_ms(data: bytes) -> list[float]:
    """Milliseconds of each slice of a load."""
    work, slices = snapshots.load(data), []
    while True:
        start = time.process_time()
        ended = next(work, StopIteration) is StopIteration
        slices.append((time.process_time() - start) * 1e3)
        if ended:
            return slices


def received(entry: Entry) -> Entry:
    """The entry as it comes from a socket: it shares no bytes with the entries around it."""
    assert entry.account is not None
    return entry._replace(
        account=bytes(bytearray(entry.account)),
        bet=bytes(bytearray(entry.bet)) if entry.bet is not None else None,
        request_key=bytes(bytearray(entry.request_key)) if entry.request_key is not None else None,
        body=bytes(bytearray(entry.body)),
    )


def memory_rows(bets: int) -> list[Row]:
    """Bytes of one open bet, and of its request key's first answer while that is remembered; one leg."""
    entries = journal_of(bets)
    tracemalloc.start()
    state = replayed(map(received, entries))
    whole = tracemalloc.get_traced_memory()[0]
    state.recent.clear()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return [
        Row("open bet", kept / bets, kept / bets, "bytes"),
        Row("its request key", (whole - kept) / bets, (whole - kept) / bets, "bytes"),
    ]


def pause_rows(bets: int) -> list[Row]:
    """A full garbage collection over a shard with so many bets, and after gc.freeze."""
    state = replayed(journal_of(bets))
    rows = []
    for what in ("full collection", "full collection, frozen"):
        gc.collect()
        start = time.process_time()
        gc.collect()
        pause_ms = (time.process_time() - start) * 1e3
        rows.append(Row(what, pause_ms, pause_ms, "ms"))
        gc.freeze()
    gc.unfreeze()
    assert state.open_bets
    return rows


def main(bets: int) -> None:
    """Prints the table."""
    rows = [
        best_of("check_place", "µs", validate_us),
        best_of("decide + apply, single", "µs/bet", lambda: place_us(1)),
        best_of("decide + apply, 5 legs", "µs/bet", lambda: place_us(5)),
        best_of("repeat from memory", "µs", repeat_us),
        best_of("settle", "µs/bet", settle_us),
        *snapshot_rows(bets),
        *pause_rows(bets),
        *memory_rows(bets),
    ]
    print(f"Python {sys.version.split()[0]}, {bets:,} bets on one shard\n")
    print(f"{'what':<28}{'best':>14}{'worst':>14}  unit")
    for row in rows:
        print(f"{row.what:<28}{row.best:>14,.2f}{row.worst:>14,.2f}  {row.unit}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
