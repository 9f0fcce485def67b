"""The last rung: what heals was tried and did not help, or may not be tried any more. Then a person is called."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.memory import Memory
from betting_operator.healing.policy import Policy

BUDGET = "budget"


def exhausted(patients: Collection[Diagnosis], memory: Memory, policy: Policy) -> Iterator[Diagnosis]:
    """patients: those that a kill would be for now."""
    tries = {each.instance: each.count for each in memory.tries}
    killed = {(deed.instance, deed.boot_id) for deed in memory.deeds}
    waiting = [each for each in patients if (each.target, each.boot_id) not in killed]
    for target in sorted({each.target for each in waiting}):
        if tries.get(target, 0) >= policy.tries_max:
            text = f"killed {tries[target]} times without getting healthy in between"
            yield Diagnosis(Kind.HEALING_EXHAUSTED, target, Certainty.CONFIRMED, (text,))
    if waiting and len(memory.deeds) >= policy.dear_per_window:
        text = f"{len(memory.deeds)} kills in {policy.window_ms // 1_000} s, and {waiting[0].target} needs another"
        yield Diagnosis(Kind.HEALING_EXHAUSTED, BUDGET, Certainty.CONFIRMED, (text,))
