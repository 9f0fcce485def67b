"""Does what was planned. Every action carries its own fence, so doing one late or twice harms nothing."""

from __future__ import annotations

import asyncio
import time
from itertools import groupby
from typing import NamedTuple, assert_never

from betting.runtime import logs, metrics, redis_link
from betting.runtime.clock import now_us
from betting.runtime.redis_link import OtherLife
from betting_operator.healer.database import Away, HealerDatabase
from betting_operator.healer.pulse import Pulse
from betting_operator.healer.redis_watch import RedisWatch
from betting_operator.healing.actions import (
    Action,
    Alert,
    Drain,
    ForceRelease,
    Freeze,
    Kill,
    MarkDead,
    MoveAway,
    Place,
    RollBack,
    Scale,
    describe,
)
from betting_operator.healing.diagnoses import Severity
from betting_operator.healing.redis_actions import Follow, MoveRecord, Promote
from betting_operator.platforms.port import CannotDo, Platform

_OF_PLATFORM = (Kill, MoveAway, RollBack, Scale)

_log = logs.get(__name__)


class Span(NamedTuple):
    """When an action began and ended, in microseconds since 1970."""

    began_us: int
    ended_us: int


class Executor:
    """Raises StaleTerm when another healer has begun since; whatever else goes wrong is an outcome.

    A healer that was stopped after it had looked does nothing of what it concluded then: the pause voids its evidence,
    and its platform knows no term that would refuse the late action.
    """

    spans: tuple[Span, ...] = ()  # of the actions of the last call, in their order

    def __init__(self, platform: Platform, database: HealerDatabase, redis: RedisWatch, pulse: Pulse) -> None:
        self._platform = platform
        self._redis = redis
        self._database = database
        self._pulse = pulse
        self._done = metrics.counter("betting_healer_actions_total", "Actions taken", ("action", "outcome"))

    async def execute(self, actions: tuple[Action, ...], late_after_ms: int) -> tuple[str, ...]:
        """In the plan's order; a line for each. What the platform does to several instances it does at once: each may
        take seconds, and the healer neither looks nor beats meanwhile. late_after_ms: of the policy."""
        done: list[tuple[str, Span]] = []
        for of_platform, group in groupby(actions, lambda action: isinstance(action, _OF_PLATFORM)):
            if of_platform:
                done += await asyncio.gather(*(self._timed(action, late_after_ms) for action in group))
            else:
                done += [await self._timed(action, late_after_ms) for action in group]
        self.spans = tuple(span for _line, span in done)
        return tuple(line for line, _span in done)

    async def _timed(self, action: Action, late_after_ms: int) -> tuple[str, Span]:
        began_us, began_s = now_us(), time.monotonic()
        line = await self._one(action, late_after_ms)
        return line, Span(began_us, began_us + int((time.monotonic() - began_s) * 1e6))

    async def _one(self, action: Action, late_after_ms: int) -> str:
        late_ms = self._pulse.late_ms()
        try:
            if late_ms > late_after_ms and not isinstance(action, Alert):
                raise CannotDo(f"the healer itself stood still for {late_ms} ms since it looked")
            outcome = await self._do(action)
        except (Away, CannotDo, OtherLife, *redis_link.ERRORS) as problem:
            outcome = f"failed: {problem}"
        self._done.labels(type(action).__name__, outcome.partition(":")[0]).inc()
        _log.warning("action executed", action=describe(action), outcome=outcome)
        return f"{describe(action)}: {outcome}"

    async def _do(self, action: Action) -> str:
        match action:
            case MarkDead(owner=owner, term=term):
                return "done" if await self._database.mark_dead(term, owner) else "already marked dead"
            case Place(wanted=wanted, term=term):
                changed = await self._database.place(term, dict(wanted))
                return "done" if changed else "nothing to change"
            case ForceRelease(shard=shard, owner=owner, epoch=epoch, term=term):
                return (
                    "done" if await self._database.force_release(term, shard, owner, epoch) else "the owner has changed"
                )
            case Drain(owner=owner, term=term):
                return "done" if await self._database.drain(term, owner) else "already draining"
            case Freeze(shard=shard, reason=reason, term=term):
                return "done" if await self._database.freeze(term, shard, reason) else "it has no owner any more"
            case Kill() | MoveAway() | RollBack() | Scale():
                await self._of_platform(action)
                return "done"
            case MoveRecord(expected=expected, to=to, term=term):
                return "done" if await self._database.move_redis(term, expected, to) else "the record has changed"
            case Promote(life=life):
                await self._redis.promote(life)
                return "done"
            case Follow(life=life, primary=primary):
                await self._redis.follow(life, primary)
                return "done"
            case Alert(severity=severity, about=about, target=target):
                level = _log.error if severity is Severity.PAGE else _log.warning
                level("alert", about=about, target=target, severity=severity.value)
                return "sent"
            case _:
                assert_never(action)

    async def _of_platform(self, action: Kill | MoveAway | RollBack | Scale) -> None:
        match action:
            case Kill(life=life):
                await self._platform.kill(life)
            case MoveAway(life=life):
                await self._platform.move_away(life)
            case RollBack(workload=workload, template=template):
                await self._platform.roll_back(workload, template)
            case Scale(workload=workload, replicas=replicas):
                await self._platform.scale(workload, replicas)
