"""Makes the platform as its resource describes it: looks, plans, writes, reports. The thin shell around `reconcile`.

Level-triggered: whatever happened, it compares what is there with what should be.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from betting.runtime import logs
from betting_operator.kubernetes import controller_faults, databases, events, rollbacks, schema, status
from betting_operator.kubernetes.client import AwayError, Client, KubernetesError, NotFoundError
from betting_operator.kubernetes.events import EVENTS
from betting_operator.kubernetes.facts import FactsReader, FactsUnknown
from betting_operator.kubernetes.healing_report import Told
from betting_operator.kubernetes.installation import Database
from betting_operator.kubernetes.kinds import PLATFORMS
from betting_operator.kubernetes.manifests import INSTANCE_LABEL, Manifest
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
from betting_operator.kubernetes.writes import Writer

SECRETS = KINDS["Secret"]
# Status is written at most this often, but for a change of a condition's status, which is written at once.
STATUS_EVERY_S = 5.0
PASSWORD_BYTES = 32

_log = logs.get(__name__)

# Told what runs, as soon as it is known and before anything is written: the platform, None while there is none, and its
# objects with the Secrets that its spec names.
Heal = Callable[[Platform | None, Mapping[Key, Manifest]], status.Healer]


def _no_healer(_platform: Platform | None, _objects: Mapping[Key, Manifest]) -> status.Healer:
    return status.Healer()


def _resolved() -> str:
    return ""


@dataclass
class Reconciler:
    """Of one namespace. own_image: the operator's, which platforms run unless they name another. unresolved: why the
    cluster's DNS gives no addresses, "" while it does. now_s: a monotonic clock."""

    client: Client
    namespace: str
    own_image: Image
    facts: FactsReader = field(default_factory=FactsReader)
    # Of an external database whose address is not in use (yet).
    offered: FactsReader = field(default_factory=FactsReader)
    heal: Heal = _no_healer
    unresolved: Callable[[], str] = _resolved
    now_s: Callable[[], float] = time.monotonic
    # As the API server answered, until the watch has seen it.
    _written: dict[Key, Manifest] = field(default_factory=dict)
    _writer: Writer = field(init=False)
    _told: Told = field(default_factory=Told)
    _status_at_s: float = float("-inf")

    def __post_init__(self) -> None:
        self._writer = Writer(self.client, self.namespace, self.now_s, self._written)

    async def reconcile(self, resources: list[Manifest], objects: Mapping[Key, Manifest]) -> None:
        """One round. resources: the BettingPlatforms of the namespace. objects: those with our labels.

        Healing is off while its database is another platform's. Raises KubernetesError when the API server is away or
        refuses what must work.
        """
        alive = living(resources)
        if not alive:
            self.heal(None, {})
            return
        await self._one(alive[0], dict(objects))
        for other in alive[1:]:
            await self._refuse(other, alive[0]["metadata"]["name"])

    async def unlisted(self, resources: list[Manifest], problems: list[str]) -> None:
        """Says of the platform that there are no rounds, because what exists cannot be listed: problems say why.

        Raises KubernetesError when the status cannot be written either.
        """
        alive = living(resources)
        if not alive:
            return
        resource, key = alive[0], Key(schema.KIND, alive[0]["metadata"]["name"])
        before = _newer(resource, self._written.get(key)).get("status") or {}
        after = status.unlisted(before, problems, _now(), resource["metadata"].get("generation", 1))
        if not status.changed(before, after):
            return
        # Nothing else: a person may have removed what stays meanwhile, to accept another database.
        names = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
        written = {name: after.get(name) for name in names}
        if (answer := await self._write_status(resource, written)) is not None:
            self._written[key] = answer
            await self._write_events(resource, status.transitions(before, after))

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
        healer = self.heal(off if observed.must_not_heal else platform, {**objects, **secrets_named})
        planned = plan(platform, observed, lambda: secrets.token_hex(PASSWORD_BYTES))
        problems = [] if platform.paused else await self._writer.carry_out(platform, planned, objects)
        observed = replace(observed, objects=objects, refusals=await self._refusals(objects))
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
        replica_sets = await self._replica_sets(platform, objects)
        return Observed(
            *(objects, referenced, facts, in_use.problem, recorded, in_use, offered),
            replica_sets=replica_sets,
            unresolved=self.unresolved(),
        )

    async def _replica_sets(self, platform: Platform, objects: Mapping[Key, Manifest]) -> tuple[Manifest, ...]:
        """Those that have the templates of before, where a Deployment is to be rolled back to one."""
        deployments = [each for key, each in objects.items() if key.kind == "Deployment"]
        if not any(rollbacks.is_to_be_rolled_back(each) for each in deployments):
            return ()
        selector = f"{INSTANCE_LABEL}={platform.name}"
        return (await self.client.list(rollbacks.REPLICA_SETS, self.namespace, selector)).objects

    async def _refusals(self, objects: Mapping[Key, Manifest]) -> dict[Key, str]:
        """Why the Jobs and StatefulSets without a pod have none. Nothing is asked for where each has one."""
        found = {}
        for each in controller_faults.without_pods(objects):
            selector = f"involvedObject.uid={each['metadata']['uid']}"
            try:
                told = (await self.client.list(EVENTS, self.namespace, field_selector=selector)).objects
            except KubernetesError as error:
                found[key_of(each)] = f"its events cannot be read: {error}"
                continue
            if why := controller_faults.newest_refusal(told):
                found[key_of(each)] = why
        return found

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
        after |= self._told.fields(platform.uid, before, healer.report)
        if "drills" in before:
            after["drills"] = before["drills"]
        if not status.changed(before, after):
            return
        changes = status.transitions(before, after)
        now_s = self.now_s()
        if not changes and now_s - self._status_at_s < STATUS_EVERY_S:
            return
        written = {**dict.fromkeys(before.keys() - after.keys()), **after}
        if after.get("database") == before.get("database"):
            written.pop("database", None)  # a person may have removed it meanwhile, to accept another database
        written.pop("drills", None)  # they are written by themselves (`drilling`)
        if (answer := await self._write_status(resource, written)) is None:
            return
        self._status_at_s, self._written[key] = now_s, answer
        await self._write_events(resource, changes)

    async def _write_events(self, resource: Manifest, changes: list[status.Condition]) -> None:
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
            await self._write_status(resource, after)

    async def _write_status(self, resource: Manifest, written: Manifest) -> Manifest | None:
        """The resource as it is then. None, and nothing is written, when it was deleted and made anew meanwhile: what
        the old one recorded, its database above all, is nothing that the new one has accepted."""
        name = resource["metadata"]["name"]
        metadata = (await self.client.get(PLATFORMS, self.namespace, name))["metadata"]
        if metadata["uid"] != resource["metadata"]["uid"]:
            return None
        version = metadata["resourceVersion"]
        return await self.client.patch_status(PLATFORMS, self.namespace, name, written, resource_version=version)

    async def _event(self, resource: Manifest, condition: status.Condition) -> None:
        """One event for each condition and reason, counted."""
        kind = "Normal" if condition.status == "True" else "Warning"
        message = f"{condition.type} is {condition.status}" + (f": {condition.message}" if condition.message else "")
        same = (condition.type, condition.status, condition.reason)
        about = {"apiVersion": schema.API_VERSION, "kind": schema.KIND, **resource}
        await events.write(self.client, self.namespace, about, events.Event(kind, condition.reason, message, same))


async def _asked(reader: FactsReader, dsn: str) -> tuple[Facts | None, Database]:
    """What a database says, and which one it is."""
    if not dsn:
        return None, Database(None, "its address is not known yet")
    try:
        facts = await reader.read(dsn)
    except FactsUnknown as unknown:
        return None, Database("" if unknown.answers else None, str(unknown))
    return facts, Database(facts.installation, running=facts.running)


def living(resources: list[Manifest]) -> list[Manifest]:
    """Those that are not being deleted, the oldest first: that one is owned."""
    alive = [each for each in resources if not each["metadata"].get("deletionTimestamp")]
    return sorted(alive, key=lambda each: (each["metadata"]["creationTimestamp"], each["metadata"]["name"]))


def _newer(seen: Manifest, written: Manifest | None) -> Manifest:
    """What is known of an object: what the watch has seen may be older than the answer to our own write."""
    if written is None or written["metadata"]["uid"] != seen["metadata"]["uid"]:
        return seen
    return max(seen, written, key=lambda each: int(each["metadata"]["resourceVersion"]))


def _of(platform: Platform, found: Manifest) -> bool:
    labels = found["metadata"].get("labels") or {}
    return bool(labels.get(INSTANCE_LABEL) == platform.name)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
