"""What the healer did about a fault, by its HealingActions, which have the times of its own clock: this machine's."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from platform_under_test import Installed
from scene import SAID_S
from tools import items, wait_for

# What ends or moves something that may work. Marking an owner dead and failing over are that, too, unless pods are
# ended in order.
ALWAYS = frozenset(("Kill", "MoveAway", "RollBack", "Drain", "Freeze"))
UNLESS_PODS_END = frozenset(("MarkDead", "Promote", "MoveRecord", "ForceRelease"))
DISRUPTIVE = ALWAYS | UNLESS_PODS_END
# Who is moved away is ended, too: the faults of the rounds before may have made its node a bad one.
AS_WELL = {"Kill": ("Kill", "MoveAway")}

Object = dict[str, Any]


class Answer(NamedTuple):
    """What is done about a fault: these actions in this order, for this diagnosis. over: and the diagnosis is over."""

    diagnosis: str
    actions: tuple[str, ...]
    over: bool = True


def answered_s(found: Iterable[Object], answer: Answer, since: datetime) -> float | None:
    """Seconds from then until the whole answer was given to one target (one life, where it is one); None: not yet."""
    about: dict[tuple[str, str], list[Object]] = {}
    for each in sorted(found, key=_began):
        spec, status = each["spec"], each["status"]
        if spec.get("diagnosis") == answer.diagnosis and status["outcome"] == "Done" and _began(each) >= since:
            target = spec["target"]
            about.setdefault((target["name"], target.get("bootId", "")), []).append(each)
    ends = [end for done in about.values() if (end := _end(done, answer)) is not None]
    return (min(ends) - since).total_seconds() if ends else None


def _end(done: Sequence[Object], answer: Answer) -> datetime | None:
    """When the last action of the answer was done, or what it was about was over. done: to one target, in order."""
    rest = iter(done)
    last = None
    for action in answer.actions:
        any_of = AS_WELL.get(action, (action,))
        last = next((each for each in rest if each["spec"]["decision"]["action"] in any_of), None)
        if last is None:
            return None
    ended = None if last is None else last["status"].get("repaired" if answer.over else "ended")
    return None if ended is None else datetime.fromisoformat(ended)


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


def at(moment_s: float) -> datetime:
    """A moment of the monotonic clock by the wall clock."""
    return now() - timedelta(seconds=time.monotonic() - moment_s)


def wait_answered(platform: Installed, answer: Answer, since: datetime, within_s: float) -> float:
    """Until it was given; the seconds from then until it was, by the objects. Raises Failed."""
    found: list[float] = []

    def is_answered() -> bool:
        found[:] = [took for took in [answered_s(of(platform), answer, since)] if took is not None]
        return bool(found)

    wait_for(f"{answer.diagnosis} is answered by {', '.join(answer.actions)}", is_answered, within_s, platform.why)
    return found[0]


def wait_said(platform: Installed, diagnosis: str) -> float:
    """Until the platform's status has this diagnosis as confirmed; the seconds that took. Raises Failed after 30 s."""

    def is_said() -> bool:
        found = platform.status().get("activeDiagnoses", ())
        return any(each["kind"] == diagnosis and each["certainty"] == "confirmed" for each in found)

    return wait_for(f"{diagnosis} is said", is_said, SAID_S, platform.why)
