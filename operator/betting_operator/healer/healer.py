"""The loop of the healer: observe, decide, execute, record, report.

Every second; twice as often when something is wrong; at once after an exit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from betting.journal.healing_switch import DRY_RUN, PAUSED
from betting.runtime import logs, metrics
from betting.runtime.clock import US_PER_S, now_us
from betting.runtime.loops import FailureLog, woken_within
from betting_operator.healer.archive import Archive
from betting_operator.healer.database import Away, HealerDatabase
from betting_operator.healer.executor import Executor
from betting_operator.healer.history import History
from betting_operator.healer.observer import Observer
from betting_operator.healer.recorder import Recorder
from betting_operator.healer.reporting import Reporter, alert_lines
from betting_operator.healing.actions import Action
from betting_operator.healing.brain import decide
from betting_operator.healing.flight import Record
from betting_operator.healing.memory import Memory
from betting_operator.healing.policy import Policy, in_force
from betting_operator.healing.redis_actions import Follow, MoveRecord, Promote
from betting_operator.platforms.port import Platform

BEAT_INTERVAL_S = 0.9
# While nothing is wrong it looks half as often; an exit wakes it at once.
CALM_TICKS = 2
RETRY_S = 0.25

_log = logs.get(__name__)


class Healer:
    """The healer; starting a second one ends the term of the first.

    wake: set when the next tick must come at once. policy: asked at each tick; what it gives has been
    checked. show: called after each tick with the alerts that stand, as lines.
    """

    def __init__(
        self,
        observer: Observer,
        executor: Executor,
        database: HealerDatabase,
        platform: Platform,
        recorder: Recorder,
        archive: Archive,
        wake: asyncio.Event,
        *,
        tick_s: float,
        policy: Callable[[], Policy] = Policy,
        history: History | None = None,
        show: Callable[[tuple[str, ...]], None] = lambda _alerts: None,
    ) -> None:
        self._observer = observer
        self._executor = executor
        self._database = database
        self._platform = platform
        self._recorder = recorder
        self._archive = archive
        self._tick_s = tick_s
        self._policy = policy
        self._history = history or History()
        self._memory = Memory()
        self._reporter = Reporter()
        self._wake = wake
        self._show = show
        self._beat_at_s = float("-inf")
        self._no_beat = FailureLog(_log, "heartbeat failed")
        self._ticks = metrics.counter("betting_healer_ticks_total", "Ticks of the healing loop")
        self._mode = metrics.gauge("betting_healer_mode", "1 if this mode of healing is on", ("mode",))
        self._declined = metrics.counter(
            "betting_healer_declined_total", "Diagnoses that no action was taken for, by diagnosis", ("diagnosis",)
        )

    async def run(self) -> None:
        """For the life of the process. Raises StaleTerm when another healer has begun."""
        term = await self._term()
        _log.info("term begun", term=term)
        while True:
            self._wake.clear()
            calm = await self._tick(term)
            await woken_within(self._wake, self._tick_s * (CALM_TICKS if calm else 1))

    async def _term(self) -> int:
        failures = FailureLog(_log, "term not begun")
        while True:
            try:
                return await self._database.begin_term()
            except Away as away:
                failures.failed(away)
                await asyncio.sleep(RETRY_S)

    async def _tick(self, term: int) -> bool:
        """One tick. Returns whether everything is well: then the next tick may come later."""
        await self._beat(term, dry_run=self._in_force().dry_run)
        seen = replace(await self._observer.look(term), record_problem=self._recorder.problem)
        policy = self._in_force()
        before = self._memory
        tick = decide(before, seen, policy)
        self._memory = tick.memory
        looked_us = now_us()
        outcomes = await self._executor.execute(tick.plan.actions, policy.late_after_ms)
        if goes_on(tick.plan.actions, outcomes):
            self._wake.set()
        record = Record(now_us(), policy, seen, tick.diagnoses, tick.plan, outcomes)
        self._recorder.write(before, record)
        self._ticks.inc()
        self._mode.labels(PAUSED).set(bool(policy.paused))
        self._mode.labels(DRY_RUN).set(policy.dry_run)
        for declined in tick.plan.declined:
            self._declined.labels(declined.kind.value).inc()
        self._show(alert_lines(tick.diagnoses, tick.memory.alerted))
        lines = list(self._reporter.lines(record))
        self._archive.offer(term, record, lines)
        self._history.note(term, record, tick.memory.exits, looked_us, self._executor.spans)
        if lines:
            await self._platform.report(lines)
        return not tick.diagnoses

    def _in_force(self) -> Policy:
        switch = self._observer.switch
        return in_force(self._policy(), now_us() // US_PER_S, paused=switch.paused, dry_run=switch.dry_run)

    async def _beat(self, term: int, *, dry_run: bool) -> None:
        """Writes the heartbeat; not in a dry run, in which the instances place their shards themselves."""
        if dry_run:
            self._database.beats_no_more()
            return
        if time.monotonic() - self._beat_at_s < BEAT_INTERVAL_S:
            return
        try:
            await self._database.beat(term)
            self._beat_at_s = time.monotonic()
            self._no_beat.worked()
        except Away as away:
            self._no_beat.failed(away)


def goes_on(actions: Sequence[Action], outcomes: Sequence[str]) -> bool:
    """Whether a step of a Redis failover was done that another one follows at once, whatever came of other actions."""
    return any(_has_a_next(action) and said.endswith(": done") for action, said in zip(actions, outcomes, strict=True))


def _has_a_next(action: Action) -> bool:
    return isinstance(action, MoveRecord | Promote) or (isinstance(action, Follow) and not action.primary)
