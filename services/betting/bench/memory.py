"""Bytes per open bet in an owner's memory: the state itself, in a process that holds nothing else."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection

import psutil

from betting.bench.report import Figure
from betting.engine.apply import apply
from betting.engine.commands import Deposit, MarketStatus, PlaceBet, Quote
from betting.engine.decide import decide
from betting.engine.prices import Limits
from betting.engine.records import SeenLeg
from betting.engine.state import ShardState

SHARDS = 16
BETS_PER_ACCOUNT = 10
MARKETS = 400
# 5 GB for 11.6 million open bets.
BUDGET_BYTES = 5_000_000_000 / 11_600_000
START_US = 1_800_000_000_000_000
# Bets arrive over a day, so that request keys age out of memory as they do in production.
STEP_US = 86_400


def measure(count: int) -> list[Figure]:
    """Resident bytes over count, with accounts, market index and request keys."""
    receiver, sender = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_fill, args=(sender, count), daemon=True)
    process.start()
    used: int = receiver.recv()
    process.join()
    whole = f"11.6 million would take {used / count * 11.6e6 / 1e9:.1f} GB"
    note = f"{count:,} singles, {BETS_PER_ACCOUNT} an account; {whole}"
    return [Figure("memory per open bet", used / count, "B", BUDGET_BYTES, at_most=True, note=note)]


def _fill(results: Connection, count: int) -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    states = [ShardState(shard) for shard in range(SHARDS)]
    limits = Limits()
    now_us = START_US
    user = b""
    for number in range(count):
        now_us += STEP_US
        state = states[number // BETS_PER_ACCOUNT % SHARDS]
        if number % BETS_PER_ACCOUNT == 0:
            user = os.urandom(16)
            _run(state, Deposit(_key(now_us), user, b"GBP", 1_000_000), now_us, limits)
        market = 1 + number % MARKETS
        quote = Quote(market, 91, 100, 1, int(MarketStatus.OPEN), now_us * 2, 0)
        _run(
            state,
            PlaceBet(_key(now_us), user, b"GBP", 500, (SeenLeg(market, 1, 91, 100),), 0, (quote,)),
            now_us,
            limits,
        )
    assert sum(len(state.open_bets) for state in states) == count
    results.send(process.memory_info().rss - before)


def _run(state: ShardState, command: Deposit | PlaceBet, now_us: int, limits: Limits) -> None:
    for entry in decide(state, command, now_us, limits).entries:
        apply(state, entry)


def _key(now_us: int) -> bytes:
    rest = bytearray(os.urandom(10))
    rest[0] = 0x70 | rest[0] & 0x0F
    rest[2] = 0x80 | rest[2] & 0x3F
    return (now_us // 1000).to_bytes(6) + bytes(rest)
