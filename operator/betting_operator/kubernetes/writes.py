"""Writes the objects of a plan: what has changed and nothing else. What is refused is tried again later, with patience.

Nothing is written while nothing has changed: an object is applied again only when the manifest differs from the one
applied last, or the object itself from what it was after that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus

from betting.runtime import logs
from betting_operator.kubernetes.client import AwayError, Client, ConflictError, KubernetesError, NotFoundError
from betting_operator.kubernetes.manifests import Manifest, digest
from betting_operator.kubernetes.reconcile import KINDS, Key, Plan, is_ours, key_of
from betting_operator.kubernetes.spec import Platform

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


@dataclass
class Writer:
    """Of one namespace. now_s: a monotonic clock.

    written: objects as the API server answered, until the caller, whose watch has seen them, removes them.
    """

    client: Client
    namespace: str
    now_s: Callable[[], float]
    written: dict[Key, Manifest]
    _applied: dict[Key, Applied] = field(default_factory=dict)
    _refusals: dict[Write, Refusal] = field(default_factory=dict)

    async def carry_out(self, platform: Platform, planned: Plan, objects: dict[Key, Manifest]) -> list[str]:
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
            self.written[key] = unseen  # the manifest was made without knowing of it: the next round has it
            return
        if live is not None and live["metadata"].get("deletionTimestamp"):
            return  # on its way out: made anew when it is gone
        result = await self.client.apply(KINDS[key.kind], self.namespace, manifest, force=live is not None)
        if live is None or fingerprint(live) != fingerprint(result):
            _log.info("object applied", kind=key.kind, name=key.name, new=live is None)
        result = {"apiVersion": manifest["apiVersion"], "kind": key.kind} | result
        objects[key] = self.written[key] = result
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
