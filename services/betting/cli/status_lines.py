"""An overview as plain lines, and the words that the live screen uses too. Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence

from betting.embedded import ports_plan
from betting.embedded.folder import DataFolder
from betting.embedded.overview import MONITOR, Overview
from betting.embedded.ports import HOST
from betting.embedded.topology import OPERATOR_EMAIL, PLAY_MONEY
from betting.supervision.state import ProcessPhase, ProcessState
from betting.v1 import health_pb2

MIB = 1024 * 1024
_SAID = {"paused": "PAUSED", "dry-run": "a DRY RUN", "approval": "WAITING FOR APPROVAL", "absent": "ABSENT"}
_ENDS = {"paused": " (to end it: betting heal resume)", "dry-run": " (to end it: betting heal dry-run off)"}


def addresses(folder: DataFolder, ports: Mapping[str, int]) -> list[str]:
    """Where everything is that a person may want to open, the most wanted first; what has no port is left out."""
    api, monitor = ports.get(ports_plan.HTTP), ports.get(ports_plan.metrics_name(MONITOR))
    found = [f"API        http://{HOST}:{api}"] if api else []
    found.append(f"operator   {OPERATOR_EMAIL}, password in {folder.operator_password_file}")
    found.append(f"logs       {folder.log('*').parent}")
    found.append(f"money      {PLAY_MONEY}")
    if monitor:
        found.append(f"metrics    http://{HOST}:{monitor}/metrics of the platform; each service has its own port")
    return found


def lines(now: Overview, before: Overview | None, where: Sequence[str] = ()) -> Iterator[str]:
    """The overview as plain lines, one fact each."""
    yield from where
    for each in now.supervisor.processes:
        phase, pid, restarts, uptime, memory = cells(each, now, time.time())
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
    """What needs an operator: shards that are not served, and matches that their feed cannot finish."""
    for shard in platform.shards:
        if shard.reason:
            way_out = f"once put right: betting unfreeze {shard.shard_id}"
            yield f"shard {shard.shard_id} is {shard.state}: {shard.reason} ({way_out})"
    yield from (f"for a person: {sentence}" for sentence in platform.attention)


def settlements(platform: health_pb2.GetPlatformStatusResponse) -> Iterator[str]:
    """Markets whose settlement waits for an operator; what the problem names itself is not named twice."""
    for each in platform.settlements_waiting:
        market, event = f"market {each.market_id}", f"event {each.event_id}"
        what = "a market" if _names(each.problem, market) else market
        of = "" if _names(each.problem, event) else f" of {event}"
        yield f"for a person: {what}{of} waits to be settled: {each.problem}"


def _names(text: str, what: str) -> bool:
    return re.search(rf"\b{re.escape(what)}\b", text) is not None


def healing(platform: health_pb2.GetPlatformStatusResponse) -> Iterator[str]:
    """The modes of healing other than normal operation: since when, why, and how to end them."""
    for each in platform.healing_modes:
        since = ""
        if each.since_us:
            began = time.strftime("%H:%M:%S", time.localtime(each.since_us / 1e6))
            since = f" since {began}, {duration(max(0.0, (platform.at_us - each.since_us) / 1e6))} ago"
        ends = _ENDS.get(each.mode, "")
        yield f"healing is {_SAID.get(each.mode, each.mode)}{since}: {each.reason}{ends}"


def redis(platform: health_pb2.GetPlatformStatusResponse) -> Iterator[str]:
    """The Redis primary; nothing if Redis is not managed by the platform."""
    if platform.redis.primary:
        towards = f" towards {platform.redis.candidate}" if platform.redis.candidate else ""
        yield f"Redis primary {platform.redis.primary}, epoch {platform.redis.epoch}, {platform.redis.phase}{towards}"


def cells(process: ProcessState, now: Overview, now_s: float) -> tuple[str, str, str, str, str]:
    """State, process id, restarts, uptime, memory, as text. now_s: the wall clock, seconds since 1970."""
    phase = process.phase if now.running else ProcessPhase.STOPPED
    alive = now.running and (process.pid is not None or bool(process.boot_id))
    memory_mib = now.resident_bytes.get(process.name, 0) / MIB
    return (
        str(phase),
        str(process.pid or "-") if alive else "-",
        str(process.restarts),
        duration(now_s - process.started_at_us / 1e6) if alive else "-",
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
    """Open bets, all bets, and the rate since the previous look."""
    if now.platform is None:
        return now.problem
    open_bets = sum(shard.open_bets for shard in now.platform.shards)
    rate = bets_per_s(now, before)
    return f"{open_bets:,} open bets, {now.platform.bets_accepted_total:,} accepted in all, " + (
        "rate unknown" if rate is None else f"{rate:,.0f} bets/s"
    )


def bets_per_s(now: Overview, before: Overview | None) -> float | None:
    """Accepted bets per second between two looks; None if it cannot be computed."""
    if before is None or before.platform is None or now.platform is None or now.at_s <= before.at_s:
        return None
    gained = now.platform.bets_accepted_total - before.platform.bets_accepted_total
    return max(0, gained) / (now.at_s - before.at_s)
