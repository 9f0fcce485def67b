"""One owned shard: its state, the entries waiting to be durable, and who waits for them.

The state runs ahead of the journal: a command is decided and applied when it comes, and answered once its entries are
durable. If they never become durable the whole state is thrown away (`lose`), never rolled back.
"""

from __future__ import annotations

import asyncio
from enum import Enum

from betting.engine.apply import CannotApply, apply
from betting.engine.commands import Command, PriorAnswer, Reply
from betting.engine.decide import decide
from betting.engine.entries import Entry
from betting.engine.prices import Limits
from betting.engine.state import ShardState

# Entries decided but not durable yet; beyond this, callers are told to come back.
MAX_PENDING_ENTRIES = 20_000


class ShardPhase(Enum):
    """What a shard is doing; only SERVING takes commands."""

    SERVING = "serving"
    HANDING_OVER = "handing-over"
    FROZEN = "frozen"
    LOST = "lost"


class ShardLost(Exception):
    """This instance no longer owns the shard. Only the next owner knows whether waiting commands took effect."""


class ShardFrozen(Exception):
    """The shard is frozen until an operator unfreezes it."""


class OwnedShard:
    """Memory of one shard at one epoch."""

    __slots__ = ("confirmed", "entries", "epoch", "loaded_head", "lost_why", "phase", "snapshot_at", "state", "waiters")

    def __init__(self, state: ShardState, epoch: int, snapshot_at: int) -> None:
        self.state = state
        self.epoch = epoch
        self.confirmed = state.head  # everything up to here is durable
        self.loaded_head = state.head  # what came before was decided by another memory, perhaps only half of it
        self.snapshot_at = snapshot_at  # sequence of the newest snapshot
        self.phase = ShardPhase.SERVING
        self.lost_why = ""
        self.entries: list[Entry] = []
        self.waiters: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def shard(self) -> int:
        return self.state.shard

    def takes_commands(self) -> bool:
        """Only while serving: not while handing over, frozen or lost."""
        return self.phase is ShardPhase.SERVING

    @property
    def held(self) -> bool:
        """Whether this memory still stands for the shard: neither lost nor frozen."""
        return self.phase in (ShardPhase.SERVING, ShardPhase.HANDING_OVER)

    @property
    def overloaded(self) -> bool:
        return len(self.entries) > MAX_PENDING_ENTRIES

    def execute(self, command: Command, now_us: int, limits: Limits, prior: PriorAnswer | None = None) -> Reply:
        """Decides and applies one command; its entries wait for the next append.

        Raises CannotApply, after which the shard must be frozen; anything `decide` raises leaves the state as it was.
        """
        decision = decide(self.state, command, now_us, limits, prior)
        try:
            for entry in decision.entries:
                apply(self.state, entry)
                self.entries.append(entry)
        except CannotApply:
            raise
        except Exception as problem:  # half applied: whatever it was, this state is worth nothing now
            raise CannotApply(f"shard {self.shard}: {type(problem).__name__}: {problem}") from problem
        return decision.reply

    def durable(self) -> asyncio.Future[None]:
        """Done when everything decided so far is durable and the fence was checked after this call.

        Raises ShardLost or ShardFrozen.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (self.state.head, future)
        if self.phase in (ShardPhase.LOST, ShardPhase.FROZEN):
            fail([waiter], self.phase, self.lost_why)
        else:
            self.waiters.append(waiter)
        return future

    def lose(self, phase: ShardPhase, why: str) -> None:
        """Drops the state: every waiter gets an error, and no more commands are accepted."""
        self.phase = phase
        self.lost_why = why
        self.entries = []
        waiters, self.waiters = self.waiters, []
        fail(waiters, phase, why)


def fail(waiters: list[tuple[int, asyncio.Future[None]]], phase: ShardPhase, why: str) -> None:
    """Fails waiters because their shard is gone. Waiters whose callers have left are skipped."""
    for _upto, future in waiters:
        if not future.done():
            future.set_exception(ShardFrozen(why) if phase is ShardPhase.FROZEN else ShardLost(why))


def resolve(waiters: list[tuple[int, asyncio.Future[None]]]) -> None:
    """Completes waiters whose commands are durable."""
    for _upto, future in waiters:
        if not future.done():
            future.set_result(None)
