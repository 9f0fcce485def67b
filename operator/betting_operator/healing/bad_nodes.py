"""Nodes on which several services fail while the same services are well elsewhere.

One failure of each is a restart of the node; what fails everywhere is the service's own; what fails on one node again
and again, whichever service it is, is the node's. Its instances are moved away, shards first; the node is not touched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from betting.life import Life
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.nodes import Nodes
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Answer, Capability, Exit, Observation, Phase, Process

# A service fails on a node when so many of its lives have failed there.
FAILURES_MIN = 2
# A node is bad when so many services fail on it.
SERVICES_MIN = 2
# Far more than what a bad node causes before it is known for one.
FAILURES_MAX = 200
_ANSWERED = (Answer.SERVING, Answer.NOT_SERVING)


@dataclass(frozen=True, slots=True)
class Failure:
    """One life that ended by itself, or hung, and where ("": with its node, which was lost). how: for people."""

    node: str
    life: Life
    at_ms: int
    how: str


def watch(
    before: Sequence[Failure],
    exits: Iterable[Exit],
    found: Iterable[Diagnosis],
    nodes: Nodes,
    seen: Observation,
    policy: Policy,
) -> tuple[Failure, ...]:
    """Those of the window, each life once. exits: that nobody caused; found: in this look, who hangs among them."""
    where = {process.instance: process.node for process in seen.processes or () if process.node}
    known = {each.life: each for each in before if seen.at_ms - each.at_ms < policy.window_ms}
    for each in exits:
        node = where.get(each.life.instance)
        if node and seen.at_ms - each.at_ms < policy.window_ms:
            known.setdefault(each.life, Failure(node, each.life, each.at_ms, each.how))
    for diagnosis in found:
        life = diagnosis.life
        if diagnosis.kind is not Kind.PROCESS_HUNG or not diagnosis.confirmed or life is None:
            continue
        node = where.get(life.instance)
        if node in nodes.lost_names:  # which has a diagnosis of its own; that the life has ended is told later
            known.setdefault(life, Failure("", life, seen.at_ms, "its node was lost"))
        elif node:
            known.setdefault(life, Failure(node, life, seen.at_ms, "hung"))
    return tuple(known.values())[-FAILURES_MAX:]


def diagnose(failures: Sequence[Failure], seen: Observation) -> Iterator[Diagnosis]:
    """The bad nodes; and, where the platform can move them, the instances that fail there, one diagnosis each."""
    for node, services in sorted(_bad(failures, seen).items()):
        count = sum(services.values())
        text = f"{count} failures of {', '.join(sorted(services))} on {node}, none of them elsewhere"
        yield Diagnosis(Kind.BAD_NODE, node, Certainty.CONFIRMED, (text,))
        if Capability.MOVE_AWAY not in seen.capabilities:
            continue
        for process in seen.processes or ():
            last = _last_failure(process, failures)
            if process.node == node and process.phase is not Phase.STOPPING and process.workload in services:
                life = process.life or (last.life if last is not None else None)
                if life is not None:
                    yield Diagnosis(Kind.BAD_NODE, process.instance, Certainty.CONFIRMED, (text,), life)


def _bad(failures: Sequence[Failure], seen: Observation) -> dict[str, Counter[str]]:
    """By bad node, how often each service has failed on it that has not failed, and is well, on another."""
    nodes_of: dict[str, set[str]] = {}
    failures = [each for each in failures if each.node]
    for each in failures:
        nodes_of.setdefault(each.life.workload, set()).add(each.node)
    found: dict[str, Counter[str]] = {}
    for each in failures:
        if nodes_of[each.life.workload] == {each.node} and _is_well_elsewhere(each.life.workload, each.node, seen):
            found.setdefault(each.node, Counter())[each.life.workload] += 1
    services = {
        node: Counter({workload: count for workload, count in counts.items() if count >= FAILURES_MIN})
        for node, counts in found.items()
    }
    return {node: counts for node, counts in services.items() if len(counts) >= SERVICES_MIN}


def _is_well_elsewhere(workload: str, node: str, seen: Observation) -> bool:
    well = {probe.life for probe in seen.probes if probe.answer in _ANSWERED and not probe.silent_ms}
    return any(
        process.workload == workload
        and process.node not in ("", node)
        and process.phase is Phase.RUNNING
        and process.life in well
        for process in seen.processes or ()
    )


def _last_failure(process: Process, failures: Sequence[Failure]) -> Failure | None:
    own = (each for each in reversed(failures) if each.life.instance == process.instance)
    return next(own, None)
