"""Writes what the healer did to the API server: HealingActions and Events. Best effort: the healer never waits for it.

One write after the other, in the order in which things happened, each repeated until the API server has taken or
refused it. Nobody can keep two healers from writing at once, since no request of Kubernetes is about two objects: so
the Lease is read before each write, objects name the term of their healer, and what they say happened in any case.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from betting.life import Life
from betting.runtime import logs, metrics
from betting.runtime.clock import now_us
from betting.runtime.loops import FailureLog, woken_within
from betting_operator.healer.history import Entry, Number, Outcome, Repaired
from betting_operator.kubernetes import events, healing_actions
from betting_operator.kubernetes.client import (
    Client,
    ConflictError,
    ForbiddenError,
    InvalidError,
    Json,
    KubernetesError,
    NotFoundError,
)
from betting_operator.kubernetes.elector import LEASE, LEASES
from betting_operator.kubernetes.events import Event
from betting_operator.kubernetes.healing_actions import HEALING_ACTIONS, NO_ACTION
from betting_operator.kubernetes.kinds import PLATFORMS, PODS
from betting_operator.kubernetes.workloads import OPERATOR

# More than a lost zone makes; each waits while the API server is away, the oldest are left out.
QUEUED_MAX = 512
RETRY_MIN_S = 0.5
RETRY_MAX_S = 10.0
# What lasts until a person does something: a right, or the definition, that is missing.
REFUSED_RETRY_S = 30.0
# How often it is looked what has become too old, while nothing is written.
LOOK_EVERY_S = 3_600.0

_log = logs.get(__name__)


class _NotOurs(Exception):
    """Another operator leads, or the platform is gone: what is in the queue is for nobody."""


class ActionWriter:
    """Of one healer. client: its own, so that requests which hang delay nothing else. life: the healer's.

    Its instance is the pod of the operator, which the Lease names.
    """

    def __init__(self, client: Client, namespace: str, platform: str, life: Life) -> None:
        self._client = client
        self._namespace = namespace
        self._platform = platform
        self._life = life
        self._queue: deque[Entry | Repaired] = deque(maxlen=QUEUED_MAX)
        self._news = asyncio.Event()
        self._kept: dict[str, Json] | None = None  # by name: the metadata of what is there; None: not listed yet
        self._listed_s = float("-inf")
        self._failures = FailureLog(_log, "healing actions not written")
        self._left_out = metrics.counter(
            "betting_healer_actions_left_out_total", "HealingActions that were never written to the API server"
        )

    def name_of(self, number: Number) -> str:
        """The name of the object of an entry."""
        return healing_actions.name_of(self._platform, number.wall_us, number.place)

    def happened(self, what: Entry | Repaired) -> None:
        """Queues it; returns at once."""
        if len(self._queue) == QUEUED_MAX:
            self._left_out.inc()
        self._queue.append(what)
        self._news.set()

    async def run(self) -> None:
        """Writes what is queued, for the life of the process."""
        retry_s = RETRY_MIN_S
        while True:
            try:
                await self._write_all()
                await self._prune()
            except (ForbiddenError, NotFoundError) as error:  # a namespace that is being deleted forbids, too
                self._failures.failed(
                    error, waiting=len(self._queue), hint="Role and CustomResourceDefinitions of the chart"
                )
                await asyncio.sleep(REFUSED_RETRY_S)
                continue
            except KubernetesError as error:
                self._failures.failed(error, waiting=len(self._queue))
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, RETRY_MAX_S)
                continue
            except _NotOurs as reason:
                _log.warning("healing actions left out", why=str(reason), left_out=len(self._queue))
                self._left_out.inc(len(self._queue))
                self._queue.clear()
            except Exception as error:  # whatever is wrong with what people are told, the healer goes on
                self._leave_out(error)
            else:
                self._failures.worked()
            retry_s = RETRY_MIN_S
            if not self._queue:
                self._news.clear()
                await woken_within(self._news, LOOK_EVERY_S)

    async def close(self) -> None:
        """Closes its connections to the API server."""
        await self._client.close()

    def _leave_out(self, error: Exception) -> None:
        _log.warning("healing action left out", problem=str(error), error=type(error).__name__)
        self._left_out.inc()
        if self._queue:
            self._queue.popleft()

    async def _write_all(self) -> None:
        while self._queue:
            what = self._queue[0]
            try:
                platform = await self._owned_platform()
                if isinstance(what, Entry):
                    await self._write_entry(platform, what)
                else:
                    await self._write_repaired(platform, what)
            except InvalidError as error:  # it would be refused again for ever
                self._leave_out(error)
                continue
            if self._queue and self._queue[0] is what:
                self._queue.popleft()

    async def _owned_platform(self) -> Json:
        """The platform as it is now, if this healer is the one of its operator. Raises _NotOurs."""
        try:
            holder = (await self._client.get(LEASES, self._namespace, LEASE))["spec"].get("holderIdentity") or ""
        except NotFoundError:
            holder = ""  # a healer without an operator
        if holder and _instance_of(holder) != self._life.instance:
            raise _NotOurs(f"{holder} leads")
        try:
            return await self._client.get(PLATFORMS, self._namespace, self._platform)
        except NotFoundError:
            raise _NotOurs(f"BettingPlatform {self._platform} is gone") from None

    async def _write_entry(self, platform: Json, entry: Entry) -> None:
        name = self.name_of(entry.number)
        spec, status = _fields(entry, self._life)
        try:
            made = await self._client.create(
                HEALING_ACTIONS, self._namespace, healing_actions.manifest(platform, name, spec, status)
            )
        except ConflictError:  # by a request of ours that seemed lost
            made = await self._client.get(HEALING_ACTIONS, self._namespace, name)
        if self._kept is not None:
            self._kept[name] = made["metadata"]
        await self._write_event(platform, _event_of(entry, name))
        if entry.target.instance:
            try:
                pod = await self._client.get(PODS, self._namespace, entry.target.instance)
            except NotFoundError:
                return  # it is gone, and whoever looks for it with it
            await self._write_event(pod, _event_of(entry, name))

    async def _write_repaired(self, platform: Json, what: Repaired) -> None:
        changes = healing_actions.repaired(what.ended_us, what.took_ms)
        for number in what.entries:
            try:
                await self._client.patch(HEALING_ACTIONS, self._namespace, self.name_of(number), changes)
            except NotFoundError:
                continue  # it was left out, or is too old by now
        took = healing_actions.duration(what.took_ms * 1_000)
        message = f"{what.diagnosis} {what.about} is over after {took}"
        occasion = self.name_of(what.entries[0])
        await self._write_event(platform, Event("Normal", "Repaired", message, ("Repaired", what.diagnosis), occasion))

    async def _write_event(self, about: Json, event: Event) -> None:
        try:
            await events.write(self._client, self._namespace, about, event)
        except (ForbiddenError, InvalidError, ConflictError, NotFoundError) as error:  # the object says the same
            _log.warning("event not written", problem=str(error), reason=event.reason)

    async def _prune(self) -> None:
        """Deletes what is too old or too much. Lists everything at first, and again once an hour."""
        if self._kept is None or time.monotonic() - self._listed_s >= LOOK_EVERY_S:
            listed = await self._client.list(HEALING_ACTIONS, self._namespace, healing_actions.selector(self._platform))
            self._kept = {each["metadata"]["name"]: each["metadata"] for each in listed.objects}
            self._listed_s = time.monotonic()
        objects: Iterable[Json] = ({"metadata": each} for each in self._kept.values())
        expired = healing_actions.expired(objects, now_us())
        if expired:
            await self._owned_platform()
        for each in expired:
            name = each["metadata"]["name"]
            with suppress(NotFoundError, ConflictError):  # somebody else has deleted it
                await self._client.delete(HEALING_ACTIONS, self._namespace, name, uid=each["metadata"]["uid"])
            del self._kept[name]


def _instance_of(holder: str) -> str:
    """The pod of the operator that holds the Lease; "" for what no operator of ours wrote."""
    try:
        return Life.parse(OPERATOR, holder).instance
    except ValueError:
        return ""


def _fields(entry: Entry, healer: Life) -> tuple[Json, Json]:
    """spec and status of an object."""
    spec: Json = {
        "term": entry.term,
        "healer": str(healer),
        "diagnosis": entry.diagnosis.value if entry.diagnosis is not None else "",
        "about": entry.about,
        "certainty": entry.certainty.value if entry.certainty is not None else "",
        "evidence": list(entry.evidence),
        "evidenceSince": healing_actions.time_of(entry.evidence_us),
        "target": {
            "name": entry.target.name,
            "workload": entry.target.workload,
            "instance": entry.target.instance,
            "bootId": entry.target.boot_id,
            "shards": list(entry.target.shards),
        },
        "decision": {
            "action": entry.action or NO_ACTION,
            "description": entry.decision,
            "reason": entry.reason,
        },
    }
    status: Json = {
        "outcome": entry.outcome.value,
        "message": entry.message,
        "began": healing_actions.time_of(entry.began_us),
        "ended": healing_actions.time_of(entry.ended_us),
        "duration": healing_actions.duration(entry.ended_us - entry.began_us),
    }
    return spec, status


def _event_of(entry: Entry, name: str) -> Event:
    """Of the platform, and of the pod that it is about. The same action for the same diagnosis is counted."""
    diagnosis = entry.diagnosis or ""
    if entry.outcome is Outcome.DECLINED:
        kind, reason, message = "Warning", "HealingDeclined", f"{entry.decision}: {entry.reason}"
    elif entry.outcome is Outcome.FAILED:
        kind, reason, message = "Warning", f"{entry.action}Failed", f"{entry.decision}: {entry.message}"
    elif entry.action == "Alert":
        kind, reason, message = "Warning", "Alert", entry.message
    else:
        kind, reason, message = "Normal", entry.action, f"{entry.decision}: {entry.message}"
    about = f"{diagnosis}: " if diagnosis else ""
    return Event(kind, reason, f"{about}{message} ({name})", (reason, diagnosis), name)
