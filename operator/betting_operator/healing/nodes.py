"""Nodes of which everything is silent at once while others are well: a lost node is one fault, and it is that node's.

Without nodes, so many silent processes would be a shared cause, and nobody could tell whose. A platform that runs on
one machine names no nodes: then there is nothing to conclude here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.evidence import (
    FRESH_SHARE,
    Evidence,
    answered_ms_ago,
    callers_silent_ms,
    counts_from,
    healer_silent_ms,
    missed_while_others_beat_ms,
    platform_silent_ms,
    probe_of,
)
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Answer, Observation, Owner, Phase, Process

# One silent process on a node is that process.
SILENT_MIN = 2
_ANSWERED = (Answer.SERVING, Answer.NOT_SERVING)


@dataclass(frozen=True, slots=True)
class LostNode:
    """A node of which two vantage points say that nothing on it can be reached. why: what they say, for people."""

    node: str
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Nodes:
    """silent: nothing that the healer asks on them answers, while as many others have something that does; lost: those
    of them of which a second vantage point says the same, for as long as nothing on them answers again. unclear_at_ms:
    when more were silent than well last, None: never.
    """

    silent: tuple[str, ...] = ()
    lost: tuple[LostNode, ...] = ()
    unclear_at_ms: int | None = None

    @property
    def lost_names(self) -> frozenset[str]:
        """The names of the lost ones."""
        return frozenset(each.node for each in self.lost)


def watch(before: Nodes, evidence: Evidence, seen: Observation, policy: Policy) -> Nodes:
    """The nodes after this look. With more silent than well ones it is the healer, or what it and they share; and for a
    while afterwards those that answer again last prove nothing by that.
    """
    asked = _asked(seen)
    well = _with_an_answer(asked, seen)
    known = {each.node: each for each in before.lost}
    silent = [
        node
        for node, found in sorted(asked.items())
        if node not in well and (len(found) >= SILENT_MIN or node in known)
    ]
    if not silent:
        return Nodes(unclear_at_ms=before.unclear_at_ms)
    if len(silent) > len(well):
        lasted = sum(_silent_ms(asked[node], evidence, seen) >= policy.silent_after_ms // 2 for node in silent)
        return Nodes(unclear_at_ms=seen.at_ms if lasted > len(well) else before.unclear_at_ms)
    unclear_ms = before.unclear_at_ms
    if unclear_ms is not None and seen.at_ms - unclear_ms < policy.silent_after_ms:
        return Nodes(unclear_at_ms=unclear_ms)
    lost = []
    for node in silent:
        others = f"{len(well)} other nodes answer"
        why = _why_lost(asked[node], _owners_on(node, seen), evidence, seen, policy)
        if node in known or why:
            lost.append(known.get(node) or LostNode(node, (*why, others)))
    return Nodes(tuple(silent), tuple(lost), unclear_ms)


def diagnose(nodes: Nodes) -> Iterator[Diagnosis]:
    """The lost ones."""
    for each in nodes.lost:
        yield Diagnosis(Kind.NODE_LOST, each.node, Certainty.CONFIRMED, each.why)


def _asked(seen: Observation) -> dict[str, list[Process]]:
    """Processes that run and are asked, by node: by the healer, or by the platform for a life that is not known."""
    found: dict[str, list[Process]] = {}
    for process in seen.processes or ():
        if process.node and process.phase is Phase.RUNNING and (probe_of(seen, process) or process.silent_ms):
            found.setdefault(process.node, []).append(process)
    return found


def _with_an_answer(asked: Mapping[str, Sequence[Process]], seen: Observation) -> frozenset[str]:
    """Nodes that something answers on: a service the latest probe, or Redis the latest ping."""
    answers = {probe.life for probe in seen.probes if probe.answer in _ANSWERED}
    well = {node for node, found in asked.items() if any(process.life in answers for process in found)}
    redis = {node.name for node in (seen.redis.nodes if seen.redis is not None else ()) if node.answers}
    well |= {process.node for process in seen.processes or () if process.node and process.instance in redis}
    return frozenset(well)


def _owners_on(node: str, seen: Observation) -> list[Owner]:
    there = {process.instance for process in seen.processes or () if process.node == node}
    return [owner for owner in seen.owners or () if not owner.exited and owner.life.instance in there]


def _silent_ms(found: Sequence[Process], evidence: Evidence, seen: Observation) -> int:
    """For how long all of these have been silent to the healer."""
    return min(
        max(healer_silent_ms(evidence, seen, process), platform_silent_ms(evidence, process, seen.at_ms))
        for process in found
    )


def _why_lost(
    found: Sequence[Process], owners: Sequence[Owner], evidence: Evidence, seen: Observation, policy: Policy
) -> tuple[str, ...]:
    """What two vantage points say; () while they do not, or one contradicts."""
    limit = policy.silent_after_ms
    silent_ms = min(_silent_ms(found, evidence, seen), seen.at_ms - (counts_from(evidence, Kind.NODE_LOST) or 0))
    answered_ms = [ms for process in found if (ms := answered_ms_ago(seen, process)) is not None]
    if silent_ms < limit or any(owner.beat_age_ms < limit for owner in owners):
        return ()
    if any(ms < limit * FRESH_SHARE for ms in answered_ms):
        return ()
    probes = f"all {len(found)} processes on it silent to the healer for {silent_ms} ms"
    missed_ms = min((missed_while_others_beat_ms(evidence, owner, seen.at_ms) for owner in owners), default=0)
    if missed_ms >= limit:
        return (probes, f"no heartbeat of a bet-service there for {missed_ms} ms, those of others arrive")
    waited_ms = max(callers_silent_ms(evidence, seen, process) for process in found)
    if waited_ms >= limit:
        return (probes, f"callers elsewhere without an answer for {waited_ms} ms")
    return ()
