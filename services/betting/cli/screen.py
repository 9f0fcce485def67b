"""The live screen, laid out for the terminal it has: worst things first, addresses always. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from betting.cli import status_lines
from betting.embedded.overview import Overview
from betting.supervision.state import ProcessPhase, ProcessState

# Below the first width a row of a process has no uptime, below the second no process id.
NARROW, WIDE = 70, 100
_COLOURS = {
    ProcessPhase.READY: "green",
    ProcessPhase.STARTING: "yellow",
    ProcessPhase.WAITING: "red",
    ProcessPhase.PAUSED: "cyan",
}
# How bad it is that a process is in a phase; the worst come first.
_BADNESS = {
    ProcessPhase.WAITING: 0,
    ProcessPhase.STOPPED: 1,
    ProcessPhase.PAUSED: 2,
    ProcessPhase.STOPPING: 3,
    ProcessPhase.STARTING: 4,
}


@dataclass
class Section:
    """Lines that belong together. least: how many are shown in any case; rank: who gets more first, 0 before 1.

    rest: what stands in place of the lines that had no room; "{}" is their number.
    """

    lines: list[Text]
    least: int
    rank: int
    rest: str = "… {} more"

    def shown(self, room: int) -> list[Text]:
        """The lines in so much room."""
        if room >= len(self.lines):
            return self.lines
        if room <= self.least:
            return self.lines[:room]
        left_out = len(self.lines) - room + 1
        return [*self.lines[: room - 1], Text(self.rest.format(left_out), style="dim")]


def screen(
    now: Overview,
    before: Overview | None,
    addresses: Sequence[str],
    notes: Sequence[str],
    *,
    width: int,
    height: int,
    now_s: float,
) -> list[Text]:
    """At most `height` lines of at most `width` columns. now_s: the wall clock, seconds since 1970."""
    sections = [
        Section([Text(line) for line in addresses], 1, 1, "… {} more addresses: betting status"),
        *_alarms(now),
        _bets(now, before),
        *_shards(now),
        *_redis(now),
        _healer(now),
        _processes(now, width, now_s),
        Section([Text(line, style="dim") for line in reversed(notes)], 0, 5),
    ]
    room = _granted(sections, height)
    lines = [line for section, granted in zip(sections, room, strict=True) for line in section.shown(granted)]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        line.no_wrap = True
    return lines[:height]


def _granted(sections: Sequence[Section], height: int) -> list[int]:
    """Every section its least, from the top; what is left by rank."""
    room = [0] * len(sections)
    left = height
    for number, section in enumerate(sections):
        room[number] = min(section.least, len(section.lines), left)
        left -= room[number]
    for number, section in sorted(enumerate(sections), key=lambda each: each[1].rank):
        more = min(len(section.lines) - room[number], left)
        room[number] += more
        left -= more
    return room


def _alarms(now: Overview) -> list[Section]:
    """What needs an operator; nothing if everything is well."""
    found: list[Text] = []
    if not now.running:
        found.append(Text("not running; last known:", style="bold red"))
    if now.platform is None:
        found.append(Text(f"shards, Redis and bets are not known: {now.problem}", style="yellow"))
    else:
        found += [Text(line, style="bold red") for line in status_lines.healing(now.platform)]
        found += [Text(line, style="bold red") for line in status_lines.stopped(now.platform)]
        found += [Text(line, style="bold red") for line in status_lines.settlements(now.platform)]
    found += [_row_of_trouble(each) for each in _worst_first(now)]
    return [Section(found, min(len(found), 3), 0, "… {} more in trouble")] if found else []


def _worst_first(now: Overview) -> list[ProcessState]:
    if not now.running:
        return []
    troubled = [each for each in now.supervisor.processes if each.phase is not ProcessPhase.READY]
    return sorted(troubled, key=lambda each: _BADNESS.get(each.phase, 0))


def _row_of_trouble(process: ProcessState) -> Text:
    why = f", last: {process.last_exit}" if process.last_exit else ""
    line = Text(f"{process.name} ")
    line.append(str(process.phase), style=_COLOURS.get(process.phase, "red"))
    line.append(f", {process.restarts} restarts{why}")
    return line


def _bets(now: Overview, before: Overview | None) -> Section:
    known = now.platform is not None
    return Section([Text(status_lines.summary(now, before), style="bold")] if known else [], 1, 0)


def _shards(now: Overview) -> list[Section]:
    """The number of served shards, and one line per owner."""
    if now.platform is None:
        return []
    shards = now.platform.shards
    states = Counter(each.state for each in shards)
    nobodys = sum(not each.owner for each in shards)
    words = [f"{count} {state}" for state, count in sorted(states.items())]
    total = f"{len(shards)} shards: {', '.join(words) or 'none'}" + (f"; {nobodys} without an owner" if nobodys else "")
    lines = [Text(total, style="red" if nobodys or set(states) - {"owned"} else "")]
    owners = Counter(each.owner or "nobody" for each in shards)
    for owner, count in sorted(owners.items(), key=lambda item: (item[0] != "nobody", item[0])):
        which = [each for each in shards if (each.owner or "nobody") == owner]
        names = " ".join(f"{s.shard_id}" + ("" if s.state == "owned" else f"({s.state})") for s in which)
        lines.append(Text(f"  {owner}  {count}:  {names}"))
    return [Section(lines, 1, 2, "  … {} more owners")]


def _redis(now: Overview) -> list[Section]:
    if now.platform is None:
        return []
    steady = now.platform.redis.phase == "steady"
    return [Section([Text(line, style="" if steady else "red") for line in status_lines.redis(now.platform)], 1, 0)]


def _healer(now: Overview) -> Section:
    """The latest lines of the healer, newest first."""
    lines = [Text(f"healer  {line}", style="cyan") for line in reversed(now.supervisor.healing)]
    return Section(lines, 1, 4, "        … {} more: betting heal log")


def _processes(now: Overview, width: int, now_s: float) -> Section:
    """How many are ready, then each of those: the others are among the alarms."""
    processes = now.supervisor.processes
    ready = [each for each in processes if each.phase is ProcessPhase.READY] if now.running else list(processes)
    memory_mib = sum(now.resident_bytes.values()) / status_lines.MIB
    count = (
        f"{len(ready)} of {len(processes)} processes are ready, {memory_mib:,.0f} MiB" if now.running else "processes"
    )
    column = max([len(each.name) for each in ready], default=0)
    rows = [Text(count), *(_row(each, now, column, width, now_s) for each in ready)]
    return Section(rows, 1, 3, "  … {} more, all ready" if now.running else "  … {} more")


def _row(process: ProcessState, now: Overview, column: int, width: int, now_s: float) -> Text:
    phase, pid, restarts, uptime, memory = status_lines.cells(process, now, now_s)
    line = Text(f"  {process.name:<{column}}  ")
    line.append(f"{phase:<8}", style=_COLOURS.get(process.phase, "red") if now.running else "")
    more = f" {restarts:>3} restarts  {uptime:>13} " if width >= NARROW else ""
    line.append(f"{more} {memory:>9}{f'  pid {pid}' if width >= WIDE else ''}")
    return line
