"""A ShardRebalance, purely: what it asks for, its plan, and its next status. The shell around it is `rebalancing`.

| phase              | what it means                                                                                |
| ------------------ | -------------------------------------------------------------------------------------------- |
| `Proposed`         | no plan yet: the message says what it waits for                                              |
| `AwaitingApproval` | a plan, made anew when shards or bet-services change; `spec.approval` has to name its hash   |
| `Running`          | the healer makes the moves; shards that are elsewhere by now stay there                      |
| `Done`             | every shard is where the plan wanted it; pods of `spec.drain` are given none                 |
| `Stopped`          | by `spec.stop`; shards that were not moved are where they were                               |
| `Superseded`       | bet-services or shards have changed: what is left of the plan cannot be carried out          |
| `Refused`          | it cannot be done as it says; nothing was done                                               |

The last four are ends. The state is all here and in the directory: an operator or a healer that starts anew goes on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from betting_operator.healing.signals import Move, Rebalance
from betting_operator.kubernetes.manifests import MANAGED_BY_LABEL, Manifest
from betting_operator.kubernetes.rebalance_plan import Directory, Place, Plan, named, plan, unsettled
from betting_operator.kubernetes.workloads import OPERATOR

PROPOSED, AWAITING, RUNNING = "Proposed", "AwaitingApproval", "Running"
STOPPED, DONE, REFUSED, SUPERSEDED = "Stopped", "Done", "Refused", "Superseded"
FINISHED = (STOPPED, DONE, REFUSED, SUPERSEDED)

Status = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """One ShardRebalance. version: its resourceVersion. is_own: the operator has proposed it. status: as it was written
    last."""

    name: str
    uid: str
    version: str
    created: str
    generation: int
    is_own: bool
    platform: str
    drain: tuple[str, ...]
    approval: str
    stop: bool
    status: Status

    @property
    def phase(self) -> str:
        """ "" for a new one."""
        return str(self.status.get("phase", ""))

    @property
    def is_finished(self) -> bool:
        """Whether nothing more is done about it."""
        return self.phase in FINISHED

    @property
    def plan(self) -> Plan | None:
        """The plan in its status."""
        found = self.status.get("plan")
        if not found:
            return None
        cost = found.get("cost", {})
        moves = tuple(Move(each["shard"], each["from"], each["to"]) for each in found["moves"])
        return Plan(moves, cost.get("bytes", 0), cost.get("pauseMilliseconds", 0), cost.get("seconds", 0))

    @property
    def keeps_empty(self) -> tuple[str, ...]:
        """Pods that are given no shards because of it."""
        return self.drain if self.phase in (RUNNING, DONE) and not self.stop else ()


@dataclass(frozen=True)
class Seen:
    """What a step rests on. platform: the one that the operator owns, None: none.

    needs_approval: by the policy. idle: why the healer moves nothing now, "": it does. directory None: problem says why
    it is not known. earlier: another one that is not finished. emptied: pods that others keep empty.
    """

    platform: str | None
    needs_approval: bool = False
    idle: str = ""
    directory: Directory | None = None
    problem: str = ""
    earlier: str = ""
    emptied: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Step:
    """What comes of one look. reason: of the end, or of what it waits for, one word. done: moves that are made."""

    phase: str
    reason: str
    message: str
    plan: Plan | None = None
    done: int = 0


def parse(found: Manifest) -> Request:
    """A ShardRebalance as the API server has it, which has filled in the defaults."""
    metadata, spec = found["metadata"], found["spec"]
    return Request(
        name=metadata["name"],
        uid=metadata["uid"],
        version=metadata["resourceVersion"],
        created=metadata["creationTimestamp"],
        generation=metadata.get("generation", 1),
        is_own=(metadata.get("labels") or {}).get(MANAGED_BY_LABEL) == OPERATOR,
        platform=spec["platform"],
        drain=tuple(sorted(spec.get("drain", ()))),
        approval=spec.get("approval", ""),
        stop=spec.get("stop", False),
        status=found.get("status") or {},
    )


def signal(requests: Iterable[Request], platform: str) -> Rebalance:
    """What the healer of a platform has to know of all that there are: the one that runs, and who is kept empty."""
    ours = sorted((each for each in requests if each.platform == platform), key=_age)
    running = next((each for each in ours if each.phase == RUNNING and not each.stop and each.plan is not None), None)
    emptied = tuple(sorted({name for each in ours for name in each.keeps_empty}))
    if running is None or running.plan is None:
        return Rebalance(emptied=emptied)
    return Rebalance(running.name, running.plan.moves, emptied)


def accepted(requests: Iterable[Request], platform: str | None) -> tuple[dict[str, str], list[Request]]:
    """For each that is new and comes while another is not finished, that other's name; and proposals of the operator
    that give way to a person's.

    One that was accepted stays so, whatever is made later with an earlier date or name.
    """
    open_ = sorted((each for each in requests if not each.is_finished and each.platform == platform), key=_age)
    first = next((each for each in open_ if each.phase), None)
    earlier: dict[str, str] = {}
    giving_way = []
    for each in open_:
        if each.phase:
            continue
        if first is not None and first.is_own and not each.is_own and first.phase != RUNNING:
            giving_way.append(first)
            first = None
        if first is None:
            first = each
        else:
            earlier[each.name] = first.name
    return earlier, giving_way


def step(request: Request, seen: Seen) -> Step:
    """The next step of one that is not finished."""
    done = request.status.get("done", 0)
    if request.platform != seen.platform:
        owned = f"the operator here owns {seen.platform}" if seen.platform else "the operator here owns none"
        phase = REFUSED if request.plan is None else SUPERSEDED
        return Step(phase, "NoSuchPlatform", f"there is no platform {request.platform}: {owned}", request.plan, done)
    if seen.earlier:
        message = f"{seen.earlier} is not finished: one at a time, wait for it or stop it, then make another one"
        return Step(REFUSED, "AnotherRebalance", message)
    if request.stop and request.phase != RUNNING:
        return Step(STOPPED, "Stopped", "stopped before anything was moved", request.plan)
    if seen.directory is None:
        why = "it is being stopped, and " if request.stop else ""
        return Step(request.phase or PROPOSED, "DirectoryUnknown", f"{why}{seen.problem}", request.plan, done)
    if request.phase == RUNNING and request.plan is not None:
        return _running(request, request.plan, seen, seen.directory)
    return _proposed(request, seen, seen.directory)


def given_way(request: Request) -> Step:
    """A proposal of the operator while a person asks for something else."""
    return Step(SUPERSEDED, "AnotherRebalance", "a person asked for another rebalance", request.plan)


def status(request: Request, taken: Step, seen: Seen, now: str) -> Status:
    """The status after a step. now: the time as Kubernetes writes it."""
    before = request.status
    found: Status = {
        "observedGeneration": request.generation,
        "phase": taken.phase,
        "message": taken.message,
        "conditions": _dated(_conditions(request, taken, seen), before, now, request.generation),
    }
    if taken.plan is not None:
        found["plan"] = _plan_status(taken.plan)
        found["total"], found["done"] = len(taken.plan.moves), taken.done
    if started := before.get("startedAt") or (now if taken.phase == RUNNING else ""):
        found["startedAt"] = started
    if taken.phase in FINISHED:
        found["finishedAt"] = now
    return found


def _proposed(request: Request, seen: Seen, directory: Directory) -> Step:
    phase = request.phase or PROPOSED
    missing = [name for name in request.drain if name not in directory.present]
    if missing:
        if request.plan is None:
            known = ", ".join(sorted(directory.present)) or "none"
            message = f"there is no bet-service {_listed(missing)}: those that there are: {known}"
            return Step(REFUSED, "NoSuchPod", message)
        return Step(SUPERSEDED, "PodGone", f"{_listed(missing)} is gone", request.plan)
    emptied = {*request.drain, *seen.emptied}
    if request.drain and directory.present <= emptied:
        return Step(REFUSED, "NobodyLeft", "no bet-service would be left that could own the shards", request.plan)
    if why := unsettled(directory):
        return Step(phase, "Unsettled", f"the plan waits: {why}", request.plan)
    made = plan(directory, request.drain, seen.emptied)
    if not made.moves:
        message = "nothing to move: the shards are where they should be"
        return Step(SUPERSEDED if request.is_own else DONE, "NothingToMove", message, made)
    if request.plan is not None and request.plan.hash == made.hash:
        made = request.plan
    if request.approval and request.approval != made.hash:
        message = (
            f"approval is of plan {request.approval}, and the plan is {made.hash}: look at it, and approve that one"
        )
        return Step(AWAITING, "PlanHasChanged", message, made)
    if seen.needs_approval and not request.approval:
        message = f"{_sum(made)}: to approve it, set spec.approval to {made.hash}"
        return Step(AWAITING, "AwaitingApproval", message, made)
    return Step(RUNNING, "Idle" if seen.idle else "Running", seen.idle or _sum(made), made)


def _running(request: Request, made: Plan, seen: Seen, directory: Directory) -> Step:
    places = [(move, directory.shards.get(move.shard, Place(None, None, "free"))) for move in made.moves]
    done = sum(place.owner == move.to for move, place in places)
    total = len(made.moves)
    moved = f"{done} of {total} shards moved"
    if done == total:
        return Step(DONE, "Done", moved, made, done)
    if request.stop:
        begun = [move.shard for move, place in places if _is_begun(move, place)]
        if begun:
            return Step(RUNNING, "Stopping", f"{moved}; waiting for {named(begun)}, begun before", made, done)
        return Step(STOPPED, "Stopped", f"{moved}; no others will be", made, done)
    if any(_is_pending(move, place, directory.present) for move, place in places):
        idle = f"{seen.idle}; {moved}" if seen.idle else moved
        return Step(RUNNING, "Idle" if seen.idle else "Running", idle, made, done)
    left = [move.shard for move, place in places if place.owner != move.to]
    if request.drain and not any(place.owner in request.drain for place in directory.shards.values()):
        return Step(DONE, "Done", f"{moved}, {named(left)} went elsewhere meanwhile", made, done)
    message = f"{moved}; {named(left)} cannot be: the bet-services have changed since, or the shard is stopped"
    return Step(SUPERSEDED, "Changed", message, made, done)


def _is_begun(move: Move, place: Place) -> bool:
    """Whether its hand-over is under way."""
    return place.state in ("owned", "free") and place.to == move.to and place.owner in (None, move.origin)


def _is_pending(move: Move, place: Place, present: Collection[str]) -> bool:
    """Whether it may still be made: its shard is where the plan found it, or is just now with nobody."""
    if place.state not in ("owned", "free") or place.owner == move.to:
        return False
    return place.owner is None or (place.owner == move.origin and move.to in present)


def _conditions(request: Request, taken: Step, seen: Seen) -> list[tuple[str, str, str, str]]:
    """type, status, reason, message of each."""
    if taken.phase == REFUSED:
        is_accepted = ("Accepted", "False", taken.reason, taken.message)
    else:
        is_accepted = ("Accepted", "True", "Accepted", "")
    if taken.phase == AWAITING:
        approved = ("Approved", "False", taken.reason, taken.message)
    elif request.approval and taken.plan is not None and request.approval == taken.plan.hash:
        approved = ("Approved", "True", "Approved", "")
    elif taken.phase in (RUNNING, DONE) or (taken.phase == PROPOSED and not seen.needs_approval):
        approved = ("Approved", "True", "NotNeeded", "")
    else:
        approved = ("Approved", "Unknown", taken.reason, "")
    complete = "True" if taken.phase == DONE else "False"
    return [is_accepted, approved, ("Complete", complete, taken.reason, taken.message)]


def _dated(
    conditions: Iterable[tuple[str, str, str, str]], before: Status, now: str, generation: int
) -> list[dict[str, Any]]:
    known = {each["type"]: each for each in before.get("conditions", ())}
    found = []
    for kind, value, reason, message in conditions:
        last = known.get(kind)
        since = last["lastTransitionTime"] if last is not None and last["status"] == value else now
        found.append(
            {
                "type": kind,
                "status": value,
                "reason": reason,
                "message": message,
                "observedGeneration": generation,
                "lastTransitionTime": since,
            }
        )
    return found


def _plan_status(made: Plan) -> Status:
    return {
        "hash": made.hash,
        "moves": [{"shard": move.shard, "from": move.origin, "to": move.to} for move in made.moves],
        "cost": {
            "shards": len(made.moves),
            "bytes": made.size_bytes,
            "pauseMilliseconds": made.pause_ms,
            "seconds": made.duration_s,
        },
    }


def _sum(made: Plan) -> str:
    """What a plan is, in one line."""
    count, receivers = len(made.moves), len({move.to for move in made.moves})
    return (
        f"{count} shard{'s' if count > 1 else ''} to {receivers} pod{'s' if receivers > 1 else ''}, "
        f"about {made.duration_s} s, and {made.pause_ms} ms of waiting for bets on each"
    )


def _listed(names: Collection[str]) -> str:
    return ", ".join(names)


def _age(request: Request) -> tuple[str, str]:
    return request.created, request.name
