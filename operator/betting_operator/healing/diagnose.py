"""From what was seen to what it means. Pure; every rule says which evidence it rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.evidence import (
    FRESH_SHARE,
    Evidence,
    answered_ms_ago,
    beat_silent_ms,
    callers_silent_ms,
    healer_silent_ms,
    missed_while_others_beat_ms,
    platform_silent_ms,
    probe_of,
)
from betting_operator.healing.nodes import LostNode, Nodes
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import BET_SERVICE, Database, Exit, Observation, Owner, Phase, Process
from betting_operator.healing.slots import is_replaced_by_name, template_of

SHARED_OF_SERVICE_MIN = 2
SHARED_OF_ALL_MIN = 3
# Whom a shared cause is about when it is not one service.
PLATFORM = "platform"
_SHARE = 1 / 3
# How long the heartbeat of an owner whose exit nobody saw must be missing: as where nobody heals.
GONE_AFTER_MS = 10_000


def died(
    seen: Observation, exits: Sequence[Exit], nodes: Nodes, evidence: Evidence, policy: Policy
) -> Iterable[Diagnosis]:
    """Whose exit was seen, and which owners are gone. exits: those of the window.

    Nobody sees the end of a pod whose node was lost, or that ended while nobody looked. Then two vantage points must
    agree, and a process that lives all the same is fenced: this kills nobody.
    """
    ended = {each.life: each for each in exits}
    for owner in seen.owners or ():
        if owner.exited:
            continue
        seen_end = (f"exit seen: {ended[owner.life].how}",) if owner.life in ended else ()
        why = seen_end or _gone(owner, seen, nodes, evidence, policy)
        if why:
            yield Diagnosis(Kind.OWNER_DIED, str(owner.life), Certainty.CONFIRMED, why, owner.life)
    for process in seen.processes or ():
        if process.phase is Phase.DOWN and process.workload != BET_SERVICE:
            yield Diagnosis(Kind.PROCESS_DIED, process.instance, Certainty.CONFIRMED, ("exit seen",))


def _gone(owner: Owner, seen: Observation, nodes: Nodes, evidence: Evidence, policy: Policy) -> tuple[str, ...]:
    """What says that an owner is there no more; () while anything may still be heard of it.

    Its heartbeat is missing for as long as others wait where nobody heals: its shards would have nobody for longer
    with a healer than without. And the platform no longer runs it, or probes of it are unanswered as long while
    heartbeats of others arrive: also where many are silent at once, such as those of a zone. What was being stopped on
    a node that is lost is asked by nobody any more, and who has never answered this healer has no known life that could
    hang: there the node's silence is the second vantage point.
    """
    missing_ms = beat_silent_ms(evidence, owner, seen.at_ms)
    if seen.processes is None or missing_ms is None:
        return ()
    process = next((process for process in seen.processes if process.instance == owner.life.instance), None)
    lost = process is not None and process.node in nodes.lost_names
    after_ms = policy.silent_after_ms if lost else GONE_AFTER_MS
    if min(missing_ms, seen.at_ms - evidence.since_ms) < after_ms:
        return ()
    beat = f"no heartbeat in Postgres for {missing_ms} ms"
    if process is None:
        return (f"the platform runs no {owner.life.instance}", beat)
    if process.phase in (Phase.DOWN, Phase.STOPPING):
        return (f"the platform says that it is {process.phase}", beat)
    if lost and process.life is None:
        return (f"node {process.node}, on which it is, is lost", beat)
    if process.life not in (None, owner.life):
        return (f"{process.instance} runs as {process.boot_id}", beat)
    probes_ms = max(healer_silent_ms(evidence, seen, process), platform_silent_ms(evidence, process, seen.at_ms))
    if min(probes_ms, missed_while_others_beat_ms(evidence, owner, seen.at_ms)) < max(
        GONE_AFTER_MS, policy.busy_after_ms
    ):
        return ()
    return (f"probes unanswered for {probes_ms} ms", f"{beat}, those of others arrive")


def hung(seen: Observation, nodes: Nodes, evidence: Evidence, policy: Policy) -> Iterable[Diagnosis]:
    """Processes that run without progress, and a shared cause where many are silent at once.

    What is silent with all of its node has its cause there: it counts for no shared cause, and is hung once the node
    is known to be lost.
    """
    everything = [process for process in seen.processes or () if process.phase is Phase.RUNNING]
    lost = {each.node: each for each in nodes.lost}
    for process in everything:
        if process.node in nodes.silent:
            yield from _on_silent_node(process, lost.get(process.node), seen, evidence, policy)
    running = [process for process in everything if process.node not in nodes.silent]
    found = [_silence(process, seen, evidence, policy) for process in running]
    suspects = [process for process, each in zip(running, found, strict=True) if each is not None]
    shared = _shared(running, suspects)
    for process, each in zip(running, found, strict=True):
        if each is None:
            continue
        if process.workload in shared:
            yield _cannot_tell(each, f"{shared[process.workload]} silent at once")
        else:
            yield _after_a_void(each, evidence, seen.at_ms, policy)
    if many_silent(len(running), len(suspects)):
        text = f"{len(suspects)} of {len(running)} processes silent at once"
        yield Diagnosis(Kind.SHARED_CAUSE, PLATFORM, Certainty.CONFIRMED, (text,))
    else:
        for service, text in sorted(shared.items()):
            yield Diagnosis(Kind.SHARED_CAUSE, service, Certainty.CONFIRMED, (f"{text} silent at once",))


def _on_silent_node(
    process: Process, lost: LostNode | None, seen: Observation, evidence: Evidence, policy: Policy
) -> Iterable[Diagnosis]:
    """What the silence of one process on such a node means. lost: None: it is not known whether the node is."""
    silent_ms = healer_silent_ms(evidence, seen, process)
    if lost is None or silent_ms < policy.silent_after_ms:
        each = _silence(process, seen, evidence, policy)
        if each is not None:
            yield _cannot_tell(each, f"everything that the healer asks on {process.node} is silent")
        return
    texts = (f"healer's probe unanswered for {silent_ms} ms", f"node {lost.node} is lost: {'; '.join(lost.why)}")
    yield Diagnosis(Kind.PROCESS_HUNG, process.instance, Certainty.CONFIRMED, texts, process.life)


def many_silent(running: int, silent: int) -> bool:
    """Whether so many are silent at once that none of it is theirs."""
    return silent >= SHARED_OF_ALL_MIN and silent > running * _SHARE


def _after_a_void(found: Diagnosis, evidence: Evidence, at_ms: int, policy: Policy) -> Diagnosis:
    """Silence of a time that everybody was silent in is none: a full window starts again."""
    many_ms = evidence.many_at_ms
    if not found.confirmed or many_ms is None or at_ms - many_ms >= policy.silent_after_ms:
        return found
    but = f"but many were silent at once {at_ms - many_ms} ms ago"
    return Diagnosis(found.kind, found.target, Certainty.SUSPECTED, (*found.evidence, but), found.life)


def _silence(process: Process, seen: Observation, evidence: Evidence, policy: Policy) -> Diagnosis | None:
    """What the vantage points say about one life; None: none of them reports silence."""
    life = process.life
    owner = None if life is None else seen.owner_of.get(life)
    limit = policy.silent_after_ms
    healer = healer_silent_ms(evidence, seen, process)
    probe = probe_of(seen, process)
    probed_limit = policy.busy_after_ms if probe is not None and probe.busy else limit
    platform = platform_silent_ms(evidence, process, seen.at_ms)
    beat = beat_silent_ms(evidence, owner, seen.at_ms) if owner is not None else None
    probes = [f"{name} unanswered for {ms} ms" for name, ms in _over(probed_limit, healer=healer, platform=platform)]
    beats = [f"no heartbeat in Postgres for {beat} ms"] if beat is not None and beat >= limit else []
    waited = callers_silent_ms(evidence, seen, process)
    callers = [f"callers without an answer for {waited} ms"] if waited >= limit else []
    silent = (*probes, *callers, *beats)
    if not probes and not callers:  # a missing heartbeat alone: its connection to Postgres
        return None
    found = Diagnosis(Kind.PROCESS_HUNG, process.instance, Certainty.SUSPECTED, silent, process.life)
    if beat is not None and not beats:
        return _cannot_tell(found, f"its last heartbeat was {beat} ms ago")
    answered = answered_ms_ago(seen, process)
    if answered is not None and answered < limit * FRESH_SHARE:
        return _cannot_tell(found, f"it answered a caller {answered} ms ago")
    if not probes and _is_overloaded(process, evidence, seen.at_ms, limit):
        return _cannot_tell(found, "it is overloaded and makes progress")
    # Callers and heartbeat alone may both be waiting for Postgres, unless heartbeats of others arrive there.
    if len(silent) >= 2 and (probes or _others_beat(seen, owner, limit)):
        return Diagnosis(Kind.PROCESS_HUNG, process.instance, Certainty.CONFIRMED, silent, process.life)
    return found


def _is_overloaded(process: Process, evidence: Evidence, at_ms: int, limit: int) -> bool:
    """Within the time that would have to be silent."""
    running = None if process.life is None else evidence.running.get(process.life)
    return running is not None and running.slow_at_ms is not None and at_ms - running.slow_at_ms < limit


def _others_beat(seen: Observation, owner: Owner | None, limit: int) -> bool:
    return any(o.beat_age_ms < limit and not o.exited and o != owner for o in seen.owners or ())


def _over(limit: int, **silent_ms: int) -> list[tuple[str, int]]:
    return [(f"{name}'s probe", ms) for name, ms in silent_ms.items() if ms >= limit]


def _cannot_tell(found: Diagnosis, why: str) -> Diagnosis:
    return Diagnosis(found.kind, found.target, Certainty.CANNOT_TELL, (*found.evidence, f"but {why}"), found.life)


def _shared(running: Sequence[Process], suspects: Sequence[Process]) -> dict[str, str]:
    """Services of which too many are suspect at once, or all of them when the whole platform is."""
    all_of, silent_of = Counter(p.workload for p in running), Counter(p.workload for p in suspects)
    if many_silent(len(running), len(suspects)):
        return dict.fromkeys(silent_of, f"{len(suspects)} of {len(running)} processes")
    return {
        service: f"{count} of {all_of[service]} instances"
        for service, count in silent_of.items()
        if count >= SHARED_OF_SERVICE_MIN and count > all_of[service] * _SHARE
    }


def crash_loops(exits: Sequence[Exit], seen: Observation, policy: Policy) -> Iterable[Diagnosis]:
    """What ends again and again. exits: those of the window that nobody caused.

    Pods of one template that are replaced under new names loop together: with more exits than the workload has pods,
    for a rollout replaces each once. Those of another template are another version: they prove nothing about this one.
    """
    window_s = policy.window_ms // 1000
    latest = {(each.life.workload, each.life.instance): each.life for each in exits}
    found = Counter((each.life.workload, each.life.instance) for each in exits)
    looping = {key for key, count in found.items() if count >= policy.restarts_max}
    for key in sorted(looping, key=lambda key: key[1]):
        text = f"{found[key]} exits in {window_s} s"
        yield Diagnosis(Kind.CRASH_LOOP, key[1], Certainty.CONFIRMED, (text,), latest[key])
    replaced = [each.life for each in exits if is_replaced_by_name(each.life.instance)]
    pods = Counter(p.workload for p in seen.processes or () if is_replaced_by_name(p.instance))
    templates = Counter(template_of(life.instance) for life in replaced)
    told = {workload for workload, _instance in looping}
    for life in reversed(replaced):  # of several templates that loop the one that did last
        template = template_of(life.instance)
        count = templates[template]
        if life.workload not in told and count > pods[life.workload] and count >= policy.restarts_max:
            told.add(life.workload)
            names = len({each.instance for each in replaced if template_of(each.instance) == template})
            text = f"{count} exits of {names} pods in {window_s} s"
            yield Diagnosis(Kind.CRASH_LOOP, life.workload, Certainty.CONFIRMED, (text,), life)


def directory(seen: Observation) -> Iterable[Diagnosis]:
    """What the directory says is stopped."""
    for shard in seen.shards or ():
        if shard.state in ("frozen", "quarantined"):
            evidence = (f"{shard.state}: {shard.reason}",)
            yield Diagnosis(Kind.SHARD_STOPPED, f"shard {shard.shard}", Certainty.CONFIRMED, evidence)


def database(seen: Observation) -> Iterable[Diagnosis]:
    """Postgres that cannot be read and written."""
    if seen.database is not Database.OK:
        yield Diagnosis(Kind.DATABASE_AWAY, "postgres", Certainty.CONFIRMED, (seen.database.value,))


def host(seen: Observation, policy: Policy) -> Iterable[Diagnosis]:
    """The healer's own machine, and its own record."""
    if seen.record_problem:
        yield Diagnosis(Kind.RECORD_NOT_WRITTEN, "flight record", Certainty.CONFIRMED, (seen.record_problem,))
    if seen.host is None:
        return
    free, offset = seen.host.disk_free_bytes, seen.host.clock_offset_ms
    if free < policy.disk_free_bytes_min:
        yield Diagnosis(Kind.DISK_FULL, "disk", Certainty.CONFIRMED, (f"{free // 2**20} MiB free",))
    if offset is not None and abs(offset) > policy.clock_offset_ms_max:
        yield Diagnosis(Kind.CLOCK_OFF, "clock", Certainty.CONFIRMED, (f"{offset} ms off the database's",))
