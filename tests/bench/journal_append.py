"""How many entries per second the journal takes, and what the projector costs: `python tests/bench/journal_append.py`.

Starts a Postgres with production settings (fsync on) in a temporary folder, unless --dsn names one. One connection,
one append in flight, as in a bet-service; entries are accepted single bets; a batch is durable when counted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import NamedTuple

import asyncpg
import psutil

from betting.embedded.ports import held_ports
from betting.embedded.postgres import PostgresServer, ensure_database
from betting.engine.entries import FORMAT, Entry, Kind
from betting.engine.records import ACCOUNT_BODY, MOVED_BODY, evidence_struct, record_struct
from betting.journal import append, install, migrate, ownership, partitions, projector
from betting.journal.connection import connect
from betting.runtime.clock import now_us
from betting.runtime.ids import uuid7_from

SHARDS = 16
OWNER = "bench/0000000000000000"
ACCOUNTS_PER_SHARD = 2_000
DEPOSIT_MINOR = 1_000_000_000
_ID = Struct(">QQ")


class Measured(NamedTuple):
    """One line of the table; rates per second, times in milliseconds, CPU in microseconds per entry."""

    batch: int
    shards: int
    rate: float
    p50_ms: float
    p99_ms: float
    client_us: float
    server_us: float
    wal_bytes: float


class Source:
    """Makes entries that could have come from `decide`, cheaply."""

    def __init__(self) -> None:
        self.heads = dict.fromkeys(range(SHARDS), 0)
        self.accounts = {s: [os.urandom(16) for _ in range(ACCOUNTS_PER_SHARD)] for s in range(SHARDS)}
        self._turn = 0

    def opening(self, shard: int) -> list[Entry]:
        """An account and a deposit each."""
        made = []
        at = now_us()
        for account in self.accounts[shard]:
            opened = ACCOUNT_BODY.pack(os.urandom(16), b"GBP")
            made.append(self._entry(shard, Kind.ACCOUNT_OPENED, at, account, None, None, (0, 0, 0, 0, 0), opened))
            body = MOVED_BODY.pack(account, DEPOSIT_MINOR, DEPOSIT_MINOR, 0, 0)
            key, money = uuid7_from(time.time_ns(), os.urandom(8)), (DEPOSIT_MINOR, 0, 0, -DEPOSIT_MINOR, 0)
            made.append(self._entry(shard, Kind.DEPOSITED, at, account, None, key, money, body))
        return made

    def bets(self, shard: int, count: int) -> list[Entry]:
        """Accepted singles."""
        at = now_us()
        accounts = self.accounts[shard]
        made = []
        for _ in range(count):
            self._turn += 1
            account = accounts[self._turn * 7919 % ACCOUNTS_PER_SHARD]
            key = uuid7_from(time.time_ns(), os.urandom(8))
            body = record_struct(1).pack(account, 500, at, 1, 77, 1 + self._turn % 5_000, 1, 91, 100)
            body += evidence_struct(1).pack(0, 955, 91, 100, 12, at + 3_600_000_000, 40, 1)
            made.append(
                self._entry(shard, Kind.BET_PLACED, at, account, os.urandom(16), key, (-500, 500, 0, 0, 0), body)
            )
        return made

    def _entry(
        self,
        shard: int,
        kind: int,
        at: int,
        account: bytes,
        bet: bytes | None,
        key: bytes | None,
        money: tuple[int, int, int, int, int],
        body: bytes,
    ) -> Entry:
        self.heads[shard] += 1
        return Entry(self.heads[shard], kind, FORMAT, at, account, bet, key, None, *money, body)


def batches(source: Source, size: int, shards: int, count: int) -> Iterator[list[append.ShardEntries]]:
    """`count` batches of `size` entries over `shards` shards."""
    for number in range(count):
        chosen = [(number * shards + i) % SHARDS for i in range(shards)]
        yield [append.ShardEntries(s, 1, source.bets(s, size // shards)) for s in chosen]


async def measure(
    connection: asyncpg.Connection, server: psutil.Process, source: Source, size: int, shards: int, entries: int
) -> Measured:
    """Appends `entries` entries; building them is not counted."""
    todo = list(batches(source, size, shards, max(entries // size, 20)))
    wal_before = await connection.fetchval("SELECT pg_current_wal_insert_lsn()")
    client_before, server_before = time.process_time(), _cpu_s(server)
    took_ms = []
    begun = time.perf_counter()
    for batch in todo:
        sent = time.perf_counter()
        answer = await append.append(connection, OWNER, batch)
        took_ms.append((time.perf_counter() - sent) * 1000)
        assert len(answer.matched) == len(batch)
    seconds = time.perf_counter() - begun
    client_s, server_s = time.process_time() - client_before, _cpu_s(server) - server_before
    wal = await connection.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1)::bigint", wal_before)
    done = len(todo) * size
    took_ms.sort()
    return Measured(
        size, shards, done / seconds, took_ms[len(took_ms) // 2], took_ms[len(took_ms) * 99 // 100],
        client_s / done * 1e6, server_s / done * 1e6, wal / done,
    )  # fmt: skip


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def measure_projector(connection: asyncpg.Connection, server: psutil.Process) -> tuple[float, float, int]:
    """Entries per second, CPU microseconds of the server per entry, entries; until nothing is left."""
    begun, cpu, done = time.perf_counter(), _cpu_s(server), 0
    while True:
        moved = 0
        for shard in range(SHARDS):
            answer = await projector.project(connection, shard)
            assert answer is not None
            moved += answer.to_sequence - answer.from_sequence
        done += moved
        if not moved:
            break
    return done / (time.perf_counter() - begun), (_cpu_s(server) - cpu) / done * 1e6, done


async def run(dsn: str, entries: int) -> None:
    """Prints the tables."""
    connection = await connect(dsn, OWNER)
    await install.initialise(connection, SHARDS)
    await partitions.maintain_partitions(connection, now_us())
    source = Source()
    server = psutil.Process(connection.get_server_pid())
    for shard in range(SHARDS):
        assert await ownership.acquire(connection, shard, OWNER, "127.0.0.1:1", 0) is not None
        await append.append(connection, OWNER, [append.ShardEntries(shard, 1, source.opening(shard))])
    settings = await connection.fetchrow("SELECT current_setting('fsync'), current_setting('synchronous_commit')")
    print(f"fsync {settings[0]}, synchronous_commit {settings[1]}; CPU in µs per entry")
    print(" batch shards  entries/s  p50 ms  p99 ms  client  server  WAL B")
    for size, shards in [(50, 1), (50, 8), (200, 1), (200, 8), (500, 8), (1000, 8), (2000, 1), (2000, 8), (4000, 16)]:
        m = await measure(connection, server, source, size, shards, entries)
        print(
            f"{m.batch:>6} {m.shards:>6} {m.rate:>10,.0f} {m.p50_ms:>7.2f} {m.p99_ms:>7.2f}"
            f" {m.client_us:>7.2f} {m.server_us:>7.2f} {m.wal_bytes:>6.0f}"
        )
    rate, cpu_us, done = await measure_projector(connection, server)
    print(f"projector: {rate:,.0f} entries/s alone on one connection, {cpu_us:.1f} µs CPU per entry ({done:,} entries)")
    await connection.close()


def main() -> None:
    """Starts a server if none was given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dsn", help="an empty database")
    parser.add_argument("--entries", type=int, default=60_000, help="per line of the table")
    chosen = parser.parse_args()
    if chosen.dsn:
        migrate.migrate(chosen.dsn)
        asyncio.run(run(chosen.dsn, chosen.entries))
        return
    with tempfile.TemporaryDirectory() as folder, held_ports(1) as [port]:
        started = PostgresServer(Path(folder) / "pg", port)
        started.start()
        try:
            ensure_database(started.spec)
            migrate.migrate(started.spec.dsn())
            asyncio.run(run(started.spec.dsn(), chosen.entries))
        finally:
            started.stop()


if __name__ == "__main__":
    main()
