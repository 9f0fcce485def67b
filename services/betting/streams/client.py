"""The Redis commands of the outbox and the consumers; the only module of this package that uses the driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import redis.asyncio
from redis.exceptions import RedisError, ResponseError

from betting.engine.entries import Entry
from betting.streams import wire

# The stream's own last id decides, atomically: records go in only if they follow it. Ids never repeat, so a second
# publisher (an owner that does not know yet that it is none) does no harm. -1: there is no stream.
_PUBLISH = """
local last = -1
if redis.call('EXISTS', KEYS[1]) == 1 then
    local info = redis.call('XINFO', 'STREAM', KEYS[1])
    for i = 1, #info, 2 do
        if info[i] == 'last-generated-id' then last = tonumber(string.match(info[i + 1], '^%d+')) end
    end
end
if tonumber(ARGV[2]) ~= last and not (last == -1 and ARGV[3] == '1') then return last end
for i = 4, #ARGV, 2 do
    last = tonumber(ARGV[i])
    local oldest = string.format('%.0f', math.max(0, last - ARGV[1]))
    redis.call('XADD', KEYS[1], 'MINID', '~', oldest, ARGV[i] .. '-0', 'e', ARGV[i + 1])
end
return last
"""

NO_STREAM = -1


class RedisUnavailable(Exception):
    """Redis cannot be reached, takes no writes, or has no memory left. Try again later; nothing is lost."""


class Publication(NamedTuple):
    """Entries for one shard's stream that follow `after`. fresh: make the stream if there is none."""

    shard: int
    after: int
    fresh: bool
    entries: Sequence[Entry]


async def publish(client: redis.asyncio.Redis, todo: Sequence[Publication], max_length: int) -> list[int]:
    """Adds what follows each stream's last record; returns the last sequence of each stream afterwards.

    max_length: streams keep about as many entries, the newest ones.

    Anything but the last entry's sequence means that nothing was added there: the stream ends elsewhere, or is gone
    (NO_STREAM). Raises RedisAway.
    """
    try:
        pipeline = client.pipeline(transaction=False)
        for shard, after, fresh, entries in todo:
            arguments = [max_length, after, b"1" if fresh else b"0", *wire.pack(entries)]
            pipeline.execute_command("EVAL", _PUBLISH, 1, wire.stream_of(shard), *arguments)
        return [int(last) for last in await pipeline.execute()]
    except (RedisError, OSError) as problem:
        raise RedisUnavailable(str(problem)) from problem


async def read(
    client: redis.asyncio.Redis, positions: Mapping[int, int], count: int, block_ms: int
) -> dict[int, list[Entry]]:
    """What the streams hold after these sequences, per shard; at most `count` records each. Waits `block_ms` for any.

    A record that cannot be read ends its shard's list: the journal has the entry. Raises RedisAway.
    """
    streams = {wire.stream_of(shard): f"{position}-0" for shard, position in positions.items()}
    try:
        answer = await client.xread(streams, count=count, block=block_ms)  # type: ignore[arg-type]
    except (RedisError, OSError) as problem:
        raise RedisUnavailable(str(problem)) from problem
    found: Any = answer.items() if isinstance(answer, dict) else answer
    return {wire.shard_of_stream(name): _entries(records) for name, records in found}


async def last_sequences(client: redis.asyncio.Redis, shards: Sequence[int]) -> list[int]:
    """The sequence of the last record of each of these shards' streams, also when it has been trimmed; NO_STREAM.

    One round trip. Raises RedisUnavailable.
    """
    try:
        pipeline = client.pipeline(transaction=False)
        for shard in shards:
            pipeline.xinfo_stream(wire.stream_of(shard))
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
    except (RedisError, OSError) as problem:
        raise RedisUnavailable(str(problem)) from problem
    return [_last(answer) for answer in answers]


def _last(info: Any) -> int:
    """Of what Redis answered about a stream. Its refusal says that there is none."""
    if isinstance(info, ResponseError):
        return NO_STREAM
    if isinstance(info, Exception):
        raise RedisUnavailable(str(info)) from info
    last = info["last-generated-id"] if "last-generated-id" in info else info[b"last-generated-id"]
    return int(bytes(last).partition(b"-")[0])


async def delete(client: redis.asyncio.Redis, shard: int) -> None:
    """Removes a shard's stream: what it held is in the journal. Raises RedisAway."""
    try:
        await client.delete(wire.stream_of(shard))
    except (RedisError, OSError) as problem:
        raise RedisUnavailable(str(problem)) from problem


def _entries(records: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> list[Entry]:
    entries: list[Entry] = []
    for _record_id, fields in records:
        try:
            entries += wire.unpack(fields.get(wire.FIELD, b""))
        except wire.BadRecord:
            break
    return entries
