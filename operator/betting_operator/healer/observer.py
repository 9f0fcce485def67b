"""Puts one observation together from what is known at this moment. Waits for Postgres and Redis, and not for long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from betting.journal.healing_switch import Switch
from betting.life import Life
from betting_operator.healer.database import Away, HealerDatabase, Reading
from betting_operator.healer.feeds import Feeds
from betting_operator.healer.prober import Prober
from betting_operator.healer.pulse import Pulse
from betting_operator.healer.redis_watch import RedisWatch
from betting_operator.healing.redis_signals import NOBODY, Redis
from betting_operator.healing.signals import Consumer, Database, Host, Observation, Process
from betting_operator.platforms.port import Instance, Platform, present_lives

# Which workload follows the journal under which name: see betting/notifications/main.py.
CONSUMERS = {"notifications": "notification-service"}


@dataclass
class Observer:
    """Where everything is read from. switch: as it was read last."""

    platform: Platform
    prober: Prober
    database: HealerDatabase
    feeds: Feeds
    redis: RedisWatch
    pulse: Pulse
    switch: Switch = field(default_factory=lambda: Switch("", False))

    async def look(self, term: int) -> Observation:
        """One tick's observation, as of its return; what cannot be seen is None in it."""
        reading: Reading | None = None
        how = Database.OK
        try:
            reading = await self.database.read()
            self.switch, how = reading.switch, reading.how
        except Away as away:
            how = away.how
        nodes = await self.redis.ask()  # after the record: what answers now is of the life it names, or of a later one
        instances, probes = self.platform.instances(), self.prober.probes()
        seen = Observation(
            at_ms=0,
            term=term,
            capabilities=tuple(sorted(self.platform.capabilities)),
            processes=None if instances is None else tuple(_process(each) for each in instances),
            exits=self.platform.take_exits(),
            probes=probes,
            reports=self.prober.reports(),
            sizes=self.prober.sizes(),
            database=how,
            owners=reading.owners if reading else None,
            shards=reading.shards if reading else None,
            audits=reading.audits if reading else (),
            feeds=self.feeds.feeds(probes),
            consumers=_consumers(reading, present_lives(instances)) if reading else None,
            redis=Redis(*(reading.redis or (NOBODY, 0)), nodes) if reading else None,
            host=self._host(reading),
            rebalance=self.platform.rebalance(),
        )
        at_ms, late_ms = self.pulse.take_ms()
        return replace(seen, at_ms=at_ms, late_ms=late_ms)

    def _host(self, reading: Reading | None) -> Host | None:
        """A disk that is full may have taken Postgres with it: it is looked at all the same."""
        free_bytes = self.platform.disk_free_bytes()
        return None if free_bytes is None else Host(free_bytes, reading.clock_offset_ms if reading else None)


def _process(each: Instance) -> Process:
    return Process(each.workload, each.instance, each.boot_id, each.phase, each.restarts, each.silent_ms, each.node)


def _consumers(reading: Reading, lives: Mapping[str, Life]) -> tuple[Consumer, ...]:
    """A consumer is held by the present life of its workload, where that has one instance."""
    by_workload = Counter(life.workload for life in lives.values())
    alone = {life.workload: life for life in lives.values() if by_workload[life.workload] == 1}
    holders = {name: alone[workload] for name, workload in CONSUMERS.items() if workload in alone}
    return tuple(replace(each, holder=each.holder or holders.get(each.name)) for each in reading.consumers)
