"""Books that do not balance: the shard is frozen and a person alerted. Nothing is repaired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from betting_operator.healing.actions import Freeze
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.signals import Audit, Observation

FAILURES = 2
# As many shards at once, and over a third of them: the check, or what it reads, is the likelier cause.
SHARED_MIN = 3
_SHARE = 1 / 3


def diagnose(seen: Observation) -> Iterator[Diagnosis]:
    """Confirmed when two checks in a row found it."""
    failing = seen.audits
    shared = len(failing) >= SHARED_MIN and len(failing) > len(seen.shards or ()) * _SHARE
    for each in failing:
        texts: Sequence[str] = (each.problem, f"found {each.failures} times in a row")
        certainty = Certainty.CONFIRMED if each.failures >= FAILURES else Certainty.SUSPECTED
        if shared:
            certainty, texts = Certainty.CANNOT_TELL, (*texts, f"but in {len(failing)} shards at once")
        yield Diagnosis(Kind.LEDGER_BROKEN, _name(each), certainty, tuple(texts))


def remedies(seen: Observation, diagnoses: Sequence[Diagnosis]) -> list[Freeze]:
    """Freezes the shards that still take money, also while healing is paused."""
    owned = {shard.shard for shard in seen.shards or () if shard.state == "owned"}
    confirmed = {each.target for each in diagnoses if each.kind is Kind.LEDGER_BROKEN and each.confirmed}
    return [
        Freeze(each.shard, f"its books do not balance: {each.problem}", seen.term)
        for each in seen.audits
        if _name(each) in confirmed and each.shard in owned
    ]


def _name(audit: Audit) -> str:
    return f"shard {audit.shard}"
