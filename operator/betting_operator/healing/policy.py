"""What a healer is allowed to do, and how much of it. Times in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass


class PolicyError(ValueError):
    """A policy that cannot work; the message names the field and what it must be."""


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
    instance within again_within_ms. cool_down_ms: between two disruptive actions on one service. attempts_max: of them
    on one instance before it was healthy again; retry_after_ms: how long the last instance of a service is left alone
    then.
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
    again_within_ms: int = 60_000
    cool_down_ms: int = 5_000
    attempts_max: int = 3
    retry_after_ms: int = 60_000
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
