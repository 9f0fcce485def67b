"""What the healer did about a fault, by its HealingActions, which have the times of its own clock: this machine's."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any

from platform_under_test import Installed
from tools import items, wait_for

# What ends or moves something that may work. Marking an owner dead and failing over are that, too, unless pods are
# ended in order.
ALWAYS = frozenset(("Kill", "MoveAway", "RollBack", "Drain", "Freeze"))
UNLESS_PODS_END = frozenset(("MarkDead", "Promote", "MoveRecord", "ForceRelease"))
DISRUPTIVE = ALWAYS | UNLESS_PODS_END
SAID_S = 30.0

Object = dict[str, Any]


def disruptive(found: Iterable[Object], counts: Collection[str], since: datetime) -> list[str]:
    """The actions of these kinds since then, a line each."""
    return [
        f"{each['spec']['decision']['description']} ({'; '.join(each['spec'].get('evidence', ()))})"
        for each in found
        if each["spec"]["decision"]["action"] in counts
        and each["status"]["outcome"] != "Declined"
        and _began(each) >= since
    ]


def _began(each: Object) -> datetime:
    return datetime.fromisoformat(each["status"]["began"])


# --- of a platform


def of(platform: Installed) -> list[Object]:
    """All that are kept."""
    return items("healingactions", f"--namespace={platform.namespace}")


def now() -> datetime:
    """The wall clock, which the nodes share with this machine."""
    return datetime.now(UTC)


def wait_said(platform: Installed, diagnosis: str) -> float:
    """Until the platform's status has this diagnosis as confirmed; the seconds that took. Raises Failed after 30 s."""

    def is_said() -> bool:
        found = platform.status().get("activeDiagnoses", ())
        return any(each["kind"] == diagnosis and each["certainty"] == "confirmed" for each in found)

    return wait_for(f"{diagnosis} is said", is_said, SAID_S, platform.why)
