"""What follows where starting a process again does not help: the steps that only some platforms can take.

| diagnosis      | steps, in this order                                       | then              |
| -------------- | ---------------------------------------------------------- | ----------------- |
| `crash-loop`   | move away to another node; roll back to what worked last   | a person is paged |
| `memory-short` | one more bet-service, as far as the policy goes            | a person is paged |

A crash loop of several instances of one workload is not the node's, and where instances of another template of it run
the new one is the likelier cause: there the roll-back comes first. Each step is taken once an hour for each slot (a
roll-back for each template of a workload) and given time to show whether it helps. A step is skipped where the platform
cannot take it or the policy does not allow it. With no step left everything is as without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from betting.life import Life
from betting_operator.healing.actions import MoveAway, RollBack, Scale
from betting_operator.healing.diagnoses import Diagnosis, Kind
from betting_operator.healing.gate import Gate
from betting_operator.healing.memory import Step
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import BET_SERVICE, Capability, Exit, Observation, Phase
from betting_operator.healing.slots import slot_of, slot_of_life, template_of

# One exit may be caused by the step itself: a roll-out replaces what runs.
EXITS_IN_VAIN = 2
# What was moved or rolled back runs within this time, or the step did not help.
RUNS_WITHIN_MS = 60_000
REMEMBERED_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Response:
    """What is done about one diagnosis now: an action, or why not now. page: whether a person is needed too."""

    action: MoveAway | RollBack | Scale | None
    reason: str = ""
    page: bool = False


Responses = Mapping[Diagnosis, Response]


def respond(
    found: Sequence[Diagnosis],
    steps: Sequence[Step],
    exits: Sequence[Exit],
    seen: Observation,
    policy: Policy,
    gate: Gate,
) -> Responses:
    """The response to each confirmed diagnosis that has a step left. exits: those that nobody caused."""
    if seen.processes is None:
        return {}  # what runs where is not known
    looped = [each for each in found if each.kind is Kind.CRASH_LOOP and each.confirmed]
    loops = [each for each in looped if not _is_gone(each.life, seen)]
    gone = Response(None, "its version does not run any more")
    responses: dict[Diagnosis, Response] = {each: gone for each in looped if each not in loops}
    on_bad_nodes = {each.life.instance for each in found if each.kind is Kind.BAD_NODE and each.life is not None}
    for each in loops:
        if each.life is not None and each.life.instance in on_bad_nodes:
            responses[each] = Response(None, "its node is bad: it is moved away")
            continue
        several = sum(_workload(other) == _workload(each) for other in loops) > 1
        by_version = several or _is_of_one_template_of_two(each.life, seen)
        response = _of_crash_loop(each, steps, exits, seen, policy, gate, by_version=by_version)
        if response is not None:
            responses[each] = response
    short = [each for each in found if each.kind is Kind.MEMORY_SHORT and each.confirmed]
    for number, each in enumerate(short):
        response = _of_memory_short(each, steps, seen, policy, gate, is_first=not number)
        if response is not None:
            responses[each] = response
    if policy.dry_run:  # nothing is done, so a person is needed
        return {each: replace(response, page=True) for each, response in responses.items()}
    return responses


def remember(steps: Iterable[Step], responses: Responses, seen: Observation, policy: Policy) -> tuple[Step, ...]:
    """Those of the last hour, with what is begun now. In a dry run nothing is begun."""
    kept = [step for step in steps if seen.at_ms - step.at_ms < REMEMBERED_MS]
    actions = [] if policy.dry_run else [each.action for each in responses.values()]
    for action in actions:
        match action:
            case MoveAway(life=life):
                kept.append(Step(Capability.MOVE_AWAY, life.workload, slot_of_life(life), seen.at_ms))
            case RollBack(workload=workload, template=template):
                kept.append(Step(Capability.ROLL_BACK, workload, template or workload, seen.at_ms))
            case Scale(workload=workload):
                kept.append(Step(Capability.SCALE, workload, workload, seen.at_ms))
            case None:
                pass
    return tuple(kept)


def _of_crash_loop(
    each: Diagnosis,
    steps: Sequence[Step],
    exits: Sequence[Exit],
    seen: Observation,
    policy: Policy,
    gate: Gate,
    *,
    by_version: bool,
) -> Response | None:
    """by_version: it is likelier to be the version's than the node's."""
    if each.life is None:
        return None
    workload, slot, template = each.life.workload, slot_of_life(each.life), template_of(each.life.instance)
    of_which = {Capability.MOVE_AWAY: slot, Capability.ROLL_BACK: template or workload}
    taken = [step for step in steps if step.workload == workload and step.slot == of_which.get(step.capability)]
    if taken and not _in_vain(taken[-1], workload, slot, exits, seen):
        return Response(None, f"{_past(taken[-1], seen.at_ms)}: waiting for whether that helps")
    order = (Capability.MOVE_AWAY, Capability.ROLL_BACK)
    for capability in reversed(order) if by_version else order:
        if capability not in seen.capabilities or capability in {step.capability for step in taken}:
            continue
        if capability is Capability.ROLL_BACK:
            if policy.roll_back:
                return _roll_back(workload, template, gate)
        else:
            return _move_away(_present(each.life, seen), gate)
    return None


def _move_away(life: Life, gate: Gate) -> Response:
    reason = gate.why_not(life)
    if reason:
        return Response(None, reason, page=not gate.rest(life.workload))
    gate.begun(life)
    return Response(MoveAway(life))


def _roll_back(workload: str, template: str, gate: Gate) -> Response:
    reason = gate.paused or gate.spent(workload)
    if reason:
        return Response(None, reason, page=True)
    rest = gate.rest(workload)
    if rest:
        return Response(None, rest)
    gate.workload_begun(workload, workload)
    return Response(RollBack(workload, template))


def _of_memory_short(
    each: Diagnosis, steps: Sequence[Step], seen: Observation, policy: Policy, gate: Gate, *, is_first: bool
) -> Response | None:
    """Of several that are short at once the first is answered: the new instance takes shards of all of them."""
    if each.life is None or each.life.workload != BET_SERVICE or Capability.SCALE not in seen.capabilities:
        return None
    last_ms = max((step.at_ms for step in steps if step.capability is Capability.SCALE), default=None)
    if last_ms is not None and seen.at_ms - last_ms < policy.window_ms:
        return Response(None, f"scaled out {seen.at_ms - last_ms} ms ago: waiting for whether that helps")
    replicas = sum(p.workload == BET_SERVICE and p.phase is not Phase.STOPPING for p in seen.processes or ()) + 1
    if replicas > policy.replicas_max:
        return None
    if gate.paused:
        return Response(None, gate.paused, page=True)
    return Response(Scale(BET_SERVICE, replicas)) if is_first else Response(None, "one more bet-service is started now")


def _is_gone(life: Life | None, seen: Observation) -> bool:
    """Whether it was of a template that no pod has any more."""
    template = template_of(life.instance) if life is not None else ""
    return bool(template) and all(template_of(p.instance) != template for p in seen.processes or ())


def _is_of_one_template_of_two(life: Life | None, seen: Observation) -> bool:
    """Whether a roll-out is under way, and what it replaces runs."""
    own = template_of(life.instance) if life is not None else ""
    running = (p for p in seen.processes or () if life is not None and p.workload == life.workload)
    others = {template_of(p.instance) for p in running if p.phase is Phase.RUNNING} - {"", own}
    return bool(own and others)


def _in_vain(step: Step, workload: str, slot: str, exits: Iterable[Exit], seen: Observation) -> bool:
    """Whether it is clear that the step did not help this slot."""
    since = sum(
        each.at_ms > step.at_ms and (each.life.workload, slot_of_life(each.life)) == (workload, slot) for each in exits
    )
    places = [p for p in seen.processes or () if (p.workload, slot_of(p.workload, p.instance)) == (workload, slot)]
    runs = all(place.phase is Phase.RUNNING for place in places)
    return since >= EXITS_IN_VAIN or (not runs and seen.at_ms - step.at_ms >= RUNS_WITHIN_MS)


def _present(ended: Life, seen: Observation) -> Life:
    """The life of the same instance that runs now; where none runs the one that ended last."""
    lives = (p.life for p in seen.processes or () if p.instance == ended.instance and p.workload == ended.workload)
    return next((life for life in lives if life is not None), ended)


def _workload(each: Diagnosis) -> str:
    return each.life.workload if each.life is not None else each.target


def _past(step: Step, at_ms: int) -> str:
    done = "moved away" if step.capability is Capability.MOVE_AWAY else "rolled back"
    return f"{done} {at_ms - step.at_ms} ms ago"
