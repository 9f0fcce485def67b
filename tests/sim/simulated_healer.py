"""The healer in the simulated world: the real brain, what it sees, what it does, and whom it must leave alone."""

from __future__ import annotations

from dataclasses import replace

from simulated_supervisor import Port
from simulated_world import (
    CONSUMER,
    FEED,
    INSTANCES,
    ODDS,
    PROBE_MS,
    RESTART_MS,
    Broken,
    Running,
    World,
)

from betting.life import Life
from betting_operator.healing.actions import Action, Kill, MarkDead, Place
from betting_operator.healing.brain import decide
from betting_operator.healing.diagnose import GONE_AFTER_MS
from betting_operator.healing.memory import Memory
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import (
    Consumer,
    Database,
    Feed,
    Observation,
    Owner,
    Report,
    Shard,
)

STEP_MS = 100
TICK_MS = 500
POLICY = Policy()


class Healer:
    """writes_seen: whether it knows that nothing can be written; pause_seen: whether it knows of its own pause;
    drops_late: whether it does nothing of what it concluded before a pause; termed: whether Postgres knows its term.
    calm_ticks: how much less often it looks while nothing is wrong, see `healer.CALM_TICKS`.

    who: it is among those who ask the processes for their health. ended: another healer has begun.
    """

    def __init__(
        self,
        world: World,
        who: str,
        port: Port,
        *,
        writes_seen: bool = True,
        pause_seen: bool = True,
        drops_late: bool = True,
        calm_ticks: int = 1,
        termed: bool = True,
    ) -> None:
        self._world = world
        self._who = who
        self._port = port
        self._writes_seen = writes_seen
        self._pause_seen = pause_seen
        self._drops_late = drops_late
        self._calm_ticks = calm_ticks
        self._termed = termed
        self._down_until_ms = 0
        self._next_ms = 0
        self._late_ms = 0
        self._term = 0
        self._memory = Memory()
        self._held: tuple[Action, ...] = ()
        self._stopped_ms: dict[str, int] = {}
        self.stops_for_ms = 0
        self.ended = False

    def killed(self) -> None:
        """The next life begins with nothing."""
        self._down_until_ms = self._world.now_ms + RESTART_MS
        self._term, self._memory = 0, Memory()

    def run(self) -> None:
        """Observes, decides and acts when a tick is due. stops_for_ms: it is stopped for so long after it has decided
        to end somebody, before it does."""
        world = self._world
        if world.now_ms < self._down_until_ms:
            return
        if world.now_ms < world.frozen_until_ms.get(self._who, 0):
            self._late_ms += STEP_MS
            return
        self._do_held()
        if self.ended or (world.now_ms < self._next_ms and not self._port.has_news):
            return
        self._next_ms = world.now_ms + TICK_MS
        reads = world.now_ms >= world.database_away_until_ms
        if not self._term:
            if not world.writable:
                return
            world.term += 1
            self._term = world.term
        if world.writable and self._hears_of_another():
            return
        if world.writable and self._term == world.term:
            world.healer_beat_ms = world.now_ms
        tick = decide(self._memory, self._seen(reads), POLICY)
        self._memory, self._late_ms = tick.memory, 0
        if not tick.diagnoses:
            self._next_ms = world.now_ms + TICK_MS * self._calm_ticks
        if self.stops_for_ms and any(isinstance(each, Kill | MarkDead) for each in tick.plan.actions):
            world.note(f"{self._who} is stopped for {self.stops_for_ms} ms before it acts")
            world.frozen_until_ms[self._who] = world.now_ms + self.stops_for_ms
            self._held, self.stops_for_ms = tick.plan.actions, 0
            return
        self._do(tick.plan.actions)

    def _hears_of_another(self) -> bool:
        """Whether Postgres says that another healer has begun since: then it ends."""
        self.ended = self._termed and self._term != self._world.term
        return self.ended

    def _do_held(self) -> None:
        """What it was about to do when it was stopped."""
        held, self._held = self._held, ()
        if not (self._drops_late and self._late_ms > POLICY.late_after_ms):
            self._do(held)

    def _do(self, actions: tuple[Action, ...]) -> None:
        took_ms = 0
        for action in actions:
            if not self.ended:
                took_ms = max(took_ms, self._act(action))
        if took_ms:  # it waits for what the platform does
            self._next_ms = self._world.now_ms + took_ms

    def _seen(self, reads: bool) -> Observation:
        world = self._world
        seen = Observation(
            at_ms=world.now_ms,
            late_ms=self._late_ms if self._pause_seen else 0,
            term=self._term,
            processes=self._port.processes(),
            exits=self._port.take_exits(),
            probes=self._port.probes(),
            reports=tuple(self._reports()),
            database=self._database(reads),
            feeds=self._feeds(),
            rebalance=world.rebalance,
        )
        if not reads:
            return seen
        owners = (
            Owner(Life.parse("bet-service", name), world.now_ms - at, False, name in world.exited)
            for name, at in world.beats.items()
        )
        shards = (
            Shard(n, _life(row.owner), row.epoch, "owned" if row.owner else "free", _life(row.desired))
            for n, row in enumerate(world.rows)
        )
        consumer = Consumer("notifications", 0, world.position, world.head, self._port.holder(CONSUMER))
        return replace(seen, owners=tuple(owners), shards=tuple(shards), consumers=(consumer,))

    def _database(self, reads: bool) -> Database:
        if not reads:
            return Database.AWAY
        return Database.OK if self._world.writable or not self._writes_seen else Database.READ_ONLY

    def _feeds(self) -> tuple[Feed, ...] | None:
        if self._world.now_ms - self._world.odds_heard_ms > 6_000:
            return None
        return (Feed("replay", FEED, self._world.alive_ms, suspended=False),)

    def _reports(self) -> list[Report]:
        """The gateway waits for who is slow, hangs or sleeps; the feed waits for an odds-service that is stuck."""
        world = self._world
        found = []
        if world.works(FEED) is not None and (stuck := world.sticks(ODDS)) is not None:
            found.append(Report(FEED, stuck.life, 5, world.now_ms - stuck.stuck_since_ms, None))
        gateway = world.works("api-gateway")
        if gateway is None:
            return found
        for life in world.lives.values():
            if life is not None and life.name in INSTANCES and world.works(life.name) is None:
                waited_ms = world.now_ms - max(life.started_ms, self._stopped_ms.setdefault(life.owner, world.now_ms))
                found.append(Report(gateway.name, life.life, 5, waited_ms, None))
            elif life is not None:
                self._stopped_ms.pop(life.owner, None)
        return found

    def _act(self, action: Action) -> int:
        """Returns how long it waits for it, in ms."""
        world = self._world
        match action:
            case MarkDead() | Place() if world.writable and not self._hears_of_another():
                if action.term != world.term:
                    raise Broken(f"{world.now_ms} ms: {self._who} acted under term {action.term}, it is {world.term}")
                self._write(action)
            case Kill(life=life):
                return self._port.kill(life, self._check_killed)
            case _:
                pass
        return 0

    def _write(self, action: MarkDead | Place) -> None:
        world = self._world
        match action:
            case MarkDead(owner=owner):
                self._check_marked_dead(str(owner))
                world.exited.add(str(owner))
            case Place(wanted=wanted):
                for shard, owner in wanted:
                    world.rows[shard].desired = str(owner)

    def _check_killed(self, life: Running) -> None:
        """It was frozen, or two of the vantage points were really cut off from it: nobody could know better.

        Nor could a healer that began to look in the middle of a sleep of all, and found one that woke up last.
        """
        world = self._world
        slack_ms = PROBE_MS + TICK_MS
        if (
            world.now_ms <= life.asleep_until_ms + slack_ms
            and self._memory.evidence.since_ms > life.asleep_since_ms >= 0
        ):
            return
        frozen = life.frozen_since_ms >= 0 and world.now_ms <= life.frozen_until_ms + slack_ms
        ends = [
            *(
                max(world.deaf_until_ms[who], world.unheard_until_ms.get((who, life.name), 0))
                for who in {self._who, "platform"} & world.deaf_until_ms.keys()
            ),
            world.beatless_until_ms.get(life.name, 0),
            life.stuck_until_ms,
        ]
        cut_off = sum(end_ms > 0 and world.now_ms <= end_ms + slack_ms for end_ms in ends)
        if not frozen and cut_off < 2:
            raise Broken(f"{world.now_ms} ms: {life.owner} was killed and was not hung")

    def _check_marked_dead(self, owner: str) -> None:
        """The same; or it has slept for long with others, as on a lost machine, while another bet-service works: its
        shards are of no use to anybody there, and it is not killed."""
        life = self._world.life_of(owner)
        if life is None or (self._sleeps_long(life) and any(self._world.works(name) for name in INSTANCES)):
            return
        self._check_killed(life)

    def _sleeps_long(self, life: Running) -> bool:
        now_ms, slack_ms = self._world.now_ms, PROBE_MS + TICK_MS
        slept_ms = min(now_ms, life.asleep_until_ms) - life.asleep_since_ms
        return (
            life.asleep_since_ms >= 0
            and slept_ms >= GONE_AFTER_MS - slack_ms
            and (now_ms <= life.asleep_until_ms + slack_ms)
        )


def _life(owner: str | None) -> Life | None:
    return None if owner is None else Life.parse("bet-service", owner)
