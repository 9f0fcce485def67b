"""All objects of one kind, told in one sequence: a list, then what changes after it, then a list again.

Other than `watching`, which feeds a cache for the reconciler, this tells every change in the API server's own order,
with the last state of what was deleted, and when the API server was heard last. What a gap swallowed, the next list
shows as far as it is still to be seen.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from betting.runtime import logs
from betting.runtime.loops import FailureLog
from betting_operator.kubernetes.client import AwayError, Client, Event, GoneError, Json, KubernetesError
from betting_operator.kubernetes.kinds import Resource

# A full list says what is there, so that nothing is believed for long that a watch has missed.
LIST_EVERY_S = 30.0
# A watch is silent while nothing changes: it is ended and gone on with this often, which is a sign of life each time.
WATCH_FOR_S = 10
RETRY_S = 1.0

_log = logs.get(__name__)


class ListWatch:
    """Of the objects of a namespace that a label selector selects.

    listed: called with all of them. changed: called with each change after that; what an earlier list had and a later
    one has not is gone without a change. heard_s: when the API server was heard last, monotonic: a list, a watch that
    it has opened, an event. problem: why the last list or watch failed, None: it did not.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        namespace: str,
        label_selector: str,
        *,
        listed: Callable[[Sequence[Json]], None],
        changed: Callable[[Event], None],
    ) -> None:
        self._client = client
        self._resource = resource
        self._namespace = namespace
        self._selector = label_selector
        self._listed = listed
        self._changed = changed
        self.heard_s = -math.inf
        self.problem: KubernetesError | None = None

    async def run(self) -> None:
        """Until it is cancelled. What does not work is logged and tried again."""
        failures = FailureLog(_log, "objects not watched")
        while True:
            try:
                found = await self._client.list(self._resource, self._namespace, self._selector)
                self.heard_s, self.problem = time.monotonic(), None
                self._listed(found.objects)
                failures.worked()
                await self._follow(found.resource_version)
            except GoneError:
                continue
            except KubernetesError as error:
                self.problem = error
                failures.failed(error, resource=self._resource.plural)
                await asyncio.sleep(RETRY_S)

    async def _follow(self, version: str) -> None:
        until_s = time.monotonic() + LIST_EVERY_S
        while time.monotonic() < until_s:
            async with watch(
                self._client, self._resource, self._namespace, self._selector, version, for_s=WATCH_FOR_S
            ) as events:
                self.heard_s = time.monotonic()
                async for event in events:
                    self.heard_s = time.monotonic()
                    version = event.object["metadata"]["resourceVersion"]
                    if event.type != "BOOKMARK":
                        self._changed(event)


@asynccontextmanager
async def watch(
    client: Client, resource: Resource, namespace: str, label_selector: str, resource_version: str, *, for_s: int
) -> AsyncIterator[AsyncIterator[Event]]:
    """What changes after a list of this resourceVersion, as it comes, until the API server ends it after `for_s`
    seconds. The block begins when the watch is on. Raises KubernetesError, see `Requests.watch`.
    """
    path = resource.path(namespace)
    query = {"resourceVersion": resource_version} | ({"labelSelector": label_selector} if label_selector else {})
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[None] = loop.create_future()
    events: asyncio.Queue[Event | KubernetesError | None] = asyncio.Queue()

    def tell(what: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(what, *arguments)

    def read() -> None:
        try:
            for event in client.requests.watch(path, query, for_s=for_s, opened=lambda: tell(_done, opened)):
                tell(events.put_nowait, event)
        except KubernetesError as error:
            tell(_failed, opened, error)
            tell(events.put_nowait, error)
        finally:  # whatever happens, nobody waits for a thread that has ended
            tell(_failed, opened, AwayError(0, f"the watch of {path} ended before it began"))
            tell(events.put_nowait, None)

    # It ends with the watch: nothing interrupts a thread that reads, so the process does not wait for this one.
    threading.Thread(target=read, name="kubernetes-watch", daemon=True).start()
    await opened
    yield _until_ended(events)


def _done(opened: asyncio.Future[None]) -> None:
    if not opened.done():
        opened.set_result(None)


def _failed(opened: asyncio.Future[None], error: KubernetesError) -> None:
    if not opened.done():
        opened.set_exception(error)


async def _until_ended(events: asyncio.Queue[Event | KubernetesError | None]) -> AsyncIterator[Event]:
    while (event := await events.get()) is not None:
        if isinstance(event, KubernetesError):
            raise event
        yield event
