"""The status of a platform for tests, by what was observed."""

from __future__ import annotations

from typing import Any

import platforms

from betting_operator.kubernetes import status
from betting_operator.kubernetes.manifests import Manifest
from betting_operator.kubernetes.reconcile import Facts, Key, Observed, plan

WELL = Facts(16, 16, 0, "0111", "demo-redis-0", "steady", 3)
RUNS = status.Healer(runs=True)
NOW = "2026-01-01T00:00:00Z"


def status_of(objects: dict[Key, Manifest], facts: Facts | None = WELL, **more: Any) -> dict[str, Any]:
    """Of a platform with these objects. more: platform, before, now, problems, healer, and fields of Observed."""
    platform = more.pop("platform", platforms.platform())
    before, now = more.pop("before", {}), more.pop("now", NOW)
    problems, healer = more.pop("problems", ()), more.pop("healer", RUNS)
    observed = Observed(objects, facts=facts, **more)
    planned = plan(platform, observed, platforms.new_password)
    return status.status(platform, observed, planned, problems, before, now, healer)


def conditions_of(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Status and reason of each condition, by its type."""
    return {each["type"]: (each["status"], each["reason"]) for each in found["conditions"]}


def message_of(found: dict[str, Any], kind: str) -> str:
    """The message of the condition of this type."""
    return str(next(each["message"] for each in found["conditions"] if each["type"] == kind))
