"""Snapshots of shard states in Postgres: parts first, then one row under the fence that makes them count."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from typing import NamedTuple, TypeAlias

import asyncpg
import structlog

_log = structlog.get_logger(component=__name__)

PART_BYTES = 1 << 20
KEPT = 3

Executor: TypeAlias = "asyncpg.Connection | asyncpg.Pool"

_PART = "INSERT INTO betting.snapshot_parts (shard, sequence, epoch, part, body) VALUES ($1, $2, $3, $4, $5)"

_FENCED = """
WITH fence AS MATERIALIZED (
    SELECT shard_id FROM betting.shards WHERE shard_id = $1 AND owner = $2 AND epoch = $3 AND state = 'owned' FOR SHARE
)
INSERT INTO betting.snapshots (shard, sequence, epoch, format, parts, size_bytes, sha256)
SELECT $1, $4, $3, $5, $6::int, $7, $8 FROM fence
WHERE $6::int = (SELECT count(*) FROM betting.snapshot_parts WHERE shard = $1 AND sequence = $4 AND epoch = $3)
RETURNING true
"""

# By the owner, after it wrote one: the newest stay, and no parts without their snapshot. Never parts of a later epoch:
# an owner that was frozen right here must not take them from under its successor.
_FORGET = """
DELETE FROM betting.snapshots s
WHERE shard = $1 AND (sequence, epoch) NOT IN (
    SELECT sequence, epoch FROM betting.snapshots WHERE shard = $1 ORDER BY sequence DESC, epoch DESC LIMIT $2
)
"""
_FORGET_PARTS = """
DELETE FROM betting.snapshot_parts p
WHERE shard = $1 AND epoch <= $2 AND NOT EXISTS (
    SELECT FROM betting.snapshots s WHERE s.shard = p.shard AND s.sequence = p.sequence AND s.epoch = p.epoch
)
"""

_NEWEST = """
SELECT sequence, epoch, format, parts, size_bytes, sha256 FROM betting.snapshots
WHERE shard = $1 ORDER BY sequence DESC, epoch DESC
"""
_SIZES = """
SELECT DISTINCT ON (shard) shard, size_bytes FROM betting.snapshots ORDER BY shard, sequence DESC, epoch DESC
"""
_PARTS = """
SELECT body FROM betting.snapshot_parts WHERE shard = $1 AND sequence = $2 AND epoch = $3 AND part = $4
"""


class Stored(NamedTuple):
    """A snapshot whose bytes are what was written."""

    sequence: int
    epoch: int
    format: int
    body: bytes


async def write(
    connection: Executor, shard: int, owner: str, epoch: int, sequence: int, form: int, chunks: Iterable[bytes]
) -> bool:
    """Stores a snapshot of the state at `sequence`, all of which must be committed. Keeps the last three.

    One at a time per shard. False: the shard is not this owner's at this epoch any more, and nothing counts. True also
    when there is one of this sequence and epoch already.
    """
    if await _exists(connection, shard, sequence, epoch):
        return True
    await connection.execute(
        "DELETE FROM betting.snapshot_parts WHERE shard = $1 AND sequence = $2 AND epoch = $3", shard, sequence, epoch
    )
    digest, size, count = hashlib.sha256(), 0, 0
    for part in parts_of(chunks):
        digest.update(part)
        size += len(part)
        await connection.execute(_PART, shard, sequence, epoch, count, part)
        count += 1
    written = await connection.fetchval(_FENCED, shard, owner, epoch, sequence, form, count, size, digest.digest())
    if written:
        await connection.execute(_FORGET, shard, KEPT)
        await connection.execute(_FORGET_PARTS, shard, epoch)
    return bool(written)


async def sizes(connection: Executor) -> dict[int, int]:
    """Bytes of the newest snapshot of each shard that has one."""
    return {row[0]: row[1] for row in await connection.fetch(_SIZES)}


def parts_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in parts of 1 MiB, the last one shorter."""
    gathered = bytearray()
    for chunk in chunks:
        gathered += chunk
        while len(gathered) >= PART_BYTES:
            yield bytes(gathered[:PART_BYTES])
            del gathered[:PART_BYTES]
    if gathered:
        yield bytes(gathered)


async def newest_first(connection: Executor, shard: int) -> AsyncIterator[Stored]:
    """Every whole snapshot of the shard, newest first; a damaged one is reported and left out."""
    for sequence, epoch, form, count, size, sha256 in await connection.fetch(_NEWEST, shard):
        body, digest = bytearray(), hashlib.sha256()
        for number in range(count):
            part = await connection.fetchval(_PARTS, shard, sequence, epoch, number) or b""
            body += part
            digest.update(part)  # all at once would take longer than others may wait
        if len(body) == size and digest.digest() == sha256:
            yield Stored(sequence, epoch, form, bytes(body))
        else:
            _log.error("bad snapshot", shard=shard, sequence=sequence, epoch=epoch, problem="its bytes are damaged")


async def newest_sequences(connection: Executor, shards: Collection[int]) -> dict[int, int]:
    """The sequence of the newest snapshot of each of these shards that has one; its bytes are not looked at."""
    rows = await connection.fetch(
        "SELECT shard, max(sequence) FROM betting.snapshots WHERE shard = ANY ($1::int[]) GROUP BY shard", list(shards)
    )
    return dict(rows)


async def newest(connection: Executor, shard: int) -> Stored | None:
    """The newest whole snapshot; None when there is none: replay everything."""
    async for stored in newest_first(connection, shard):
        return stored
    return None


async def _exists(connection: Executor, shard: int, sequence: int, epoch: int) -> bool:
    found = await connection.fetchval(
        "SELECT true FROM betting.snapshots WHERE shard = $1 AND sequence = $2 AND epoch = $3", shard, sequence, epoch
    )
    return bool(found)
