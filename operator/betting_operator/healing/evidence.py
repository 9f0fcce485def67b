"""How long silence has lasted at each vantage point, and when that stops counting.

One vantage point is not proof, and evidence gathered while the healer itself was late, or could not see, is none: a
full window starts again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Database, Observation, Owner, Process, Report

# One call may be slow by itself.
UNANSWERED_MIN = 2


@dataclass(frozen=True, slots=True)
class Evidence:
    """since_ms: nothing before counts. platform_since_ms, database_since_ms: seen without a gap since; None: away."""

    term: int = -1
    since_ms: int = 0
    platform_since_ms: int | None = None
    database_since_ms: int | None = None


def gather(before: Evidence, seen: Observation, policy: Policy) -> Evidence:
    """The evidence after one more tick."""
    void = seen.term != before.term or seen.late_ms > policy.late_after_ms
    start = Evidence(seen.term, seen.at_ms) if void else before
    return replace(
        start,
        platform_since_ms=_gapless(start.platform_since_ms, seen.processes is not None, seen.at_ms),
        database_since_ms=_gapless(start.database_since_ms, seen.database is Database.OK, seen.at_ms),
    )


def healer_silent_ms(evidence: Evidence, seen: Observation, process: Process) -> int:
    """How long this life has not answered the healer."""
    for probe in seen.probes:
        if (probe.instance, probe.boot_id) == (process.instance, process.boot_id):
            return min(probe.silent_ms, seen.at_ms - evidence.since_ms)
    return 0


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
    """When it last answered any of its callers; None: nobody says that it ever did."""
    found = (each.answered_ms_ago for each in _reports(seen, process))
    return min((ms for ms in found if ms is not None), default=None)


def _reports(seen: Observation, process: Process) -> tuple[Report, ...]:
    return tuple(r for r in seen.reports if (r.instance, r.boot_id) == (process.instance, process.boot_id))


def beat_silent_ms(evidence: Evidence, owner: Owner, at_ms: int) -> int | None:
    """How long its beat has been missing from a database that took beats; None: the database cannot tell."""
    since = evidence.database_since_ms
    return None if since is None else min(owner.beat_age_ms, at_ms - since)


def _gapless(before: int | None, seen: bool, at_ms: int) -> int | None:
    if not seen:
        return None
    return at_ms if before is None else before
