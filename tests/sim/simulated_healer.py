"""The healer in the simulated world: the real brain, what it sees, what it does, and whom it must leave alone."""

from __future__ import annotations

from dataclasses import replace

from simulated_world import (
    CONSUMER,
    FEED,
    INSTANCES,
    NODE_OF,
    ODDS,
    OTHERS,
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
    Answer,
    Consumer,
    Database,
    Feed,
    Observation,
    Owner,
    Phase,
    Probe,
    Process,
    Report,
    Shard,
)

STEP_MS = 100
TICK_MS = 500


class Healer:
    """writes_seen: whether it knows that nothing can be written; pause_seen: whether it knows of its own pause;
    nodes_seen: whether it knows what runs on which node.
    """

    def __init__(self, world: World, *, writes_seen: bool, pause_seen: bool, nodes_seen: bool) -> None:
        self._world = world
        self._nodes_seen = nodes_seen
        self._writes_seen = writes_seen
        self._pause_seen = pause_seen
        self._down_until_ms = 0
        self._next_ms = 0
        self._late_ms = 0
        self._term = 0
        self._memory = Memory()
        self._told = 0
        self._stopped_ms: dict[str, int] = {}
        self.kills: list[str] = []

    def killed(self) -> None:
        """The next life begins with nothing."""
        self._down_until_ms = self._world.now_ms + RESTART_MS
        self._term, self._memory = 0, Memory()

    def run(self) -> None:
        """Observes, decides and acts when a tick is due."""
        world = self._world
        if world.now_ms < self._down_until_ms or world.now_ms < self._next_ms:
            return
        if world.now_ms < world.healer_frozen_until_ms:
            self._late_ms += STEP_MS
            return
        self._next_ms = world.now_ms + TICK_MS
        reads = world.now_ms >= world.database_away_until_ms
        if not self._term:
            if not world.writable:
                return
            world.term += 1
            self._term = world.term
        if world.writable and self._term == world.term:
            world.healer_beat_ms = world.now_ms
        tick = decide(self._memory, self._seen(reads), Policy())
        self._memory, self._late_ms = tick.memory, 0
        for action in tick.plan.actions:
            self._act(action, world.writable)

    def _seen(self, reads: bool) -> Observation:
        world = self._world
        exits, self._told = world.exits[self._told :], len(world.exits)
        processes = [self._process(name) for name in (*INSTANCES, *OTHERS)]
        probes = [
            Probe(
                life.life,
                Answer.SERVING if not silent else Answer.SILENT,
                silent,
                lag_ms=1_500 if world.now_ms < life.slow_until_ms else 0,
            )
            for life in world.lives.values()
            if life is not None
            for silent in [self._silent(life, "healer")]
        ]
        seen = Observation(
            at_ms=world.now_ms,
            late_ms=self._late_ms if self._pause_seen else 0,
            term=self._term,
            processes=tuple(processes),
            exits=tuple(exits),
            probes=tuple(probes),
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
        life = world.lives[CONSUMER]
        holder = life.life if life is not None else None
        consumer = Consumer("notifications", 0, world.position, world.head, holder)
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

    def _process(self, name: str) -> Process:
        workload = "bet-service" if name in INSTANCES else name
        life, node = self._world.lives[name], NODE_OF[name] if self._nodes_seen else ""
        if life is None:
            return Process(workload, name, "", Phase.DOWN, 0, node=node)
        return Process(workload, name, str(life.boot), Phase.RUNNING, 0, self._silent(life, "platform"), node)

    def _silent(self, life: Running, who: str) -> int:
        answered_ms = life.answered_ms[who]
        if who == "platform":  # the supervisor knows its own pause; it slept when all did, the healer included
            answered_ms = max(answered_ms, self._world.platform_woke_ms)
        silent_ms = self._world.now_ms - answered_ms
        return silent_ms if silent_ms > PROBE_MS else 0

    def _act(self, action: Action, writes: bool) -> None:
        world = self._world
        match action:
            case MarkDead(owner=owner, term=term) if writes and term == world.term:
                self._check_marked_dead(str(owner))
                world.exited.add(str(owner))
            case Place(wanted=wanted, term=term) if writes and term == world.term:
                for shard, owner in wanted:
                    world.rows[shard].desired = str(owner)
            case Kill(life=named):
                life = world.lives[named.instance]
                if life is not None and life.life == named:
                    self._check_killed(life)
                    self.kills.append(life.owner)
                    world.end(life, "killed by SIGKILL")
            case _:
                pass

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
                for who in world.deaf_until_ms
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
