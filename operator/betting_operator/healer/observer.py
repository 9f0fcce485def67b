"""Puts one observation together from what is known at this moment. Waits for Postgres and Redis, and not for long."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from betting.journal.healing_switch import Switch
from betting_operator.healer.database import Away, HealerDatabase, Reading
from betting_operator.healer.feeds import Feeds
from betting_operator.healer.prober import Prober
from betting_operator.healer.pulse import Pulse
from betting_operator.healer.redis_watch import RedisWatch
from betting_operator.healing.redis_signals import Redis
from betting_operator.healing.signals import Database, Follower, Host, Observation
from betting_operator.platforms.supervisor import SupervisorLink

# Which process follows the journal under which name: see betting/notifications/main.py.
CONSUMERS = {"notifications": "notification-service"}


@dataclass
class Observer:
    """Where everything is read from. switch: as it was read last."""

    link: SupervisorLink
    prober: Prober
    database: HealerDatabase
    feeds: Feeds
    redis: RedisWatch
    folder: Path
    pulse: Pulse
    switch: Switch = field(default_factory=lambda: Switch("", False))

    async def look(self, term: int) -> Observation:
        """One tick's observation, as of its return; what cannot be seen is None in it."""
        reading: Reading | None = None
        how = Database.OK
        try:
            reading = await self.database.read()
            self.switch = reading.switch
        except Away as away:
            how = away.how
        nodes = await self.redis.ask()  # after the record: what answers now is of the life it names, or of a later one
        return Observation(
            at_ms=int(time.monotonic() * 1_000),
            late_ms=self.pulse.take_ms(),
            term=term,
            processes=self.link.processes(),
            exits=self.link.take_exits(),
            probes=self.prober.probes(),
            reports=self.prober.reports(),
            sizes=self.prober.sizes(),
            database=how,
            owners=reading.owners if reading else None,
            shards=reading.shards if reading else None,
            audits=reading.audits if reading else (),
            feeds=self.feeds.feeds(),
            followers=self._followers(reading) if reading else None,
            redis=Redis(*reading.redis, nodes) if reading and reading.redis else None,
            host=self._host(reading) if reading else None,
        )

    def _followers(self, reading: Reading) -> tuple[Follower, ...]:
        """A consumer is held by the present life of its process."""
        lives = self.link.boot_ids()
        holders = {name: f"{instance}@{lives[instance]}" for name, instance in CONSUMERS.items() if instance in lives}
        return tuple(replace(each, holder=each.holder or holders.get(each.name, "")) for each in reading.followers)

    def _host(self, reading: Reading) -> Host:
        return Host(shutil.disk_usage(self.folder).free, reading.clock_offset_ms)
