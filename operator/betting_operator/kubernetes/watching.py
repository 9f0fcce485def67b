"""What exists in the operator's namespace: watches that tell at once, full lists that miss nothing, a cache of both.

    Cache        what exists of one kind: pure
    KopfWatch    Kopf in a thread and event loop of its own
    Watching     both together: lists, watches, and which object to look at

Kopf only watches (`on.event`): it sets no finalizers, annotations or events, and starts when this process leads. After
a gap in a watch it lists again, and never tells what was deleted meanwhile: the full lists every 30 s find that out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import kopf
from kubernetes.client import Configuration

from betting.runtime import logs, metrics
from betting.runtime.loops import forever
from betting_operator.kubernetes.client import Client, Json, KubernetesError, NotFoundError
from betting_operator.kubernetes.kinds import Resource
from betting_operator.kubernetes.reconcile import Key

_log = logs.get(__name__)

LIST_EVERY_S = 30.0
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 30.0
# Without a word from the API server for so long the watch is made again. It sends a bookmark every 60 s or so.
INACTIVITY_S = 45.0
# How long the API server may serve one watch. An int: Kopf sends it as it is.
WATCH_S = 600
CONNECT_TIMEOUT_S = 3.0
REQUEST_TIMEOUT_S = 5.0
# Kopf's pauses between tries of one request; after them the error ends the watch if it is not about the connection.
KOPF_RETRIES_S = (0.5, 1.0, 2.0)
STOP_TIMEOUT_S = 10.0
SAME_LINE_EVERY_S = 60.0
# aiohttp's TLS connections end a moment after it has closed them; their loop must still run then.
TLS_CLOSE_S = 0.25
assert sum(KOPF_RETRIES_S) < INACTIVITY_S  # or no error of Kopf would ever be told


class WatchEndedError(Exception):
    """Kopf ended, and nobody told it to: the message says why."""


@dataclass(frozen=True)
class Watched:
    """All objects of a kind that a label selector selects ("": all). The API server selects.

    with_managers: keeps metadata.managedFields, which are most of an object's bytes.
    """

    resource: Resource
    label_selector: str = ""
    with_managers: bool = False


@dataclass(frozen=True)
class _Entry:
    """An object as of this version; None: deleted in this version."""

    version: int
    object: Json | None


class Cache:
    """What exists of one kind, by lists and events that arrive late, twice, in any order, or not at all.

    Versions are the resourceVersions of objects and lists, which count the writes of the whole store: what is known of
    an object changes only to something newer. An event is not newer than a list that was made after it.
    """

    def __init__(self, *, with_managers: bool = False) -> None:
        self._with_managers = with_managers
        self._entries: dict[str, _Entry] = {}
        self._listed_version = 0

    def get(self, name: str) -> Json | None:
        """The object; not to be changed. It is without its managedFields, unless these are kept."""
        entry = self._entries.get(name)
        return entry.object if entry is not None else None

    def objects(self) -> dict[str, Json]:
        """All that exist, by name."""
        return {name: entry.object for name, entry in self._entries.items() if entry.object is not None}

    def event(self, event_type: str | None, found: Json) -> str | None:
        """One event of a watch; event_type: ADDED, MODIFIED, DELETED, or None for what was there when it began.

        Returns the object's name if what is known of it changed.
        """
        name, version = found["metadata"]["name"], _version(found)
        known = self._entries.get(name)
        if version <= (known.version if known is not None else self._listed_version):
            return None
        existed = known is not None and known.object is not None
        exists = event_type != "DELETED"
        self._entries[name] = _Entry(version, self._kept(found) if exists else None)
        return name if existed or exists else None

    def replace(self, found: Iterable[Json], resource_version: str) -> set[str]:
        """A full list. Returns the names of the objects of which something else is known now, gone ones too.

        Lists are given in the order in which they were asked for. One that is older than the one before it shows that
        the store was set back (etcd restored from a backup): then only the list counts.
        """
        listed_version = int(resource_version)
        before = self._entries
        self._entries = {each["metadata"]["name"]: _Entry(_version(each), self._kept(each)) for each in found}
        if listed_version >= self._listed_version:
            self._entries |= {name: entry for name, entry in before.items() if entry.version > listed_version}
        self._listed_version = listed_version
        return {name for name in before.keys() | self._entries.keys() if _differs(before.get(name), self.get(name))}

    def _kept(self, found: Mapping[str, Any]) -> Json:
        if self._with_managers:
            return dict(found)
        return {**found, "metadata": {k: value for k, value in found["metadata"].items() if k != "managedFields"}}


def _version(found: Json) -> int:
    return int(found["metadata"]["resourceVersion"])


def _differs(before: _Entry | None, after: Json | None) -> bool:
    known = before.object if before is not None else None
    if known is None or after is None:
        return known is not after
    return bool(known["metadata"]["resourceVersion"] != after["metadata"]["resourceVersion"])


class Watching:
    """Keeps what exists of several kinds in one namespace.

    changed: called in the event loop with the key of each object of which something else is known than before.
    configured: how Kopf logs in, asked again when the API server refuses its token.
    """

    def __init__(
        self,
        client: Client,
        configured: Callable[[], Configuration],
        namespace: str,
        watched: Sequence[Watched],
        changed: Callable[[Key], None],
        *,
        list_every_s: float = LIST_EVERY_S,
        inactivity_s: float = INACTIVITY_S,
    ) -> None:
        self._client = client
        self._configured = configured
        self._namespace = namespace
        self._watched = {each.resource: each for each in watched}
        self._changed = changed
        self._list_every_s = list_every_s
        self._inactivity_s = inactivity_s
        self._caches = {resource: Cache(with_managers=each.with_managers) for resource, each in self._watched.items()}
        self._listed = {resource: asyncio.Event() for resource in self._watched}
        self._problems: dict[Resource, str] = {}
        self._listed_at = metrics.gauge(
            "betting_operator_listed_timestamp_seconds",
            "When all objects of a kind were listed last (before the first list: when watching began), Unix time",
            ("resource",),
        )

    async def run(self) -> None:
        """Until it is cancelled. What does not work is logged and tried again."""
        for each in self._watched:
            self._listed_at.labels(each.plural).set_to_current_time()
        lists = (
            forever(
                partial(self._list, each),
                every_s=self._list_every_s,
                retry_s=RETRY_FIRST_S,
                retry_max_s=RETRY_MAX_S,
                failures=(KubernetesError,),
                log=_log,
                event="objects not listed",
            )
            for each in self._watched.values()
        )
        watch = forever(
            self._watch,
            every_s=RETRY_FIRST_S,
            retry_s=RETRY_FIRST_S,
            retry_max_s=RETRY_MAX_S,
            failures=(WatchEndedError,),
            log=_log,
            event="watch ended",
        )
        async with asyncio.TaskGroup() as tasks:
            for work in (*lists, watch):
                tasks.create_task(work)

    async def listed(self) -> None:
        """Returns once every kind has been listed: before that, what is not there may exist."""
        for each in self._listed.values():
            await each.wait()

    def unlisted(self) -> dict[Resource, str]:
        """The kinds that have not been listed, with why that failed last."""
        return {
            resource: self._problems.get(resource, "no answer yet")
            for resource, listed in self._listed.items()
            if not listed.is_set()
        }

    def get(self, resource: Resource, name: str) -> Json | None:
        """An object, as far as it is known."""
        return self._caches[resource].get(name)

    def objects(self, resource: Resource) -> dict[str, Json]:
        """All objects of a kind, by name, as far as they are known."""
        return self._caches[resource].objects()

    async def _list(self, watched: Watched) -> None:
        resource = watched.resource
        try:
            found = await self._client.list(resource, self._namespace, watched.label_selector)
        except KubernetesError as error:
            self._problems[resource] = str(error)
            if isinstance(error, NotFoundError):  # the kind is not installed
                self._listed[resource].clear()
            raise
        for name in self._caches[resource].replace(found.objects, found.resource_version):
            self._changed(Key(resource.kind, name))
        self._listed[resource].set()
        self._listed_at.labels(resource.plural).set_to_current_time()

    async def _watch(self) -> None:
        await self.listed()  # Kopf leaves out, for good, what is not installed when it starts
        watch = KopfWatch(
            self._configured,
            self._namespace,
            list(self._watched.values()),
            self._event,
            inactivity_s=self._inactivity_s,
        )
        await watch.run()

    def _event(self, resource: Resource, event_type: str | None, found: Json) -> None:
        name = self._caches[resource].event(event_type, found)
        if name is not None:
            self._changed(Key(resource.kind, name))


OnEvent = Callable[[Resource, str | None, Json], None]


class KopfWatch:
    """One run of Kopf in a thread of its own. on_event: called in the event loop of `run`."""

    def __init__(
        self,
        configured: Callable[[], Configuration],
        namespace: str,
        watched: Sequence[Watched],
        on_event: OnEvent,
        *,
        inactivity_s: float = INACTIVITY_S,
    ) -> None:
        self._configured = configured
        self._namespace = namespace
        self._watched = watched
        self._on_event = on_event
        self._inactivity_s = inactivity_s

    async def run(self) -> None:
        """Until it is cancelled; Kopf has stopped when it returns. Raises WatchEndedError when Kopf ends by itself."""
        _route_kopf_logs()
        owner = asyncio.get_running_loop()
        ended: asyncio.Future[BaseException | None] = owner.create_future()
        stopping: list[Callable[[], object]] = []
        started = threading.Event()
        login_errors: list[Exception] = []

        def tell_end(error: BaseException | None) -> None:
            if not ended.done():
                ended.set_result(error)

        async def operate() -> None:
            stop, loop = asyncio.Event(), asyncio.get_running_loop()
            stopping.append(lambda: loop.call_soon_threadsafe(stop.set))
            started.set()

            async def login(**_: object) -> kopf.ConnectionInfo:
                try:
                    return _connection(self._configured())
                except Exception as error:  # Kopf would wait for credentials for good
                    login_errors.append(error)
                    stop.set()
                    raise

            await kopf.operator(
                registry=self._registry(owner, login),
                settings=self._settings(),
                namespaces=[self._namespace],
                standalone=True,
                stop_flag=stop,
                memo=kopf.Memo(),
            )
            await asyncio.sleep(TLS_CLOSE_S)

        def in_thread() -> None:
            error: BaseException | None = None
            try:
                asyncio.run(operate())
            except BaseException as raised:
                error = next(iter(login_errors), raised)
            with contextlib.suppress(RuntimeError):  # the owner's loop is closed: nobody waits
                owner.call_soon_threadsafe(tell_end, error)

        thread = threading.Thread(target=in_thread, name="kopf", daemon=True)
        thread.start()
        try:
            error = await asyncio.shield(ended)
        except asyncio.CancelledError:
            started.wait(STOP_TIMEOUT_S)
            for stop in stopping:
                with contextlib.suppress(RuntimeError):  # its loop has just ended
                    stop()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await ended
            raise
        raise WatchEndedError(f"Kopf ended: {error!r}") from error

    def _registry(
        self, owner: asyncio.AbstractEventLoop, login: Callable[..., Awaitable[kopf.ConnectionInfo]]
    ) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry, errors=kopf.ErrorsMode.PERMANENT)(login)
        for each in self._watched:
            group, _, version = each.resource.api_version.rpartition("/")
            handler = self._handler(owner, each.resource)
            plural = each.resource.plural
            kopf.on.event(group=group, version=version, plural=plural, registry=registry, id=plural)(handler)
        return registry

    def _handler(self, owner: asyncio.AbstractEventLoop, resource: Resource) -> Callable[..., Awaitable[None]]:
        async def handle(event: kopf.RawEvent, **_: object) -> None:
            found: Any = event["object"]
            with contextlib.suppress(RuntimeError):  # the owner's loop is closed
                owner.call_soon_threadsafe(self._on_event, resource, event["type"], found)

        return handle

    def _settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        settings.scanning.disabled = True
        settings.process.ultimate_exiting_timeout = None
        settings.queueing.exit_timeout = 0.5
        settings.watching.server_timeout = WATCH_S
        settings.watching.client_timeout = WATCH_S + 2 * INACTIVITY_S
        settings.watching.inactivity_timeout = self._inactivity_s
        settings.watching.connect_timeout = CONNECT_TIMEOUT_S
        settings.networking.connect_timeout = CONNECT_TIMEOUT_S
        settings.networking.request_timeout = REQUEST_TIMEOUT_S
        settings.networking.error_backoffs = KOPF_RETRIES_S
        for each in self._watched:
            if each.label_selector:
                settings.watching.label_selectors[_selects(each.resource)] = each.label_selector
        return settings


def _selects(resource: Resource) -> Callable[[kopf.Resource], bool]:
    group, _, version = resource.api_version.rpartition("/")
    return lambda other: (other.group, other.version, other.plural) == (group, version, resource.plural)


def _connection(configured: Configuration) -> kopf.ConnectionInfo:
    header = configured.get_api_key_with_prefix("BearerToken", alias="authorization") or ""
    return kopf.ConnectionInfo(
        server=configured.host,
        ca_path=configured.ssl_ca_cert,
        insecure=not configured.verify_ssl,
        token=header.rpartition(" ")[2] or None,
        certificate_path=configured.cert_file,
        private_key_path=configured.key_file,
    )


class _KopfLines(logging.Handler):
    """Kopf's warnings and errors as lines of ours; those of the same place in its source once a minute."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._logged_s: dict[tuple[str, int], float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        place, now_s = (record.name, record.lineno), time.monotonic()
        if "OS signals are ignored" in record.getMessage():  # rightly: signals are the main loop's
            return
        if now_s - self._logged_s.get(place, float("-inf")) >= SAME_LINE_EVERY_S:
            self._logged_s[place] = now_s
            _log.warning("kopf warns", line=record.getMessage())


def _route_kopf_logs() -> None:
    logger = logging.getLogger("kopf")
    if not any(isinstance(each, _KopfLines) for each in logger.handlers):
        logger.addHandler(_KopfLines())
        logger.setLevel(logging.WARNING)
        logger.propagate = False
