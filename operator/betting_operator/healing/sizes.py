"""Memory that climbs: what a process has beyond what its work explains, and work that needs very much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from betting.life import Life
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.evidence import Evidence, lasted_ms
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Observation, Size

MIB = 1024 * 1024
# The collector gives back what a burst took within this time.
LASTS_MS = 30_000


@dataclass(frozen=True, slots=True)
class Large:
    """A life that uses more memory than it should, since a time."""

    life: Life
    resident_bytes: int
    explained_bytes: int
    since_ms: int


def watch(before: Sequence[Large], seen: Observation, policy: Policy) -> tuple[Large, ...]:
    """Those of this look; the clock of one starts anew when it was small in between, or could not be asked."""
    since = {each.life: each.since_ms for each in before}
    return tuple(
        Large(s.life, s.resident_bytes, s.explained_bytes, since.get(s.life, seen.at_ms))
        for s in seen.sizes
        if _unexplained(s) >= policy.memory_unexplained_max_bytes or s.resident_bytes >= policy.memory_large_bytes
    )


def diagnose(large: Sequence[Large], evidence: Evidence, at_ms: int, policy: Policy) -> Iterator[Diagnosis]:
    """Restarted for what nothing explains; an alert for what its open bets explain: a restart would bring it back."""
    for each in large:
        if lasted_ms(evidence, at_ms, each.since_ms, Kind.MEMORY_CLIMBING, each.life) < LASTS_MS:
            continue
        text = f"{each.resident_bytes // MIB} MiB resident, {each.explained_bytes // MIB} MiB explained"
        if each.resident_bytes - each.explained_bytes >= policy.memory_unexplained_max_bytes:
            yield Diagnosis(Kind.MEMORY_CLIMBING, each.life.instance, Certainty.CONFIRMED, (text,), each.life)
        else:
            yield Diagnosis(Kind.MEMORY_SHORT, each.life.instance, Certainty.CONFIRMED, (text,), each.life)


def _unexplained(size: Size) -> int:
    return size.resident_bytes - size.explained_bytes
