"""Takes commands for shards to whoever owns them, holding callers while a shard changes hands."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from betting.clients.owners import shard_queues
from betting.clients.owners.connections import OwnerConnection, repeatable
from betting.clients.owners.directory import FROZEN_STATES, Directory
from betting.clients.owners.framing import frame_command
from betting.clients.owners.links import Link
from betting.clients.owners.shard_queues import Batch, CommandResult, Deliver, ShardQueue, Waiter
from betting.internal.v1 import owner_pb2
from betting.placement import shard_of
from betting.runtime import logs
from betting.runtime.errors import READ_MODEL_BEHIND, ServiceError, code_from_number, internal, unavailable
from betting.runtime.loops import woken_within
from betting.v1 import common_pb2

_log = logs.get(__name__)

_NOT_OWNER = common_pb2.REFUSAL_CODE_NOT_OWNER


@dataclass(frozen=True, slots=True)
class RouterLimits:
    """Bounds of the router.

    default_timeout_s: how long a caller waits that set no deadline; max_waiting_per_shard: callers held for one shard,
    more are refused as overloaded; abandon_after_s: how long a call to a shard's former owner may still bring its
    replies; sweep_s: how exactly deadlines are kept; prune_s: how often unused connections are looked for;
    read_again_s: the pause before a read is repeated that the read models were behind for; reads_again_max: how often.
    """

    default_timeout_s: float = 10.0
    max_waiting_per_shard: int = 2_000
    abandon_after_s: float = 0.25
    sweep_s: float = 0.02
    prune_s: float = 1.0
    read_again_s: float = 0.1
    reads_again_max: int = 20


@dataclass(frozen=True, slots=True)
class RouterStatistics:
    """What waits and what was done so far."""

    waiting: int
    in_flight: int
    calls_total: int
    commands_total: int
    repeats_total: int
    expired_total: int


class OwnerRouter:
    """One per process. `dial` opens a connection to an owner at an address; `background` are its long-running parts."""

    def __init__(
        self,
        directory: Directory,
        dial: Callable[[str, str], OwnerConnection],
        *,
        shard_count: int,
        limits: RouterLimits | None = None,
    ) -> None:
        self._directory = directory
        self._dial = dial
        self._shard_count = shard_count
        self.limits = limits or RouterLimits()
        self._loop = asyncio.get_running_loop()
        self._queues = [ShardQueue(shard, self.limits.max_waiting_per_shard) for shard in range(shard_count)]
        self._links: dict[tuple[str, str], Link] = {}  # by owner and address
        self._retired_calls = 0
        self._retired_commands = 0
        self._repeats = 0
        self._expired = 0
        self._closing: set[asyncio.Task[None]] = set()
        # Reads that wait for the read models, in no queue meanwhile: nobody's bets wait with them.
        self._put_off: set[Waiter] = set()
        # Set while nobody waits for anything: deadlines need no looking after until the next caller comes.
        self._resting = False
        self._woken = asyncio.Event()
        self.background: list[Callable[[], Awaitable[None]]] = [directory.run, self._sweep]
        directory.on_change(self._moved)

    @property
    def knows_shards(self) -> bool:
        """Whether the directory has been read."""
        return self._directory.known_shards > 0

    def shard_of(self, user_id: bytes) -> int:
        """The shard of a user (16-byte id)."""
        return shard_of(user_id, self._shard_count)

    def submit(self, shard_id: int, command: bytes, timeout_s: float, deliver: Deliver, reply_bytes: int = 0) -> Waiter:
        """Sends a framed command on its way; `deliver` is called exactly once, unless the waiter gives up.

        reply_bytes: about how large the result may get, where that is more than a bet; keeps replies within a message.
        """
        waiter = Waiter(command, self._loop.time() + timeout_s, deliver, reply_bytes)
        queue = self._queues[shard_id]
        queue.add(waiter)
        if self._resting:
            self._woken.set()
        if queue.flying is None and queue.queued_at is None:
            self._send_when_ready(queue)
        return waiter

    async def execute(
        self, user_id: bytes, command: owner_pb2.Command, *, timeout_s: float | None = None, reply_bytes: int = 0
    ) -> owner_pb2.Result:
        """The owner's result for a user's command: placed, bet, bets, balance or refusal.

        Raises ServiceError: the fault the owner found, UNAVAILABLE (nothing was done), or DEADLINE_EXCEEDED (something
        may have been done: repeat with the same request key).
        """
        answer: asyncio.Future[CommandResult] = self._loop.create_future()

        def deliver(outcome: CommandResult) -> None:
            if not answer.done():
                answer.set_result(outcome)

        wait_s = self.limits.default_timeout_s if timeout_s is None else timeout_s
        waiter = self.submit(self.shard_of(user_id), frame_command(command), wait_s, deliver, reply_bytes)
        try:
            return result_of(await answer)
        finally:
            waiter.give_up()

    async def settle_market(
        self, shard_id: int, market_id: int, version: int, outcomes: Mapping[int, int], *, timeout_s: float
    ) -> owner_pb2.SettleMarketResponse:
        """Settles a market on one shard, following it if it moves; `done` says whether to call again.

        Raises ServiceError: what the owner refused, or UNAVAILABLE when no owner answered in time.
        """
        end = self._loop.time() + timeout_s
        pause_s = shard_queues.FIRST_RETRY_S
        while (left_s := end - self._loop.time()) > 0:
            route = self._directory.route(shard_id)
            if route is not None and route.owner is not None and route.address is not None:
                request = owner_pb2.SettleMarketRequest(
                    shard_id=shard_id, epoch=route.epoch, market_id=market_id, version=version, outcomes=outcomes
                )
                try:
                    return await self._link(route.owner, route.address).connection.settle_market(request, left_s)
                except ServiceError as error:
                    if not repeatable(error):
                        raise
            self._directory.want()
            await asyncio.sleep(min(pause_s * random.uniform(0.75, 1.25), max(0.0, end - self._loop.time())))
            pause_s = min(pause_s * 2, shard_queues.LAST_RETRY_S)
        raise unavailable("SHARD_UNAVAILABLE", f"no owner of shard {shard_id} answered in time: call again to go on")

    def statistics(self) -> RouterStatistics:
        """A snapshot of the counters."""
        return RouterStatistics(
            waiting=sum(len(queue) for queue in self._queues),
            in_flight=sum(len(queue.flying.waiters) for queue in self._queues if queue.flying is not None),
            calls_total=self._retired_calls + sum(link.calls_total for link in self._links.values()),
            commands_total=self._retired_commands + sum(link.commands_total for link in self._links.values()),
            repeats_total=self._repeats,
            expired_total=self._expired,
        )

    async def close(self) -> None:
        """Answers everybody who still waits and ends the connections."""
        for queue in self._queues:
            queue.close()
        for waiter in self._put_off:
            waiter.finish(shard_queues.shutting_down())
        await asyncio.gather(*(link.close() for link in self._links.values()), *self._closing)
        self._links.clear()

    def _send_when_ready(self, queue: ShardQueue) -> None:
        """Makes a queue ready that has something to send and nothing in flight."""
        if queue.flying is not None or queue.hold_until or not len(queue):
            return
        route = self._directory.route(queue.shard_id)
        if route is not None and route.state in FROZEN_STATES:  # a frozen shard keeps the name of its owner
            queue.freeze()
        elif route is not None and route.owner is not None and route.address is not None:
            self._link(route.owner, route.address).ready(queue)
        else:
            self._hold(queue)

    def _hold(self, queue: ShardQueue) -> None:
        delay_s = queue.set_back(self._loop.time(), random.random())
        self._directory.want()
        self._loop.call_later(delay_s, self._unhold, queue, queue.hold_until)

    def _unhold(self, queue: ShardQueue, hold_until: float) -> None:
        if queue.hold_until == hold_until:
            queue.hold_until = 0.0
            self._send_when_ready(queue)

    def _answered(self, batch: Batch, results: Sequence[owner_pb2.Result]) -> None:
        queue = batch.queue
        queue.landed(batch)
        moved = []
        for waiter, result in zip(batch.waiters, results, strict=True):
            which = result.WhichOneof("result")
            if which == "refusal" and result.refusal.code == _NOT_OWNER:
                waiter.unanswered -= 1
                moved.append(waiter)
            elif which == "fault" and result.fault.reason == READ_MODEL_BEHIND and self._may_read_again(waiter):
                waiter.unanswered -= 1
                self._read_later(queue, waiter)
            else:
                waiter.finish(result)
        if not moved:
            queue.release()
        elif not batch.abandoned:
            self._again(queue, moved, batch.route.epoch)
        self._send_when_ready(queue)

    def _may_read_again(self, waiter: Waiter) -> bool:
        pause_s = self.limits.read_again_s
        return waiter.reads < self.limits.reads_again_max and waiter.deadline - self._loop.time() > 2 * pause_s

    def _read_later(self, queue: ShardQueue, waiter: Waiter) -> None:
        waiter.reads += 1
        self._put_off.add(waiter)
        self._loop.call_later(self.limits.read_again_s, self._read_again, queue, waiter)

    def _read_again(self, queue: ShardQueue, waiter: Waiter) -> None:
        self._put_off.discard(waiter)
        if not waiter.done:
            queue.put_back([waiter])
            if queue.queued_at is None:
                self._send_when_ready(queue)

    def _failed(self, batch: Batch, error: ServiceError) -> None:
        queue = batch.queue
        queue.landed(batch)
        if not repeatable(error):
            _log.error("owner call failed", shard_id=queue.shard_id, code=error.code.name, reason=error.reason)
            self._refuse(batch, internal("OWNER_CALL", "the shard's owner could not take the request: repeat it later"))
        elif not batch.abandoned:
            self._again(queue, batch.waiters, batch.route.epoch)
        self._send_when_ready(queue)

    def _again(self, queue: ShardQueue, waiters: list[Waiter], epoch: int) -> None:
        self._repeats += len(waiters)
        queue.put_back(waiters)
        route = self._directory.route(queue.shard_id)
        if route is None or route.epoch <= epoch:  # nobody newer is known to ask
            self._hold(queue)

    def _refuse(self, batch: Batch, error: ServiceError) -> None:
        for waiter in batch.waiters:
            waiter.finish(error)

    def _moved(self, shards: list[int]) -> None:
        for shard in shards:
            if shard >= self._shard_count:
                continue
            queue = self._queues[shard]
            route = self._directory.route(shard)
            batch = queue.flying
            if batch is not None and route is not None and route.epoch > batch.route.epoch:
                self._loop.call_later(self.limits.abandon_after_s, self._abandon, batch)
            link = None if queue.queued_at is None else self._links.get(queue.queued_at)
            if link is not None and (route is None or not link.leads_to(route)):
                link.drop(queue)
            queue.release()
            self._send_when_ready(queue)

    def _abandon(self, batch: Batch) -> None:
        """The shard is elsewhere and this call hangs: ask the new owner. Safe, commands carry their request key."""
        if batch.queue.flying is batch:
            batch.abandoned = True
            batch.queue.landed(batch)
            self._repeats += len(batch.waiters)
            batch.queue.put_back(batch.waiters)
            self._send_when_ready(batch.queue)

    def _link(self, owner: str, address: str) -> Link:
        link = self._links.get((owner, address))
        if link is None:
            link = Link(
                owner,
                address,
                self._dial(owner, address),
                route=self._directory.route,
                on_moved=self._send_when_ready,
                answered=self._answered,
                failed=self._failed,
            )
            self._links[owner, address] = link
        return link

    def _prune(self) -> None:
        """Closes the connections of instances that own nothing any more."""
        routes = (self._directory.route(shard) for shard in range(self._shard_count))
        used = {(route.owner, route.address) for route in routes if route is not None}
        for known in [known for known, link in self._links.items() if known not in used and link.idle]:
            link = self._links.pop(known)
            self._retired_calls += link.calls_total
            self._retired_commands += link.commands_total
            task = self._loop.create_task(link.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _sweep(self) -> None:
        prune_at = 0.0
        while True:
            await self._until_worth_looking()
            now = self._loop.time()
            if now >= prune_at:
                prune_at = now + self.limits.prune_s
                self._prune()
            for queue in self._queues:
                self._expired += queue.expire(now)

    async def _until_worth_looking(self) -> None:
        if any(queue.flying is not None or len(queue) for queue in self._queues):
            await asyncio.sleep(self.limits.sweep_s)
            return
        self._woken.clear()
        self._resting = True
        try:
            await woken_within(self._woken, self.limits.prune_s)
        finally:
            self._resting = False


def result_of(outcome: CommandResult) -> owner_pb2.Result:
    """The result inside an outcome; raises the error, or the fault the owner found with the command."""
    if isinstance(outcome, ServiceError):
        raise outcome
    if outcome.HasField("fault"):
        fault = outcome.fault
        raise ServiceError(code_from_number(fault.code), fault.reason, fault.message)
    return outcome
