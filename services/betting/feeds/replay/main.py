"""Puts the season replay together, and runs it while this process is the active one of its kind: one loop each for
matches, settlements and prices."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import NoReturn

from betting.feeds import peers
from betting.feeds.replay import schedule
from betting.feeds.replay.attention import Attention
from betting.feeds.replay.match_lifecycle import MatchLifecycle
from betting.feeds.replay.progress import Progress
from betting.feeds.replay.publisher import Publisher
from betting.feeds.replay.reconcile import Reconciled, reconcile
from betting.feeds.replay.settings import ReplaySettings
from betting.feeds.replay.store import Store
from betting.feeds.seasons import Match, Season, SeasonError, lap, lap_name, load_season
from betting.runtime import backoff
from betting.runtime.election import Election, Lease
from betting.runtime.errors import ConfigurationError, ServiceError
from betting.runtime.loops import FailureLog, forever
from betting.runtime.service import Composition, ServiceContext, run_service
from betting.runtime.settings import variable

PRODUCER = peers.Producer("season-replay", "Season replay")
_RETRY_S = 0.2
_RETRY_MAX_S = 2.0
# A replay that is never stopped gets here after centuries; it bounds the search for the lap under way.
_LAPS_MAX = 10_000
_US = timedelta(microseconds=1)


@dataclass
class Running:
    """The replay that is under way; replaced when a season begins anew."""

    progress: Progress
    lifecycle: MatchLifecycle
    publisher: Publisher
    rescored: Mapping[int, Match]


class Replay:
    """The three loops. They retry with growing pauses while a service does not answer."""

    def __init__(
        self, context: ServiceContext[ReplaySettings], season: Season, store: Store, election: Election
    ) -> None:
        self._context = context
        self._settings = context.settings
        self._season = season
        self._store = store
        self._election = election
        self._peers = peers.of_context(context, election, PRODUCER)
        self._attention = Attention(store, self._peers, context.log)
        self._lap = 0
        self._running: Running | None = None
        self._speaks = asyncio.Event()
        self._speaks.set()

    async def begin(self) -> None:
        """Finds the lap under way, so that a process that is active when it starts serves with its season loaded."""
        try:
            await self._start()
        except ServiceError as error:
            self._context.log.warning("season not loaded", reason=error.reason, message=error.message)

    async def play(self) -> None:
        """Plays while this process is active. It starts from the database: another process may have played before."""
        try:
            if self._running is None:
                await self._until_done("season not loaded", self._start)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._for_ever("matches not advanced", self._move))
                group.create_task(self._for_ever("matches not settled", self._settle))
                group.create_task(self._for_ever("prices not published", self._publish))
                group.create_task(self._remind_for_ever())
        finally:
            self._running = None

    async def _start(self) -> None:
        """Finds the lap under way, or begins the first. Raises ServiceError."""
        number = await _newest_lap(self._season, self._store)
        await self._change_to(number)
        if self._now.progress.is_over() and self._settings.repeat:
            await self._change_to(number + 1)

    async def _remind_for_ever(self) -> None:
        """Logs the matches that wait for an operator, at an interval."""

        async def remind() -> None:
            await self._attention.revisit(self._now.rescored)
            await self._attention.say()

        every_s, log = self._settings.remind.total_seconds(), self._context.log
        await forever(remind, every_s=every_s, first_after_s=every_s, log=log, event="reminder failed")

    def fall_silent(self) -> None:
        """Stops all loops while the process stays alive, like a feed that has lost its source: for fault injection."""
        self._speaks.clear()
        self._context.log.warning("feed silence injected")

    @property
    def _now(self) -> Running:
        assert self._running is not None, "_start() comes first"
        return self._running

    async def _move(self) -> int:
        taken = await self._now.lifecycle.move_on()
        if taken:
            self._context.log.info("matches advanced", taken=taken, **self._now.progress.counts())
        if self._settings.repeat and self._now.progress.is_over():
            await self._change_to(self._lap + 1)
        return taken

    async def _settle(self) -> int:
        return await self._now.lifecycle.settle()

    async def _publish(self) -> int:
        return await self._now.publisher.publish()

    async def _change_to(self, number: int) -> None:
        self._running = await self._begin(number)
        self._lap = number
        await self._attention.say()

    async def _begin(self, number: int) -> Running:
        season = lap(self._season, number)
        table = await self._store.timetable(season.name)
        if table is None:
            table = await self._store.begin(season.name, self._new_timetable(season))
            self._context.log.info("season started", season=season.name, matches=len(season.matches))
        elif table.speed_thousandths != self._settings.speed_thousandths():
            self._context.log.warning("replay speed kept", thousandths=table.speed_thousandths)
        offered = await self._store.offered(season.name)
        found = reconcile(season, offered)
        await self._remember(season.name, found)
        season_schedule = schedule.Schedule(found.season, table)
        stages = {event_id: each.stage for event_id, each in offered.items()}
        progress = Progress(self._store, season.name, season_schedule, stages)
        clock, log = self._context.clock, self._context.log
        lifecycle = MatchLifecycle(progress, self._peers, clock, log, self._settings.retry_refused // _US)
        publisher = Publisher(progress, self._peers, clock, self._settings.alive.total_seconds())
        return Running(progress, lifecycle, publisher, found.rescored)

    async def _remember(self, replay: str, found: Reconciled) -> None:
        for old, new in found.renamed:
            self._context.log.warning("club renamed in season file", before=old, now=new)
        if found.keep:
            await self._store.keep(replay, found.keep)
        await self._store.note(replay, found.attention)

    def _new_timetable(self, season: Season) -> schedule.Timetable:
        return schedule.timetable(
            season,
            self._context.clock.now_us(),
            self._settings.speed_thousandths(),
            self._settings.lead_in_us(),
            timedelta(days=self._settings.open_days) // _US,
            self._settings.open_at_least // _US,
        )

    async def _for_ever(self, event: str, act: Callable[[], Awaitable[object]]) -> None:
        async def speak() -> None:
            await self._speaks.wait()
            await self._election.act(act)

        tick_s = self._settings.tick.total_seconds()
        retry_s, most_s = max(tick_s, _RETRY_S), tick_s + _RETRY_MAX_S
        log = self._context.log
        await forever(speak, every_s=tick_s, retry_s=retry_s, retry_max_s=most_s, log=log, event=event)

    async def _until_done(self, event: str, act: Callable[[], Awaitable[object]]) -> None:
        failures, pauses_s = FailureLog(self._context.log, event), backoff.pauses_s(_RETRY_S, _RETRY_MAX_S)
        while True:
            await self._speaks.wait()
            try:
                await act()
            except ServiceError as error:
                failures.failed(error)
            else:
                failures.worked()
                return
            pause_s = backoff.jittered(next(pauses_s), random.random())
            await asyncio.sleep(self._settings.tick.total_seconds() + pause_s)


async def _newest_lap(season: Season, store: Store) -> int:
    """Matches that a longer file adds join this one: its offered matches are played to their end."""
    number = 1
    while number < _LAPS_MAX and await store.timetable(lap_name(season, number + 1)) is not None:
        number += 1
    return number


async def _rehearse(season: Season, store: Store) -> None:
    """Reads what would be played from, and writes nothing. Raises ServiceError."""
    newest = lap(season, await _newest_lap(season, store))
    found = reconcile(newest, await store.offered(newest.name))
    table = await store.timetable(newest.name)
    if table is not None:
        schedule.Schedule(found.season, table)


async def compose(context: ServiceContext[ReplaySettings]) -> Composition:
    """A process without gRPC services of its own: health and diagnostics only. Of several one plays."""
    season = _season(context.settings)
    for warning in season.warnings:
        context.log.warning("season file warning", line=warning.line, column=warning.column, what=warning.message)
    if season.warnings_total:
        context.log.warning("season file loaded with warnings", warnings=season.warnings_total, season=season.name)
    pool = await context.postgres(max_size=4)
    store, lease = Store(pool), Lease(pool, PRODUCER.id, str(context.life))
    election = Election(lease, context.log, rehearse=partial(_rehearse, season, store))
    replay = Replay(context, season, store, election)
    context.fault_hooks[signal.SIGUSR1] = replay.fall_silent
    await election.look()
    if election.is_active:
        await replay.begin()
    return Composition(
        [],
        background=[lambda: election.run_for_ever(replay.play)],
        on_drain=[election.resign],
        activity=election.activity,
        able=election.able,
    )


def main() -> NoReturn:
    """The command line: options set the environment variables of the same names."""
    parser = argparse.ArgumentParser(prog="python -m betting.feeds.replay", description="Plays a season as a feed.")
    parser.add_argument("--season", help="a shipped season's name or a season file (BETTING_SEASON)")
    parser.add_argument("--speed", help="season seconds per wall second; 60480 is a week in 10 s (BETTING_SPEED)")
    for name, value in vars(parser.parse_args()).items():
        if value is not None:
            os.environ[variable(name)] = value
    run_service("season-replay", compose, ReplaySettings)


def _season(settings: ReplaySettings) -> Season:
    try:
        return load_season(settings.season, trust_goals=settings.trust_goals)
    except SeasonError as error:
        raise ConfigurationError(
            f"{variable('season')}: the season cannot be used: {error} (see `betting season FILE`)"
        ) from None
