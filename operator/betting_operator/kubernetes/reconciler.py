"""Makes the platform as its resource describes it: looks, plans, applies, reports. The thin shell around `reconcile`.

Level-triggered: whatever happened, it compares what is there with what should be. Nothing is written while nothing
has changed: an object is applied again only when the manifest differs from the one applied last, or the object itself
from what it was after that.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any

from betting.runtime import logs
from betting_operator.kubernetes import databases, schema, status
from betting_operator.kubernetes.client import AwayError, Client, ConflictError, KubernetesError, NotFoundError
from betting_operator.kubernetes.facts import FactsReader, FactsUnknown
from betting_operator.kubernetes.installation import Database
from betting_operator.kubernetes.kinds import Resource
from betting_operator.kubernetes.manifests import Manifest, digest
from betting_operator.kubernetes.reconcile import (
    KINDS,
    Facts,
    Key,
    Observed,
    Plan,
    is_ours,
    key_of,
    own_secrets,
    plan,
)
from betting_operator.kubernetes.spec import Image, Platform, parse, referenced_secrets

PLATFORMS = Resource(schema.API_VERSION, schema.KIND, schema.PLURAL)
SECRETS = KINDS["Secret"]
EVENTS = Resource("v1", "Event", "events")
# Status is written at most this often, but for a change of Ready.
STATUS_EVERY_S = 5.0
PASSWORD_BYTES = 32
_BEFORE_PASSWORDS_ARE_USED = ("NetworkPolicy", "Secret", "Service")
# A write that is refused is tried again after 2 s, 4 s, 8 s ... 30 s.
RETRY_MAX_S = 30.0
_RETRY_DOUBLINGS = 5
# The API server answers in milliseconds. A write that fails after so long was waiting for somebody else: an admission
# webhook, as a rule. Their rules name kinds: the next object of the same kind would wait as long.
SLOW_S = 1.0
# One round waits for so many of these; what else there is to write waits for the next round.
SLOW_KINDS_MAX = 2

_log = logs.get(__name__)

# What to do, and with which object: "apply", "scale" or "delete".
Write = tuple[str, Key]
# Told what runs, as soon as it is known and before anything is written: the platform, None while there is none, and its
# objects with the Secrets that its spec names.
Heal = Callable[[Platform | None, Mapping[Key, Manifest]], status.Healer]


@dataclass
class Applied:
    """What was applied last to one object: the hash of the manifest, and of the object as it was after that."""

    manifest: str
    result: str


@dataclass(frozen=True)
class Refusal:
    """A write that failed.

    wanted, live: hashes of what was to be written and of the object then, "" for none. times: how often in succession.
    took_s: how long the last one took; at_s: when it failed, by the monotonic clock.
    """

    wanted: str
    live: str
    problem: str
    times: int
    took_s: float
    at_s: float

    def is_about(self, wanted: str, live: str) -> bool:
        """Whether nothing has changed since: another manifest, or another object, is tried at once."""
        return (self.wanted, self.live) == (wanted, live)

    def is_due(self, now_s: float) -> bool:
        """Whether it is time to try again."""
        return now_s - self.at_s >= min(RETRY_MAX_S, 2.0 ** min(self.times, _RETRY_DOUBLINGS))


@dataclass
class _Round:
    """The writes of one round. problems: why something was not written, a line each. slow: the kinds whose writes
    failed after a long time. left: how many writes wait for the next round because of these."""

    problems: list[str] = field(default_factory=list)
    slow: set[str] = field(default_factory=set)
    left: int = 0


def _no_healer(_platform: Platform | None, _objects: Mapping[Key, Manifest]) -> status.Healer:
    return status.Healer()


@dataclass
class Reconciler:
    """Of one namespace. own_image: the operator's, which platforms run unless they name another. now_s: a monotonic
    clock."""

    client: Client
    namespace: str
    own_image: Image
    facts: FactsReader = field(default_factory=FactsReader)
    # Of an external database whose address is not in use (yet).
    offered: FactsReader = field(default_factory=FactsReader)
    heal: Heal = _no_healer
    now_s: Callable[[], float] = time.monotonic
    _applied: dict[Key, Applied] = field(default_factory=dict)
    _refusals: dict[Write, Refusal] = field(default_factory=dict)
    # As the API server answered, until the watch has seen it.
    _written: dict[Key, Manifest] = field(default_factory=dict)
    _status_at_s: float = float("-inf")

    async def reconcile(self, resources: list[Manifest], objects: Mapping[Key, Manifest]) -> None:
        """One round. resources: the BettingPlatforms of the namespace. objects: those with our labels.

        Healing is off while its database is another platform's. Raises KubernetesError when the API server is away or
        refuses what must work.
        """
        alive = [each for each in resources if not each["metadata"].get("deletionTimestamp")]
        alive.sort(key=lambda each: (each["metadata"]["creationTimestamp"], each["metadata"]["name"]))
        if not alive:
            self.heal(None, {})
            return
        await self._one(alive[0], dict(objects))
        for other in alive[1:]:
            await self._refuse(other, alive[0]["metadata"]["name"])

    async def close(self) -> None:
        """Closes its connections to databases."""
        await self.facts.close()
        await self.offered.close()

    async def _one(self, resource: Manifest, objects: dict[Key, Manifest]) -> None:
        platform = parse(resource, self.own_image)
        objects = await self._known(platform, objects)
        referenced = await self._referenced(platform)
        before = _newer(resource, self._written.get(Key(schema.KIND, platform.name))).get("status") or {}
        observed = await self._observed(platform, objects, referenced, status.recorded_installation(before))
        off = replace(platform, healing=replace(platform.healing, enabled=False))
        secrets_named = {Key("Secret", name): each for name, each in referenced.items()}
        healer = self.heal(off if observed.is_on_another_database else platform, {**objects, **secrets_named})
        planned = plan(platform, observed, lambda: secrets.token_hex(PASSWORD_BYTES))
        problems = [] if platform.paused else await self._carry_out(platform, planned, objects)
        observed = replace(observed, objects=objects)
        await self._report(resource, platform, observed, planned, problems, healer)

    async def _known(self, platform: Platform, seen: dict[Key, Manifest]) -> dict[Key, Manifest]:
        """What exists of a platform: what the watch has seen, and what it should have seen, which is asked for.

        A watch tells late, or not at all for half a minute, and never of an object that lost its labels. A plan made
        without a Secret that exists would have another password in it; without a Deployment, another number of pods.
        """
        objects = {}
        for key, each in seen.items():
            if not _of(platform, each):
                continue
            objects[key] = found = _newer(each, self._written.get(key))
            if found is each:
                self._written.pop(key, None)
        ours = {key for key, each in self._written.items() if key.kind in KINDS and is_ours(platform, each)}
        for key in sorted((ours | own_secrets(platform)) - objects.keys()):
            try:
                objects[key] = await self.client.get(KINDS[key.kind], self.namespace, key.name)
            except NotFoundError:
                self._written.pop(key, None)
        return objects

    async def _referenced(self, platform: Platform) -> dict[str, Manifest]:
        found = {}
        for name in {key.name for key in referenced_secrets(platform)}:
            try:
                found[name] = await self.client.get(SECRETS, self.namespace, name)
            except NotFoundError:
                continue
        return found

    async def _observed(
        self, platform: Platform, objects: dict[Key, Manifest], referenced: dict[str, Manifest], recorded: str
    ) -> Observed:
        found = {**{key.name: each for key, each in objects.items() if key.kind == "Secret"}, **referenced}
        dsn, given = databases.dsn_in_use(platform, found), databases.given_dsn(platform, found)
        facts, in_use = await _asked(self.facts, dsn)
        if facts is not None and platform.image.reference != self.own_image.reference:
            facts = replace(facts, refusal="")  # the operator's release is not the platform's
        offered = None
        if given != dsn and given:
            _, offered = await _asked(self.offered, given)
        else:
            await self.offered.close()
        return Observed(objects, referenced, facts, in_use.problem, recorded, in_use, offered)

    async def _carry_out(self, platform: Platform, planned: Plan, objects: dict[Key, Manifest]) -> list[str]:
        """Applies, scales and deletes; why something could not be, a line each.

        What one object is refused for does not stop the others; but nothing is made with a password that is not stored.
        """
        done = _Round()
        writes = {("apply", key_of(each)) for each in planned.apply}
        writes |= {("scale", key) for key in planned.scale} | {("delete", key) for key in planned.delete}
        self._refusals = {write: each for write, each in self._refusals.items() if write in writes}
        passwords = [each for each in planned.apply if each["kind"] == "Secret"]
        for manifest in sorted(planned.apply, key=self._turn):
            key, wanted = key_of(manifest), digest(manifest)
            if key.kind not in _BEFORE_PASSWORDS_ARE_USED and not all(_is_stored(each, objects) for each in passwords):
                continue
            live = objects.get(key)
            if live is not None and self._applied.get(key) == Applied(wanted, fingerprint(live)):
                self._refusals.pop(("apply", key), None)
                continue
            if live is None and key.kind == "Secret":
                wanted = digest(manifest | {"data": None})  # its passwords are made anew each time until it is stored
            write = partial(self._apply, platform, manifest, objects)
            await self._try(done, ("apply", key), wanted, live, write)
        if not all(_is_stored(each, objects) for each in passwords):
            return _said(done)
        for key, replicas in planned.scale.items():
            write = partial(self._scale, key, replicas, objects[key])
            await self._try(done, ("scale", key), str(replicas), objects[key], write)
        for key in planned.delete:
            await self._try(done, ("delete", key), "", objects[key], partial(self._delete, key, objects))
        return _said(done)

    def _turn(self, manifest: Manifest) -> tuple[bool, float]:
        """Kinds whose writes were slow to fail come last, and in them what was refused: others get their turn."""
        key = key_of(manifest)
        slow = any(write[1].kind == key.kind and each.took_s >= SLOW_S for write, each in self._refusals.items())
        refusal = self._refusals.get(("apply", key))
        return slow, (refusal.at_s if slow and refusal is not None else float("-inf"))

    async def _try(
        self, done: _Round, write: Write, wanted: str, live: Manifest | None, send: Callable[[], Awaitable[None]]
    ) -> None:
        """Writes, unless this was refused a moment ago or the round has waited enough. See `_problem`."""
        _verb, key = write
        found = "" if live is None else fingerprint(live)
        refusal = self._refusals.get(write)
        if refusal is not None and not refusal.is_about(wanted, found):
            refusal = None
        began_s = self.now_s()
        if refusal is not None and not refusal.is_due(began_s):
            done.problems.append(refusal.problem)
            return
        if key.kind in done.slow or len(done.slow) >= SLOW_KINDS_MAX:
            if refusal is not None:
                done.problems.append(refusal.problem)
            else:
                done.left += 1
            return
        try:
            await send()
        except _Foreign as foreign:
            done.problems.append(str(foreign))
        except KubernetesError as error:
            now_s = self.now_s()
            problem = await self._problem(key, error)
            times = 1 if refusal is None else refusal.times + 1
            self._refusals[write] = Refusal(wanted, found, problem, times, now_s - began_s, now_s)
            done.problems.append(problem)
            if now_s - began_s >= SLOW_S:
                done.slow.add(key.kind)
        else:
            self._refusals.pop(write, None)

    async def _problem(self, key: Key, error: KubernetesError) -> str:
        """Why this object could not be written. Raises the error itself when the API server answers nothing now.

        Status 500 is about the object: an admission webhook that is away, or a part that is not of the object's schema.
        A write that is not answered may wait for a webhook that hangs, while everything else is answered.
        """
        if not isinstance(error, AwayError) or error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            return f"{key.kind} {key.name}: {error}"
        try:
            await self.client.get(KINDS[key.kind], self.namespace, key.name)
        except AwayError:
            raise error from None
        except KubernetesError:
            pass  # an answer
        return f"{key.kind} {key.name}: the API server answers, but not to this (an admission webhook hangs?): {error}"

    async def _apply(self, platform: Platform, manifest: Manifest, objects: dict[Key, Manifest]) -> None:
        key = key_of(manifest)
        live, unseen = objects.get(key), None
        if live is None:
            with contextlib.suppress(NotFoundError):
                unseen = await self.client.get(KINDS[key.kind], self.namespace, key.name)
        if (found := live or unseen) is not None and not is_ours(platform, found):
            raise _Foreign(f"{key.kind} {key.name} exists and belongs to somebody else: rename or remove it")
        if unseen is not None:
            self._written[key] = unseen  # the manifest was made without knowing of it: the next round has it
            return
        if live is not None and live["metadata"].get("deletionTimestamp"):
            return  # on its way out: made anew when it is gone
        result = await self.client.apply(KINDS[key.kind], self.namespace, manifest, force=live is not None)
        if live is None or fingerprint(live) != fingerprint(result):
            _log.info("object applied", kind=key.kind, name=key.name, new=live is None)
        result = {"apiVersion": manifest["apiVersion"], "kind": key.kind} | result
        objects[key] = self._written[key] = result
        self._applied[key] = Applied(digest(manifest), fingerprint(result))

    async def _scale(self, key: Key, replicas: int, live: Manifest) -> None:
        changes = {"metadata": {"uid": live["metadata"]["uid"]}, "spec": {"replicas": replicas}}
        await self.client.patch(KINDS[key.kind], self.namespace, key.name, changes)
        _log.info("object scaled", kind=key.kind, name=key.name, replicas=replicas)

    async def _delete(self, key: Key, objects: dict[Key, Manifest]) -> None:
        # Gone, or already another one: the next round sees which.
        with contextlib.suppress(NotFoundError, ConflictError):
            await self.client.delete(KINDS[key.kind], self.namespace, key.name, uid=objects[key]["metadata"]["uid"])
            _log.info("object deleted", kind=key.kind, name=key.name)
        del objects[key]

    async def _report(
        self,
        resource: Manifest,
        platform: Platform,
        observed: Observed,
        planned: Plan,
        problems: list[str],
        healer: status.Healer,
    ) -> None:
        key = Key(schema.KIND, platform.name)
        before = _newer(resource, self._written.get(key)).get("status") or {}
        after = status.status(platform, observed, planned, problems, before, _now(), healer)
        if not status.changed(before, after):
            return
        changes = status.transitions(before, after)
        now_s = self.now_s()
        if not changes and now_s - self._status_at_s < STATUS_EVERY_S:
            return
        self._status_at_s = now_s
        written = {**dict.fromkeys(before.keys() - after.keys()), **after}
        if after.get("database") == before.get("database"):
            written.pop("database", None)  # a person may have removed it meanwhile, to accept another database
        self._written[key] = await self.client.patch_status(PLATFORMS, self.namespace, platform.name, written)
        for each in changes:
            _log.info("condition changed", **vars(each))
            try:
                await self._event(resource, each)
            except KubernetesError as error:  # the status says the same
                _log.warning("event not written", problem=str(error), **vars(each))
                if isinstance(error, AwayError):
                    return  # the next one would wait as long

    async def _refuse(self, resource: Manifest, owned: str) -> None:
        before = resource.get("status") or {}
        message = f"this operator owns {owned}: put another platform into a namespace with an operator of its own"
        after = status.refused(before, "AnotherPlatform", message, _now(), resource["metadata"].get("generation", 1))
        if status.changed(before, after):
            await self.client.patch_status(PLATFORMS, self.namespace, resource["metadata"]["name"], after)

    async def _event(self, resource: Manifest, condition: status.Condition) -> None:
        """One event for each condition and reason, counted: its name says which."""
        metadata = resource["metadata"]
        name = f"{metadata['name']}.{digest([metadata['uid'], condition.type, condition.status, condition.reason])}"
        now = _now()
        kind = "Normal" if condition.status == "True" else "Warning"
        message = f"{condition.type} is {condition.status}" + (f": {condition.message}" if condition.message else "")
        try:
            found = await self.client.get(EVENTS, self.namespace, name)
            changes = {"count": found.get("count", 1) + 1, "lastTimestamp": now, "message": message[:1000]}
            await self.client.patch(EVENTS, self.namespace, name, changes)
        except NotFoundError:
            event: dict[str, Any] = {
                "metadata": {"name": name, "namespace": self.namespace},
                "involvedObject": {
                    "apiVersion": schema.API_VERSION,
                    "kind": schema.KIND,
                    "name": metadata["name"],
                    "namespace": self.namespace,
                    "uid": metadata["uid"],
                },
                "reason": condition.reason,
                "message": message[:1000],
                "type": kind,
                "count": 1,
                "firstTimestamp": now,
                "lastTimestamp": now,
                "source": {"component": "betting-operator"},
            }
            await self.client.create(EVENTS, self.namespace, event)


async def _asked(reader: FactsReader, dsn: str) -> tuple[Facts | None, Database]:
    """What a database says, and which one it is."""
    if not dsn:
        return None, Database(None, "its address is not known yet")
    try:
        facts = await reader.read(dsn)
    except FactsUnknown as unknown:
        return None, Database("" if unknown.answers else None, str(unknown))
    return facts, Database(facts.installation)


def _is_stored(secret: Manifest, objects: Mapping[Key, Manifest]) -> bool:
    """Whether every value of a Secret is in the live one: pods that are made now, and later, read the same."""
    live = objects.get(key_of(secret))
    return live is not None and secret["data"].items() <= (live.get("data") or {}).items()


def _said(done: _Round) -> list[str]:
    left = [f"{done.left} more writes wait for the next round"] if done.left else []
    return done.problems + left


class _Foreign(Exception):
    """An object of the wanted name is somebody else's."""


def fingerprint(found: Manifest) -> str:
    """A hash of what an object is, without what changes by itself: its status, versions, and who wrote which field."""
    metadata = found["metadata"]
    kept = {name: value for name, value in found.items() if name not in ("metadata", "status", "apiVersion", "kind")}
    kept["metadata"] = {name: metadata.get(name) for name in ("uid", "labels", "annotations", "ownerReferences")}
    return digest(kept)


def _newer(seen: Manifest, written: Manifest | None) -> Manifest:
    """What is known of an object: what the watch has seen may be older than the answer to our own write."""
    if written is None or written["metadata"]["uid"] != seen["metadata"]["uid"]:
        return seen
    return max(seen, written, key=lambda each: int(each["metadata"]["resourceVersion"]))


def _of(platform: Platform, found: Manifest) -> bool:
    labels = found["metadata"].get("labels") or {}
    return bool(labels.get("app.kubernetes.io/instance") == platform.name)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
