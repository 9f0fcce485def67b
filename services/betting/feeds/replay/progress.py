"""The replay under way: its programme, how far each match has come, and what was put aside for a while."""

from __future__ import annotations

from collections.abc import Iterable

from betting.feeds.replay.schedule import Schedule, ScheduleStep, Slot, Stage
from betting.feeds.replay.store import Store


class Progress:
    """What is done is remembered in memory only after the database has it: a crash repeats a step, never skips one."""

    def __init__(self, store: Store, replay: str, season_schedule: Schedule, stages: dict[int, Stage]) -> None:
        self.replay = replay
        self.season_schedule = season_schedule
        self._store = store
        self._stages = stages
        # Matches some service refused for good, and when (wall time, microseconds) to ask again.
        self._aside: dict[int, int] = {}

    def season_us(self, now_us: int) -> int:
        """The season's time now."""
        return self.season_schedule.table.season_us(now_us)

    def due(self, now_us: int, *wanted: Stage) -> list[ScheduleStep]:
        """The steps to take now, without those put aside."""
        steps = self.season_schedule.due(self.season_us(now_us), self._stages, wanted)
        return [step for step in steps if self._aside.get(step.slot.match.event_id, 0) <= now_us]

    def on_offer(self, now_us: int) -> list[Slot]:
        """Matches to be priced now."""
        return self.season_schedule.on_offer(self.season_us(now_us), self._stages)

    def is_over(self) -> bool:
        """Whether every match is settled."""
        return self.season_schedule.is_over(self._stages)

    async def reached(self, steps: Iterable[ScheduleStep]) -> None:
        """Records steps as done. Raises ServiceError, and then they will be done again."""
        done = [(step.slot.match, step.stage) for step in steps]
        if not done:
            return
        await self._store.advance(self.replay, done)
        for match, stage in done:
            self._stages[match.event_id] = max(stage, self._stages.get(match.event_id, Stage.WAITING))
            self._aside.pop(match.event_id, None)

    def put_aside(self, step: ScheduleStep, until_us: int) -> None:
        """Leaves a match alone until a moment of wall time."""
        self._aside[step.slot.match.event_id] = until_us

    def counts(self) -> dict[str, int]:
        """How many matches are at which stage."""
        stages = [self._stages.get(slot.match.event_id, Stage.WAITING) for slot in self.season_schedule.slots]
        return {stage.name.lower(): stages.count(stage) for stage in Stage}
