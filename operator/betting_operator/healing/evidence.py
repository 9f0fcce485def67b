"""How long silence has lasted at each vantage point, and which time does not count.

One vantage point is not proof, and evidence gathered while it could not be checked is none: a full window starts
again. Which time that is for which diagnosis says the table of diagnoses (`Void`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from betting.life import Life
from betting_operator.healing.diagnoses import TABLE, Certainty, Diagnosis, Kind, Void
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Answer, Database, Observation, Owner, Phase, Probe, Process, Report

# One call may be slow by itself.
UNANSWERED_MIN = 2
# An answer to a caller this recent, as a part of the silence asked for, contradicts probes that met none.
FRESH_SHARE = 1 / 2
_ANSWERED = (Answer.SERVING, Answer.NOT_SERVING)


@dataclass(frozen=True, slots=True)
class RunningLife:
    """One life that runs. since_ms: seen running since; slow_since_ms: its main loop has been late since,
    None: it is not late; slow_at_ms: when it was last late, None: never."""

    life: Life
    since_ms: int
    slow_since_ms: int | None = None
    slow_at_ms: int | None = None


@dataclass(frozen=True)  # no slots: `running` is worked out once, when it is first asked for
class Evidence:
    """since_ms: nothing before counts. platform_since_ms, database_since_ms: since when the supervisor was heard, and
    Postgres read and written, without a gap; None: not now. beats_since_ms: since when a fresh heartbeat of any
    bet-service was there, without a gap. many_at_ms: when many were silent at once last.
    """

    term: int = -1
    since_ms: int = 0
    platform_since_ms: int | None = None
    database_since_ms: int | None = None
    beats_since_ms: int | None = None
    many_at_ms: int | None = None
    lives: tuple[RunningLife, ...] = ()

    @cached_property
    def running(self) -> Mapping[Life, RunningLife]:
        """`lives`, by life."""
        return {each.life: each for each in self.lives}


def gather(before: Evidence, seen: Observation, policy: Policy) -> Evidence:
    """The evidence after one more tick."""
    void = seen.term != before.term or seen.late_ms > policy.late_after_ms
    start = Evidence(seen.term, seen.at_ms, lives=before.lives) if void else before
    return replace(
        start,
        platform_since_ms=_gapless(start.platform_since_ms, seen.processes is not None, seen.at_ms),
        database_since_ms=_gapless(start.database_since_ms, seen.database is Database.OK, seen.at_ms),
        beats_since_ms=_gapless(start.beats_since_ms, _anybody_beats(seen, policy), seen.at_ms),
        lives=start.lives if seen.processes is None else tuple(_lives(start, seen, policy)),
    )


def remember(evidence: Evidence, seen: Observation, *, many: bool) -> Evidence:
    """After the diagnoses of this tick. many: whether many were silent at once."""
    return replace(evidence, many_at_ms=seen.at_ms) if many else evidence


def counts_from(evidence: Evidence, kind: Kind, life: Life | None = None, workload: str = "") -> int | None:
    """Since when time counts for a diagnosis, by its voids in the table; None: it does not count now.

    life: of whom it is about; workload: whose word it rests on.
    """
    voids = TABLE[kind].voids
    moments: list[int | None] = [evidence.since_ms] if Void.HEALER in voids else []
    if Void.DATABASE in voids:
        moments.append(evidence.database_since_ms)
    if Void.EVERYBODY in voids and evidence.many_at_ms is not None:
        moments.append(evidence.many_at_ms)
    if Void.UNSEEN in voids and workload:
        moments += [each.since_ms for each in evidence.lives if each.life.workload == workload]
    running = None if life is None else evidence.running.get(life)
    if running is not None:
        if Void.STARTING in voids:
            moments.append(running.since_ms)
        if Void.OVERLOAD in voids and running.slow_at_ms is not None:
            moments.append(running.slow_at_ms)
    known = [moment for moment in moments if moment is not None]
    return max(known, default=0) if len(known) == len(moments) else None


def lasted_ms(
    evidence: Evidence, at_ms: int, since_ms: int, kind: Kind, life: Life | None = None, workload: str = ""
) -> int:
    """How long something has lasted, as far as time counts for this diagnosis; 0: not at all."""
    counts = counts_from(evidence, kind, life, workload)
    return 0 if counts is None else at_ms - max(since_ms, counts)


def apply_voids(found: Diagnosis, evidence: Evidence, seen: Observation, *, many: bool) -> Diagnosis:
    """The diagnosis: what was confirmed during a time that proves nothing becomes "cannot tell"."""
    voids = TABLE[found.kind].voids
    in_force = {
        Void.HEALER: evidence.since_ms == seen.at_ms,
        Void.DATABASE: evidence.database_since_ms is None,
        Void.EVERYBODY: many,
    }
    why = next((void for void in voids if in_force.get(void)), None)
    if why is None or not found.confirmed:
        return found
    return replace(found, certainty=Certainty.CANNOT_TELL, evidence=(*found.evidence, f"but {why}"))


def probe_of(seen: Observation, process: Process) -> Probe | None:
    """The healer's own word on this life."""
    life = process.life
    return None if life is None else seen.probe_of.get(life)


def healer_silent_ms(evidence: Evidence, seen: Observation, process: Process) -> int:
    """How long the healer has had no sign of progress from this life."""
    probe = probe_of(seen, process)
    return 0 if probe is None else min(probe.silent_ms, seen.at_ms - evidence.since_ms)


def platform_silent_ms(evidence: Evidence, process: Process, at_ms: int) -> int:
    """How long it has not answered the platform's probe, as far as the healer could hear of it."""
    since = evidence.platform_since_ms
    return 0 if since is None else min(process.silent_ms, at_ms - since)


def callers_silent_ms(evidence: Evidence, seen: Observation, process: Process) -> int:
    """The longest that one of its callers has waited for any answer, with Postgres there all the while: a service that
    waits for Postgres lets its callers wait too."""
    since = evidence.database_since_ms
    if since is None:
        return 0
    waited = (each.silent_ms for each in _reports(seen, process) if each.unanswered >= UNANSWERED_MIN)
    return min(max(waited, default=0), seen.at_ms - max(since, evidence.since_ms))


def answered_ms_ago(seen: Observation, process: Process) -> int | None:
    """When it last answered any of its callers; None: no caller reports a reply."""
    found = (each.answered_ms_ago for each in _reports(seen, process))
    return min((ms for ms in found if ms is not None), default=None)


def makes_progress(evidence: Evidence, seen: Observation, workload: str, policy: Policy) -> bool:
    """Whether every process of a workload is running, and has been silent neither to a probe nor to its callers for
    `silent_after_ms`. Whoever does not can answer from memory and still take in nothing new.

    True if the platform is not heard, or has no such process: then nothing is known against it.
    """
    return all(
        process.phase is Phase.RUNNING
        and policy.silent_after_ms
        > max(
            healer_silent_ms(evidence, seen, process),
            platform_silent_ms(evidence, process, seen.at_ms),
            callers_silent_ms(evidence, seen, process),
        )
        for process in seen.processes or ()
        if process.workload == workload
    )


def beat_silent_ms(evidence: Evidence, owner: Owner, at_ms: int) -> int | None:
    """How long its heartbeat has been missing from a writable database; None: the database cannot tell."""
    since = evidence.database_since_ms
    return None if since is None else min(owner.beat_age_ms, at_ms - since)


def missed_while_others_beat_ms(evidence: Evidence, owner: Owner, at_ms: int) -> int:
    """How long its heartbeat has been missing while heartbeats of others arrived; 0: the database cannot tell, or
    nobody's do. When all of a machine slept, one is the first to beat again, and that proves nothing yet. Nor does the
    time in which it started or was overloaded.
    """
    missing_ms, since_ms = beat_silent_ms(evidence, owner, at_ms), evidence.beats_since_ms
    if missing_ms is None or since_ms is None:
        return 0
    running = evidence.running.get(owner.life)
    own_ms = 0 if running is None else max(running.since_ms, running.slow_at_ms or 0)
    return min(missing_ms, at_ms - max(since_ms, evidence.since_ms, own_ms))


def overloaded(evidence: Evidence, seen: Observation, policy: Policy) -> Iterator[Diagnosis]:
    """Processes that make progress, but have been slow for a while."""
    for each in evidence.lives:
        if each.slow_since_ms is None:
            continue
        since_ms = max(each.slow_since_ms, evidence.since_ms)
        probe = seen.probe_of.get(each.life)
        if probe is not None and seen.at_ms - since_ms >= SLOW_LASTS_MS:
            text = f"its main loop runs {max(probe.lag_ms, probe.silent_ms)} ms late, for {seen.at_ms - since_ms} ms"
            yield Diagnosis(Kind.OVERLOADED, each.life.instance, Certainty.CONFIRMED, (text,), each.life)


# A moment of much work is no overload.
SLOW_LASTS_MS = 5_000


def _lives(before: Evidence, seen: Observation, policy: Policy) -> Iterator[RunningLife]:
    for process in seen.processes or ():
        if process.phase is not Phase.RUNNING or process.life is None:
            continue
        now = before.running.get(process.life, RunningLife(process.life, seen.at_ms))
        probe = probe_of(seen, process)
        if probe is not None and _is_slow(probe, policy):
            since_ms = seen.at_ms if now.slow_since_ms is None else now.slow_since_ms
            yield replace(now, slow_since_ms=since_ms, slow_at_ms=seen.at_ms)
        else:
            yield replace(now, slow_since_ms=None)


def _is_slow(probe: Probe, policy: Policy) -> bool:
    """Its health port answers, and its main loop runs late, or has stood for a while and uses processor time."""
    if probe.answer not in _ANSWERED:
        return False
    gets_on = probe.silent_ms < policy.silent_after_ms and max(probe.lag_ms, probe.silent_ms) >= (
        policy.overloaded_after_ms
    )
    return gets_on or (probe.busy and policy.overloaded_after_ms <= probe.silent_ms < policy.busy_after_ms)


def _anybody_beats(seen: Observation, policy: Policy) -> bool:
    fresh = (each.beat_age_ms < policy.silent_after_ms and not each.exited for each in seen.owners or ())
    return seen.database is Database.OK and any(fresh)


def _reports(seen: Observation, process: Process) -> tuple[Report, ...]:
    life = process.life
    return () if life is None else seen.reports_on.get(life, ())


def _gapless(before: int | None, seen: bool, at_ms: int) -> int | None:
    if not seen:
        return None
    return at_ms if before is None else before
