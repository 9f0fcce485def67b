"""What waits for one shard: callers with their commands, in order, bounded. No I/O; time comes in as an argument."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from betting.clients.owners.directory import Route
from betting.internal.v1 import owner_pb2
from betting.runtime import logs
from betting.runtime.errors import ServiceError, deadline_exceeded, unavailable
from betting.v1 import common_pb2

CommandResult = owner_pb2.Result | ServiceError
Deliver = Callable[[CommandResult], None]

MAX_BATCH_COMMANDS: Final = 500
MAX_BATCH_BYTES: Final = 1 << 20
FIRST_RETRY_S: Final = 0.05
LAST_RETRY_S: Final = 0.5

_log = logs.get(__name__)


class Waiter:
    """One caller: the framed command, until when it waits (loop time), and where the outcome goes, once.

    reads: how often it was put off because the read models were behind. unanswered: how many calls have carried the
    command of which nothing was heard; one that was refused because the owner has changed did nothing.
    """

    __slots__ = ("command", "cost_bytes", "deadline", "deliver", "reads", "unanswered")

    def __init__(self, command: bytes, deadline: float, deliver: Deliver, reply_bytes: int = 0) -> None:
        self.command = command
        self.cost_bytes = len(command) + reply_bytes
        self.deadline = deadline
        self.deliver: Deliver | None = deliver
        self.reads = 0
        self.unanswered = 0

    @property
    def done(self) -> bool:
        """Whether the caller has had its answer."""
        return self.deliver is None

    @property
    def may_be_done(self) -> bool:
        """Whether the command may have been carried out."""
        return self.unanswered > 0

    def finish(self, outcome: CommandResult) -> None:
        """Answers the caller, once. One that cannot take it is no trouble of its neighbours."""
        deliver = self.deliver
        if deliver is None:
            return
        self.deliver = None
        try:
            deliver(outcome)
        except Exception as error:
            _log.error("result not delivered", exc_info=error)

    def give_up(self) -> None:
        """Ends the wait (not the command, which may still be carried out)."""
        self.deliver = None


@dataclass(slots=True, eq=False)
class Batch:
    """Waiters of one shard on their way to its owner at one epoch."""

    queue: ShardQueue
    route: Route
    waiters: list[Waiter]
    size_bytes: int
    abandoned: bool = False


class ShardQueue:
    """The queue of one shard. At most one batch is in flight; while it is, the next one gathers."""

    def __init__(self, shard_id: int, max_waiting: int) -> None:
        self.shard_id = shard_id
        self._max_waiting = max_waiting
        self._waiting: deque[Waiter] = deque()
        self.flying: Batch | None = None
        # Not before this loop time: set after a refusal or a failed call, cleared when the directory changes.
        self.hold_until = 0.0
        self.setbacks = 0
        # The owner and the address whose link will take the next batch, if one has been told.
        self.queued_at: tuple[str, str] | None = None
        self._earliest = float("inf")

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, waiter: Waiter) -> None:
        """Queues a caller; a full queue answers it with OVERLOADED."""
        if len(self._waiting) >= self._max_waiting:
            waiter.finish(overloaded(self.shard_id, len(self._waiting), self._max_waiting))
            return
        self._waiting.append(waiter)
        self._earliest = min(self._earliest, waiter.deadline)

    def take(self, route: Route) -> Batch | None:
        """The next batch for the owner, now in flight; None when nobody waits any more."""
        waiters: list[Waiter] = []
        size_bytes = 0
        waiting = self._waiting
        while waiting and len(waiters) < MAX_BATCH_COMMANDS and size_bytes < MAX_BATCH_BYTES:
            waiter = waiting.popleft()
            if waiter.deliver is not None:
                waiter.unanswered += 1
                size_bytes += waiter.cost_bytes
                waiters.append(waiter)
        if not waiters:
            return None
        self.flying = Batch(self, route, waiters, size_bytes)
        return self.flying

    def landed(self, batch: Batch) -> None:
        """The batch's call has ended."""
        if self.flying is batch:
            self.flying = None

    def put_back(self, waiters: list[Waiter]) -> None:
        """Waiters whose commands must be sent again come first, in their old order."""
        again = [waiter for waiter in waiters if not waiter.done]
        self._waiting.extendleft(reversed(again))
        for waiter in again:
            self._earliest = min(self._earliest, waiter.deadline)

    def set_back(self, now: float, jitter: float) -> float:
        """Counts a setback; returns how long to hold before the next try. jitter: 0 to 1."""
        delay_s = min(FIRST_RETRY_S * 2.0 ** min(self.setbacks, 10), LAST_RETRY_S) * (0.75 + jitter / 2)
        self.setbacks += 1
        self.hold_until = now + delay_s
        return delay_s

    def release(self) -> None:
        """Lets the next try happen at once."""
        self.hold_until = 0.0
        self.setbacks = 0

    def expire(self, now: float) -> int:
        """Answers everybody whose deadline has passed; returns how many."""
        if now < self._earliest:
            return 0
        flying = self.flying.waiters if self.flying is not None else []
        expired = [waiter for waiter in (*flying, *self._waiting) if waiter.deadline <= now and not waiter.done]
        for waiter in expired:
            waiter.finish(too_late(self.shard_id, waiter.may_be_done))
        self._waiting = deque(waiter for waiter in self._waiting if not waiter.done)
        live = [waiter.deadline for waiter in (*flying, *self._waiting) if not waiter.done]
        self._earliest = min(live, default=float("inf"))
        return len(expired)

    def close(self) -> None:
        """Answers everybody: this process ends."""
        flying = self.flying.waiters if self.flying is not None else []
        for waiter in (*flying, *self._waiting):
            waiter.finish(shutting_down())
        self._waiting.clear()

    def freeze(self) -> None:
        """Answers everybody who waits: a person has to look at the shard first."""
        while self._waiting:
            waiter = self._waiting.popleft()
            waiter.finish(frozen_while_away(self.shard_id) if waiter.may_be_done else frozen(self.shard_id))


def overloaded(shard_id: int, waiting: int, limit: int) -> owner_pb2.Result:
    """The transient refusal of a full queue."""
    message = (
        f"{waiting} requests wait for shard {shard_id}, {limit} is the limit: "
        "nothing was done, try again in a second with the same request_key"
    )
    return owner_pb2.Result(refusal=common_pb2.Refusal(code=common_pb2.REFUSAL_CODE_OVERLOADED, message=message))


def frozen(shard_id: int) -> owner_pb2.Result:
    """The refusal for a shard that a person has to look at."""
    message = f"shard {shard_id} is closed for checks: nothing was done, try again later with the same request_key"
    return owner_pb2.Result(refusal=common_pb2.Refusal(code=common_pb2.REFUSAL_CODE_SHARD_FROZEN, message=message))


def frozen_while_away(shard_id: int) -> ServiceError:
    """What a caller learns whose command was sent to an owner of which nothing was heard since."""
    message = (
        f"shard {shard_id} is closed for checks: the request may have been carried out; "
        "repeat it later with the same request_key"
    )
    return unavailable("OUTCOME_UNKNOWN", message)


def shutting_down() -> ServiceError:
    """What everybody learns who waits while this process ends."""
    return unavailable(
        "SHUTTING_DOWN", "this gateway is shutting down: repeat the same request with the same request_key"
    )


def too_late(shard_id: int, may_be_done: bool) -> ServiceError:
    """What a caller learns whose deadline passed."""
    if may_be_done:
        message = "no answer in time: the request may have been carried out; repeat it with the same request_key"
        return deadline_exceeded("OUTCOME_UNKNOWN", message)
    message = f"shard {shard_id} has no owner at the moment: nothing was done, try again with the same request_key"
    return unavailable("SHARD_UNAVAILABLE", message)
