"""ShardRebalances: what there are, and the operator's loop that plans them, writes their status and proposes some.

The moves themselves are the healer's: it watches the same objects, and begins what a running one has. So everything
that matters is in the objects and in the directory of shards, and whoever starts anew goes on from there.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from betting.runtime import logs
from betting.runtime.loops import FailureLog, woken_within
from betting_operator.healing.policy import Policy, Rebalancing, in_force
from betting_operator.healing.signals import Rebalance
from betting_operator.kubernetes import crd_shard_rebalances, events, rebalance, schema
from betting_operator.kubernetes.client import (
    Client,
    ConflictError,
    Event,
    ForbiddenError,
    Json,
    KubernetesError,
    NotFoundError,
)
from betting_operator.kubernetes.elector import NotLeadingError
from betting_operator.kubernetes.kinds import Resource
from betting_operator.kubernetes.list_watch import ListWatch
from betting_operator.kubernetes.manifests import MANAGED_BY_LABEL, Manifest
from betting_operator.kubernetes.rebalance import Request, Seen, Step
from betting_operator.kubernetes.rebalance_directory import DirectoryReader, DirectoryUnknown
from betting_operator.kubernetes.rebalance_plan import Directory, Plan, plan, unsettled
from betting_operator.kubernetes.workloads import OPERATOR

REBALANCES = Resource(schema.API_VERSION, crd_shard_rebalances.KIND, crd_shard_rebalances.PLURAL)
# Without a list, an event or a new watch for so long it is not known what people want.
FRESH_FOR_S = 20.0
LOOK_S = 2.0
# Changes come in groups, our own writes among them.
GATHER_S = 0.2
# How far a rebalance is, is written at most this often; a change of its phase at once.
STATUS_EVERY_S = 5.0
# Skew is looked for this often, and proposed to people once it has been the same for so long.
SKEW_LOOK_S = 10.0
PROPOSED_AFTER_S = 30.0
# So many finished proposals of the operator are kept; those of people are theirs to delete.
OWN_KEPT = 10

_log = logs.get(__name__)


class Rebalances:
    """All ShardRebalances of a namespace, as far as they are known. changed: called after each change."""

    def __init__(self, client: Client, namespace: str, changed: Callable[[], None] = lambda: None) -> None:
        self._objects: dict[str, Json] = {}
        self._changed = changed
        self._watch = ListWatch(client, REBALANCES, namespace, "", listed=self._take_all, changed=self._take)

    async def run(self) -> None:
        """Until it is cancelled. What does not work is logged and tried again."""
        await self._watch.run()

    @property
    def is_known(self) -> bool:
        """Whether they have been listed at all."""
        return self._watch.heard_s > -math.inf

    def objects(self) -> list[Json]:
        """Those that are not being deleted."""
        return [each for each in self._objects.values() if not each["metadata"].get("deletionTimestamp")]

    def note(self, found: Json) -> None:
        """What the API server answered to a write: the watch tells of it later."""
        known = self._objects.get(found["metadata"]["name"])
        if known is None or _version(known) < _version(found):
            self._objects[found["metadata"]["name"]] = found

    def signal(self, platform: str) -> Rebalance | None:
        """What the healer of a platform has to know; None: it is not known now. Where the kind is not installed, as by
        a chart of before, there is nothing to know."""
        if time.monotonic() - self._watch.heard_s > FRESH_FOR_S:
            return Rebalance() if isinstance(self._watch.problem, NotFoundError) else None
        return rebalance.signal([rebalance.parse(each) for each in self.objects()], platform)

    def _take_all(self, objects: Sequence[Json]) -> None:
        self._objects = {each["metadata"]["name"]: each for each in objects}
        self._changed()

    def _take(self, event: Event) -> None:
        if event.type == "DELETED":
            self._objects.pop(event.object["metadata"]["name"], None)
        else:
            self.note(event.object)
        self._changed()


@dataclass(frozen=True)
class Told:
    """What the reconciler knows. platform: the one that the operator owns, None: none. uid: its object's. dsn: of its
    database, "" while it is not known. heals: whether its healer should run; policy: by what rules."""

    platform: str | None = None
    uid: str = ""
    dsn: str = ""
    heals: bool = True
    policy: Policy = field(default_factory=Policy)

    @property
    def needs_approval(self) -> bool:
        """Whether moves wait until a person has approved them."""
        return self.policy.rebalancing is Rebalancing.APPROVE


class Rebalancer:
    """Of one namespace. now_s: a monotonic clock."""

    def __init__(self, client: Client, namespace: str, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._namespace = namespace
        self._now_s = now_s
        self._wake = asyncio.Event()
        self.rebalances = Rebalances(client, namespace, self._wake.set)
        self._reader = DirectoryReader()
        self._told: Told | None = None
        self._written_s: dict[str, float] = {}
        self._skew_looked_s = -math.inf
        self._skew: tuple[str, float] = "", 0.0  # a plan that would be proposed, and since when it is the same

    @property
    def is_moving(self) -> bool:
        """Whether shards are being moved by a rebalance, or that is not known."""
        if not self.rebalances.is_known:
            return True
        return any(rebalance.parse(each).phase == rebalance.RUNNING for each in self.rebalances.objects())

    def told(self, found: Told) -> None:
        """Called by the reconciler after each of its looks."""
        self._told = found

    async def run(self) -> None:
        """For as long as this process leads."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.rebalances.run())
                group.create_task(self._loop())
        finally:
            await self._reader.close()

    async def round(self) -> None:
        """One look at all of them. Raises KubernetesError when the API server is away or refuses what must work."""
        if self._told is None or not self.rebalances.is_known:
            return
        told = self._told
        requests = [rebalance.parse(each) for each in self.rebalances.objects()]
        open_ = [each for each in requests if not each.is_finished]
        if not open_:
            if not (told.needs_approval and told.heals and told.dsn):
                await self._reader.close()
                return
            if self._now_s() - self._skew_looked_s < SKEW_LOOK_S:
                return
            self._skew_looked_s = self._now_s()
        seen = await self._look(told)
        earlier, giving_way = rebalance.accepted(requests, told.platform)
        for each in open_:
            others = {name for other in requests if other is not each for name in other.keeps_empty}
            own = replace(seen, earlier=earlier.get(each.name, ""), emptied=frozenset(others))
            taken = rebalance.given_way(each) if each in giving_way else rebalance.step(each, own)
            await self._write(each, taken, own)
        if told.needs_approval and told.platform and not open_ and seen.directory is not None:
            await self._propose(told, requests, seen.directory)
        await self._forget(requests)

    async def close(self) -> None:
        """Closes its connection to the database."""
        await self._reader.close()

    async def _loop(self) -> None:
        failures = FailureLog(_log, "rebalances not looked at")
        while True:
            self._wake.clear()
            try:
                await self.round()
                failures.worked()
            except (KubernetesError, NotLeadingError) as error:  # the elector ends the process where it lost the Lease
                failures.failed(error)
            except Exception as error:  # a fault of ours: the operator must not end with it
                failures.failed(error, exc_info=error)
            await woken_within(self._wake, LOOK_S)
            await asyncio.sleep(GATHER_S)

    async def _look(self, told: Told) -> Seen:
        seen = Seen(told.platform, told.needs_approval)
        if not told.heals:  # it may have the address of another platform's database
            return replace(seen, problem="healing is off for this platform: nothing is planned or moved")
        if not told.dsn:
            return replace(seen, problem="the address of the platform's database is not known yet")
        try:
            found = await self._reader.read(told.dsn)
        except DirectoryUnknown as unknown:
            return replace(seen, problem=str(unknown))
        switch = found.switch
        policy = in_force(told.policy, int(time.time()), paused=switch.paused, dry_run=switch.dry_run)
        return replace(seen, directory=found.directory, idle=_idle(policy))

    async def _write(self, request: Request, taken: Step, seen: Seen) -> None:
        """Of this version of the object: what somebody has changed meanwhile is looked at first, in the next round."""
        after = rebalance.status(request, taken, seen, _now())
        before = request.status
        if after == before:
            return
        is_new = any(after.get(name) != before.get(name) for name in ("phase", "plan", "observedGeneration"))
        is_new = is_new or _reasons(after) != _reasons(before)
        last_s = self._written_s.get(request.uid, -math.inf)
        if not is_new and self._now_s() - last_s < STATUS_EVERY_S:
            return
        written = {**dict.fromkeys(before.keys() - after.keys()), **after}
        with suppress(ConflictError, NotFoundError):
            answer = await self._client.patch_status(
                REBALANCES, self._namespace, request.name, written, resource_version=request.version
            )
            self.rebalances.note(answer)
            self._written_s[request.uid] = self._now_s()
            if after["phase"] != request.phase:
                await self._tell(answer, after)

    async def _tell(self, found: Json, now: Json) -> None:
        """An event for each phase that it comes to: `kubectl describe` shows what happened, and when."""
        phase, message = now["phase"], now["message"]
        _log.info("rebalance", name=found["metadata"]["name"], phase=phase, message=message)
        kind = "Warning" if phase in (rebalance.REFUSED, rebalance.SUPERSEDED) else "Normal"
        try:
            await events.write(self._client, self._namespace, found, events.Event(kind, phase, message, (phase,)))
        except KubernetesError as error:  # the status says the same
            _log.warning("event not written", problem=str(error))

    async def _propose(self, told: Told, requests: Sequence[Request], directory: Directory) -> None:
        """A rebalance for people to approve, once the same one has been needed for a while. One that a person has
        stopped is not proposed again."""
        emptied = {name for each in requests for name in each.keeps_empty}
        made = Plan(()) if unsettled(directory) else plan(directory, (), emptied)
        if not made.moves:
            self._skew = "", 0.0
            return
        if self._skew[0] != made.hash:
            self._skew = made.hash, self._now_s()
        if self._now_s() - self._skew[1] < PROPOSED_AFTER_S:
            return
        same = [each for each in requests if each.is_own and each.plan is not None and each.plan.hash == made.hash]
        if any(each.phase == rebalance.STOPPED for each in same):
            return
        with suppress(ConflictError):  # it is there already, and the watch has not told of it yet
            manifest = _proposal(told, self._namespace, made, len(same))
            self.rebalances.note(await self._client.create(REBALANCES, self._namespace, manifest))
            _log.info("rebalance proposed", name=manifest["metadata"]["name"], moves=len(made.moves))
        self._skew = "", 0.0

    async def _forget(self, requests: Sequence[Request]) -> None:
        finished = [each for each in requests if each.is_own and each.is_finished and not each.keeps_empty]
        for each in sorted(finished, key=lambda one: one.created)[:-OWN_KEPT]:
            with suppress(ConflictError, NotFoundError, ForbiddenError):
                await self._client.delete(REBALANCES, self._namespace, each.name, uid=each.uid)
        known = {each.uid for each in requests}
        self._written_s = {uid: at_s for uid, at_s in self._written_s.items() if uid in known}


def _idle(policy: Policy) -> str:
    """Why the healer makes no moves now, by the policy in force; "" when it makes them."""
    if policy.paused:
        return f"healing is paused ({policy.paused}): nothing is moved until it is resumed"
    if policy.dry_run:
        return "healing is in a dry run: nothing is moved until that is over"
    return policy.moves_held


def _proposal(told: Told, namespace: str, made: Plan, number: int) -> Manifest:
    """Its name says which plan it is, so that a leader that comes next proposes the same one and no other."""
    return {
        "metadata": {
            "name": f"{told.platform}-{made.hash}-{number}",
            "namespace": namespace,
            "labels": {MANAGED_BY_LABEL: OPERATOR},
            "ownerReferences": [
                {"apiVersion": schema.API_VERSION, "kind": schema.KIND, "name": told.platform, "uid": told.uid}
            ],
        },
        "spec": {"platform": told.platform, "reason": "shards are not balanced between bet-services"},
    }


def _reasons(status: Json) -> list[tuple[str, str, str]]:
    return [(each["type"], each["status"], each["reason"]) for each in status.get("conditions", ())]


def _version(found: Json) -> int:
    return int(found["metadata"]["resourceVersion"])


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
