"""Grey failure: an instance that answers, but slower or worse than its peers, as measured by the callers of all of
them.

Peers are compared by the same caller at the same time: what slows all of them is no outlier.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from betting.life import Life
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.evidence import Evidence, lasted_ms
from betting_operator.healing.policy import Policy
from betting_operator.healing.retiring import Retirement
from betting_operator.healing.signals import Database, Observation, Phase, Report

PEERS_MIN = 3
CALLS_MIN = 20
# Below these an instance is no outlier, however fast the others are.
SLOW_US_MIN = 50_000
FAILING_MIN = 0.2
TIMES_WORSE = 5


@dataclass(frozen=True, slots=True)
class Outlier:
    """A life that is worse than its peers, as its callers measured, since a time. peers: itself included."""

    life: Life
    peers: int
    text: str
    since_ms: int


def watch(before: Sequence[Outlier], seen: Observation) -> tuple[Outlier, ...]:
    """Those of this look; the clock of one starts anew when it was none in between, or it could not be told."""
    if seen.processes is None or seen.database is not Database.OK:
        return ()
    since = {each.life: each.since_ms for each in before}
    reports: dict[str, list[Report]] = {}
    for report in seen.reports:
        reports.setdefault(report.life.workload, []).append(report)
    found = []
    for workload in sorted({process.workload for process in seen.processes}):
        running = (p for p in seen.processes if p.workload == workload and p.phase is Phase.RUNNING)
        lives = {process.life for process in running if process.life is not None}
        for life, (text, peers) in _outliers(lives, reports.get(workload, ())).items():
            found.append(Outlier(life, peers, text, since.get(life, seen.at_ms)))
    return tuple(found)


def diagnose(
    outliers: Sequence[Outlier], evidence: Evidence, last: Retirement | None, seen: Observation, policy: Policy
) -> Iterator[Diagnosis]:
    """Those that have lasted. last: whose shards were moved last, because it was thought to be the cause."""
    lasted = {each: _lasted_ms(each, evidence, seen.at_ms) for each in outliers}
    lasting = [each for each in outliers if lasted[each] >= policy.grey_after_ms]
    for each in lasting:
        at_once = [other for other in lasting if other.life.workload == each.life.workload]
        text = f"{each.text}, for {lasted[each]} ms"
        moved = _moved_here(each, last, seen)
        if moved:
            shards = " ".join(map(str, moved))
            came = f"it came with shards {shards} from {last.owner if last else ''}"
            yield Diagnosis(Kind.HOT_SHARD, each.life.instance, Certainty.CONFIRMED, (text, came))
            continue
        certainty, but = Certainty.CONFIRMED, ""
        if each.peers < PEERS_MIN:
            certainty, but = (
                Certainty.CANNOT_TELL,
                f"but of {each.peers} peers it cannot be told which is the outlier",
            )
        elif len(at_once) > 1:
            certainty, but = Certainty.CANNOT_TELL, f"but {len(at_once)} of {each.peers} are outliers at once"
        texts = (text, but) if but else (text,)
        yield Diagnosis(Kind.GREY_FAILURE, each.life.instance, certainty, texts, each.life)


def _lasted_ms(each: Outlier, evidence: Evidence, at_ms: int) -> int:
    return lasted_ms(evidence, at_ms, each.since_ms, Kind.GREY_FAILURE, each.life)


def _outliers(lives: set[Life], reports: Iterable[Report]) -> dict[Life, tuple[str, int]]:
    """Lives that every caller with enough calls to compare finds worse than the others."""
    callers: dict[str, list[Report]] = {}
    for report in reports:
        if report.life in lives and report.calls >= CALLS_MIN:
            callers.setdefault(report.caller, []).append(report)
    verdicts: dict[Life, list[tuple[str, int]]] = {}
    for caller, heard in sorted(callers.items()):
        if len(heard) == 1:
            continue
        usual = Usual(heard)
        for report in heard:
            text = _worse(report, usual)
            verdict = f"{caller}: {text}" if text else ""
            verdicts.setdefault(report.life, []).append((verdict, len(heard)))
    return {
        life: ("; ".join(text for text, _ in found), max(peers for _, peers in found))
        for life, found in verdicts.items()
        if all(text for text, _ in found)
    }


class Usual:
    """What the reports of one caller, at least two, have in common: each is compared with the others."""

    def __init__(self, heard: Sequence[Report]) -> None:
        self._failing = sorted(each.failures / each.calls for each in heard)
        self._p90_us = sorted(each.p90_us for each in heard)

    def failing_of_others(self, report: Report) -> float:
        """The median share of calls that failed, of all but this one."""
        return _median_without(self._failing, report.failures / report.calls)

    def p90_us_of_others(self, report: Report) -> float:
        """The median of all but this one."""
        return _median_without(self._p90_us, report.p90_us)


def _median_without(ascending: Sequence[float], one: float) -> float:
    """The median of all values but one of these, without sorting the rest again for each."""
    left_out = bisect.bisect_left(ascending, one)
    low, high = (len(ascending) - 2) // 2, (len(ascending) - 1) // 2
    below, above = (ascending[place + (place >= left_out)] for place in (low, high))
    return below if low == high else (below + above) / 2


def _worse(report: Report, usual: Usual) -> str:
    """How it is worse; "" if it is not."""
    failing = report.failures / report.calls
    if failing >= FAILING_MIN:
        usual_failing = usual.failing_of_others(report)
        if failing >= TIMES_WORSE * usual_failing:
            return f"{report.failures} of {report.calls} calls fail, {usual_failing:.0%} of the others'"
    if report.p90_us >= SLOW_US_MIN:
        usual_us = usual.p90_us_of_others(report)
        if report.p90_us >= TIMES_WORSE * usual_us:
            usually = f"the others' {usual_us / 1_000:g} ms"
            return f"a tenth of {report.calls} calls takes {report.p90_us // 1_000} ms or more, {usually}"
    return ""


def _moved_here(each: Outlier, last: Retirement | None, seen: Observation) -> list[int]:
    """Shards of the last one that was retired for the same, which this one has now: the slowness came with them."""
    if last is None or last.kind is not Kind.GREY_FAILURE or last.owner == each.life:
        return []
    return [shard.shard for shard in seen.shards or () if shard.owner == each.life and shard.shard in last.shards]
