"""What a healer is allowed to do, and how much of it. Times in milliseconds."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum

from betting_operator.healing.codec import Unreadable, from_json, to_json
from betting_operator.healing.maintenance import DAYS, MINUTES_PER_DAY, Window, why_held


class PolicyError(ValueError):
    """A policy that cannot work; the message names the field and what it must be."""


class Rebalancing(StrEnum):
    """Whether planned moves of shards, for balance, are begun by themselves or wait for a person's approval."""

    AUTOMATIC = "Automatic"
    APPROVE = "Approve"


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """What holds for one service in place of the defaults. healthy_percent_min: 0 to 99, see Policy."""

    workload: str
    disruptions_per_window: int
    healthy_percent_min: int = 0


_POSITIVE = (
    "silent_after_ms", "busy_after_ms", "overloaded_after_ms", "late_after_ms", "window_ms", "disruptions_per_window",
    "again_within_ms", "attempts_max", "retry_after_ms", "restarts_max", "feed_silent_ms", "stuck_after_ms",
    "handover_stuck_after_ms", "grey_after_ms", "memory_unexplained_max_bytes", "disk_free_bytes_min",
    "clock_offset_ms_max",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Policy:
    """The defaults are the embedded platform's.

    paused: why nothing is done; "" while healing is on. dry_run: everything is concluded and planned, nothing done.
    silent_after_ms: how long silence must last at each vantage point to count as hung; busy_after_ms: how long a main
    loop may stand while it burns processor time. overloaded_after_ms: how late a main loop is when it counts as
    overloaded. late_after_ms: a tick later than this voids the evidence. window_ms, disruptions_per_window: at most so
    many disruptive actions on one service in so much time; of kills those count that follow the last one of the same
    instance within again_within_ms. services: limits of single services; where one has a healthy_percent_min, an action
    on an instance is taken only while so much of its service is healthy without that instance. cool_down_ms: between
    two disruptive actions on one service. attempts_max: of them
    on one instance before it was healthy again; retry_after_ms: how long the last instance of a service is left alone
    then.
    rebalancing: see there; windows: when planned moves may be begun, none: at any time; moves_held: why none may be
    begun now, by the windows ("": they may).
    restarts_max: exits in a window that make a crash loop; roll_back: whether one may be answered by rolling back.
    replicas_max: up to how many bet-services the healer may add where their memory is short, 0: it adds none.
    feed_silent_ms, stuck_after_ms, handover_stuck_after_ms, grey_after_ms, memory_unexplained_max_bytes (resident, not
    explained by work), memory_large_bytes (resident), disk_free_bytes_min, clock_offset_ms_max: when to say so.
    """

    paused: str = ""
    dry_run: bool = False
    silent_after_ms: int = 3_000
    busy_after_ms: int = 10_000
    overloaded_after_ms: int = 1_000
    late_after_ms: int = 1_000
    window_ms: int = 300_000
    disruptions_per_window: int = 10
    services: tuple[ServiceLimits, ...] = ()
    again_within_ms: int = 60_000
    cool_down_ms: int = 5_000
    attempts_max: int = 3
    retry_after_ms: int = 60_000
    rebalancing: Rebalancing = Rebalancing.AUTOMATIC
    windows: tuple[Window, ...] = ()
    moves_held: str = ""
    restarts_max: int = 5
    roll_back: bool = True
    replicas_max: int = 0
    feed_silent_ms: int = 20_000
    stuck_after_ms: int = 10_000
    handover_stuck_after_ms: int = 5_000
    grey_after_ms: int = 10_000
    memory_unexplained_max_bytes: int = 512 * 1024 * 1024
    memory_large_bytes: int = 4 * 1024 * 1024 * 1024
    disk_free_bytes_min: int = 256 * 1024 * 1024
    clock_offset_ms_max: int = 2_000

    def budget(self, workload: str) -> int:
        """How many disruptive actions its window allows one service."""
        found = self._limits(workload)
        return self.disruptions_per_window if found is None else found.disruptions_per_window

    def healthy_percent_min(self, workload: str) -> int:
        """How much of a service must be healthy without the instance that is acted on, in percent."""
        found = self._limits(workload)
        return 0 if found is None else found.healthy_percent_min

    def _limits(self, workload: str) -> ServiceLimits | None:
        return next((each for each in self.services if each.workload == workload), None)

    def check(self) -> None:
        """Raises PolicyError for a policy that could never act, or that would act on nothing."""
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise PolicyError(f"{name} is {getattr(self, name)}: it must be positive, or pause healing instead")
        for name in ("cool_down_ms", "replicas_max"):
            if getattr(self, name) < 0:
                raise PolicyError(f"{name} is {getattr(self, name)}: it must not be negative")
        if self.silent_after_ms <= self.late_after_ms:
            raise PolicyError(
                f"silent_after_ms is {self.silent_after_ms}: it must exceed late_after_ms ({self.late_after_ms}), "
                "or a healer that was late takes its own pause for the silence of others"
            )
        if self.memory_large_bytes <= self.memory_unexplained_max_bytes:
            raise PolicyError(
                f"memory_large_bytes is {self.memory_large_bytes}: it must exceed memory_unexplained_max_bytes "
                f"({self.memory_unexplained_max_bytes}), or what nothing explains counts as large first"
            )
        if self.cool_down_ms >= self.window_ms:
            raise PolicyError(
                f"cool_down_ms is {self.cool_down_ms}: it must be less than window_ms ({self.window_ms}), in which the "
                "budget counts more than one action"
            )
        self._check_services()
        for window in self.windows:
            _check_window(window)

    def _check_services(self) -> None:
        for each in self.services:
            if each.disruptions_per_window <= 0:
                raise PolicyError(
                    f"disruptions_per_window of {each.workload} is {each.disruptions_per_window}: it must be positive, "
                    "or pause healing instead"
                )
            if not 0 <= each.healthy_percent_min < 100:
                raise PolicyError(
                    f"healthy_percent_min of {each.workload} is {each.healthy_percent_min}: it must be from 0 to 99, "
                    "as an instance that needs an action never counts as healthy"
                )
        for workload, count in Counter(each.workload for each in self.services).items():
            if count > 1:
                raise PolicyError(f"services has {count} limits of {workload}: it must have one")


def in_force(policy: Policy, wall_s: int, *, paused: str, dry_run: bool) -> Policy:
    """What holds at this time. paused, dry_run: the switches in the database, which hold beside the policy's own.

    wall_s: seconds since 1970.
    """
    sources = ((policy.paused, "spec.healing.paused"), (paused, "betting heal pause"))
    reasons = [f"{reason} ({source})" for reason, source in sources if reason]
    return replace(
        policy,
        paused="; ".join(reasons) if policy.paused else paused,
        dry_run=policy.dry_run or dry_run,
        moves_held=why_held(policy.windows, wall_s),
    )


def encoded(policy: Policy) -> str:
    """As a file has it that one process writes and the healer reads."""
    return json.dumps(to_json(policy))


def decoded(text: str) -> Policy:
    """Raises PolicyError for what `encoded` has not written, and for a policy that cannot work."""
    try:
        found: Policy = from_json(Policy, json.loads(text), "policy")
    except (Unreadable, ValueError) as error:
        raise PolicyError(f"it cannot be read: {error}") from None
    found.check()
    return found


def _check_window(window: Window) -> None:
    if not window.days or set(window.days) - set(DAYS):
        raise PolicyError(f"windows: {list(window.days)} must be days, of {', '.join(DAYS)}")
    if not 0 <= window.start_min < MINUTES_PER_DAY:
        raise PolicyError(f"windows: start_min is {window.start_min}: it must be a minute of the day, 0 to 1439")
    if not 0 < window.duration_min <= MINUTES_PER_DAY:
        raise PolicyError(f"windows: duration_min is {window.duration_min}: it must be from 1 to {MINUTES_PER_DAY}")
