"""The way to one instance: sends the batches of the ready queues in few calls."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from typing import Final

from betting.clients.owners.connections import OwnerConnection
from betting.clients.owners.directory import Route
from betting.clients.owners.framing import execute_request
from betting.clients.owners.shard_queues import MAX_BATCH_BYTES, Batch, ShardQueue
from betting.internal.v1 import owner_pb2
from betting.runtime import logs
from betting.runtime.errors import ServiceError, internal

# Two calls: while the owner makes one durable, the other is decided.
MAX_CALLS_IN_FLIGHT: Final = 2
# With one batch more, below what a message may have.
MAX_CALL_BYTES: Final = 2 * MAX_BATCH_BYTES
# The owner may answer this long after the last caller's deadline before the call is given up.
CALL_GRACE_S: Final = 0.25

_log = logs.get(__name__)


class Link:
    """Lanes of one owner: one life at one address. The next life has a link of its own, at the same address too.

    route: where a shard's commands go now (it may have moved since its queue was ready); on_moved: takes a queue whose
    shard is not here any more; answered, failed: what to do with the results of a batch, and with one whose call
    brought none.
    """

    def __init__(
        self,
        owner: str,
        address: str,
        connection: OwnerConnection,
        *,
        route: Callable[[int], Route | None],
        on_moved: Callable[[ShardQueue], None],
        answered: Callable[[Batch, Sequence[owner_pb2.Result]], None],
        failed: Callable[[Batch, ServiceError], None],
    ) -> None:
        self.owner = owner
        self.address = address
        self._connection = connection
        self._route = route
        self._on_moved = on_moved
        self._answered = answered
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        # Calls carry many requests: they belong to none of them.
        self._context = contextvars.copy_context()
        self._ready: dict[ShardQueue, None] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self.calls_total = 0
        self.commands_total = 0

    @property
    def connection(self) -> OwnerConnection:
        """For calls that are not gathered."""
        return self._connection

    @property
    def idle(self) -> bool:
        """Nothing waits here and nothing is in flight."""
        return not self._ready and not self._calls

    def leads_to(self, route: Route) -> bool:
        """Whether the shard is here."""
        return (route.owner, route.address) == (self.owner, self.address)

    def ready(self, queue: ShardQueue) -> None:
        """This queue has commands for the owner; everything that comes in the same turn of the loop goes together."""
        queue.queued_at = (self.owner, self.address)
        self._ready[queue] = None
        self._schedule()

    def drop(self, queue: ShardQueue) -> None:
        """This queue's shard has moved to another owner."""
        queue.queued_at = None
        self._ready.pop(queue, None)

    async def close(self) -> None:
        """Ends the calls in flight; their batches have been dealt with by then."""
        for call in list(self._calls):
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._connection.close()

    def _schedule(self) -> None:
        if not self._scheduled and len(self._calls) < MAX_CALLS_IN_FLIGHT:
            self._scheduled = True
            self._loop.call_soon(self._flush, context=self._context)

    def _flush(self) -> None:
        self._scheduled = False
        if not self._ready or len(self._calls) >= MAX_CALLS_IN_FLIGHT:
            return
        batches = self._take()
        if batches:
            task = self._loop.create_task(self._call(batches))
            self._calls.add(task)
            task.add_done_callback(self._ended)

    def _take(self) -> list[Batch]:
        batches: list[Batch] = []
        size_bytes = 0
        for queue in list(self._ready):
            if size_bytes >= MAX_CALL_BYTES:
                break
            self.drop(queue)
            route = self._route(queue.shard_id)
            if route is None or not self.leads_to(route):
                self._on_moved(queue)
            elif (batch := queue.take(route)) is not None:
                size_bytes += batch.size_bytes
                batches.append(batch)
        return batches

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        if self._ready:
            self._schedule()

    async def _call(self, batches: list[Batch]) -> None:
        now = self._loop.time()
        requests = []
        timeout_s = 0.0
        for batch in batches:
            budget_s = max(0.001, max(waiter.deadline for waiter in batch.waiters) - now)
            timeout_s = max(timeout_s, budget_s)
            commands = [waiter.command for waiter in batch.waiters]
            requests.append(execute_request(batch.route.shard_id, batch.route.epoch, int(budget_s * 1000), commands))
            self.commands_total += len(commands)
        self.calls_total += 1
        try:
            responses = await self._connection.execute(requests, timeout_s + CALL_GRACE_S)
        except ServiceError as failure:
            self._fail(batches, failure)
        except Exception:
            _log.exception("owner call broken", address=self.address)
            self._fail(batches, internal("OWNER_CALL", "the call to the shard's owner broke: repeat the request"))
        else:
            self._answer(batches, responses)

    def _fail(self, batches: list[Batch], failure: ServiceError) -> None:
        for batch in batches:
            self._failed(batch, failure)

    def _answer(self, batches: list[Batch], responses: Sequence[owner_pb2.ExecuteResponse]) -> None:
        if len(responses) != len(batches):
            message = f"the owner answered {len(responses)} of {len(batches)} shards: repeat the request"
            self._fail(batches, internal("OWNER_REPLY", message))
            return
        for batch, response in zip(batches, responses, strict=True):
            results = response.results
            if len(results) == len(batch.waiters):
                self._answered(batch, results)
            else:
                message = f"the owner answered {len(results)} of {len(batch.waiters)} commands: repeat the request"
                self._failed(batch, internal("OWNER_REPLY", message))
