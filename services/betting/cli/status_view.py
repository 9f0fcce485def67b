"""Draws an overview: a live screen of two tables, or plain lines for pipes and logs."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from betting.embedded.overview import Observer, Overview
from betting.embedded.topology import PLAY_MONEY
from betting.supervision.errors import LocalError
from betting.supervision.state import Phase, ProcessState
from betting.v1 import health_pb2

REFRESH_S = 1.0
MIB = 1024 * 1024
_SAID = {"paused": "PAUSED", "dry-run": "a DRY RUN", "approval": "WAITING FOR APPROVAL", "absent": "ABSENT"}
_ENDS = {"paused": " (to end it: betting heal resume)", "dry-run": " (to end it: betting heal dry-run off)"}
_COLOURS = {Phase.READY: "green", Phase.STARTING: "yellow", Phase.WAITING: "yellow", Phase.FROZEN: "cyan"}


async def live(observer: Observer, refresh_s: float = REFRESH_S) -> None:
    """Redraws until cancelled."""
    before: Overview | None = None
    with Live(auto_refresh=False) as screen:
        while True:
            now = await observer.look()
            screen.update(draw(now, before), refresh=True)
            before = now
            await asyncio.sleep(refresh_s)


async def once(observer: Observer) -> None:
    """Prints plain lines. Raises LocalError when the platform is not running, after saying what was last known."""
    before = await observer.look()
    if before.platform is not None:  # two looks make a rate
        await asyncio.sleep(REFRESH_S)
    now = await observer.look()
    for line in lines(now, before):
        typer.echo(line)
    if not now.running:
        raise LocalError("The platform is not running on this folder: start it with `betting up`.")


def lines(now: Overview, before: Overview | None) -> Iterator[str]:
    """The overview as plain lines, one fact each."""
    yield f"money {PLAY_MONEY}"
    for each in now.supervisor.processes:
        phase, pid, restarts, uptime, memory = cells(each, now)
        yield f"process {each.name} {phase} pid={pid} restarts={restarts} uptime={uptime} memory={memory}"
    if now.platform is None:
        yield f"platform unknown: {now.problem}"
        return
    for shard in now.platform.shards:
        owner = shard.owner or "nobody"
        yield f"shard {shard.shard_id} {shard.state} owner={owner} epoch={shard.epoch} open_bets={shard.open_bets}"
    yield from redis(now.platform)
    yield from healing(now.platform)
    yield from stopped(now.platform)
    yield from settlements(now.platform)
    yield from (f"healer {line}" for line in now.supervisor.healing)
    yield summary(now, before)


def stopped(platform: health_pb2.GetPlatformStatusResponse) -> Iterator[str]:
    """What a person has to look at: shards that serve nobody, and matches that their feed cannot finish."""
    for shard in platform.shards:
        if shard.reason:
            way_out = f"once put right: betting thaw {shard.shard_id}"
            yield f"shard {shard.shard_id} is {shard.state}: {shard.reason} ({way_out})"
    yield from (f"for a person: {sentence}" for sentence in platform.attention)


def settlements(platform: health_pb2.GetPlatformStatusResponse) -> Iterator[str]:
    """Markets whose bets are not settled as they should be until a person decides."""
    for each in platform.settlements_waiting:
        yield f"for a person: market {each.market_id} of event {each.event_id} waits to be settled: {each.problem}"


def healing(platform: health_pb2.GetPlatformStatusResponse) -> Iterator[str]:
    """How healing is not as usual, why, since when, and what ends that; nothing while it is."""
    for each in platform.healing_modes:
        since = ""
        if each.since_us:
            began = time.strftime("%H:%M:%S", time.localtime(each.since_us / 1e6))
            since = f" since {began}, {duration(max(0.0, (platform.at_us - each.since_us) / 1e6))} ago"
        ends = _ENDS.get(each.mode, "")
        yield f"healing is {_SAID.get(each.mode, each.mode)}{since}: {each.reason}{ends}"


def redis(platform: health_pb2.GetPlatformStatusResponse) -> Iterator[str]:
    """Which node takes Redis' writes; nothing where Redis is not the platform's own."""
    if platform.redis.primary:
        towards = f" towards {platform.redis.candidate}" if platform.redis.candidate else ""
        yield f"Redis primary {platform.redis.primary}, epoch {platform.redis.epoch}, {platform.redis.phase}{towards}"


def draw(now: Overview, before: Overview | None) -> Group:
    """The overview for a terminal."""
    parts: list[Table | Text] = [Text(line, style="bold red") for line in healing(now.platform)] if now.platform else []
    parts.append(_processes(now))
    if now.platform is None:
        parts.append(Text(now.problem, style="yellow"))
    else:
        parts += [_owners(now), *(Text(line) for line in redis(now.platform))]
        parts += [*(Text(f"healer  {line}", style="cyan") for line in now.supervisor.healing)]
        parts += [*(Text(line, style="red") for line in (*stopped(now.platform), *settlements(now.platform)))]
        parts.append(Text(f"{summary(now, before)}; {PLAY_MONEY}"))
    return Group(*parts)


def cells(process: ProcessState, now: Overview) -> tuple[str, str, str, str, str]:
    """State, process id, restarts, uptime, memory, as text."""
    phase = process.phase if now.running else Phase.STOPPED
    uptime_s = time.time() - process.started_at_us / 1e6
    alive = now.running and process.pid is not None
    memory_mib = now.resident_bytes.get(process.name, 0) / MIB
    return (
        str(phase),
        str(process.pid) if alive else "-",
        str(process.restarts),
        duration(uptime_s) if alive else "-",
        f"{memory_mib:.0f} MiB" if alive else "-",
    )


def duration(seconds: float) -> str:
    """2 h 05 min, 3 min 20 s, 12 s."""
    whole = int(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole} s"


def summary(now: Overview, before: Overview | None) -> str:
    """Open bets, bets in all, and the rate since the look before."""
    if now.platform is None:
        return now.problem
    open_bets = sum(shard.open_bets for shard in now.platform.shards)
    rate = bets_per_s(now, before)
    return f"{open_bets:,} open bets, {now.platform.bets_accepted_total:,} accepted in all, " + (
        "rate unknown" if rate is None else f"{rate:,.0f} bets/s"
    )


def bets_per_s(now: Overview, before: Overview | None) -> float | None:
    """Accepted bets a second between two looks; None when they cannot tell."""
    if before is None or before.platform is None or now.platform is None or now.at_s <= before.at_s:
        return None
    gained = now.platform.bets_accepted_total - before.platform.bets_accepted_total
    return max(0, gained) / (now.at_s - before.at_s)


def _processes(now: Overview) -> Table:
    table = Table(title=None if now.running else "not running; last known:", title_justify="left")
    for name, justify in (("process", "left"), ("state", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for name in ("pid", "restarts", "uptime", "memory"):
        table.add_column(name, justify="right")
    for each in now.supervisor.processes:
        phase, *rest = cells(each, now)
        colour = _COLOURS.get(each.phase, "red") if now.running else "white"
        table.add_row(each.name, Text(phase, style=colour), *rest)
    return table


def _owners(now: Overview) -> Table:
    """Shards by owner: one line per owner, not one per shard."""
    assert now.platform is not None
    table = Table("owner", "shards", "which")
    owners = Counter(shard.owner or "nobody" for shard in now.platform.shards)
    for owner, count in sorted(owners.items()):
        which = [shard for shard in now.platform.shards if (shard.owner or "nobody") == owner]
        names = " ".join(f"{s.shard_id}" + ("" if s.state == "owned" else f"({s.state})") for s in which)
        table.add_row(owner, str(count), names)
    return table
