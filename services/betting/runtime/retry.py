"""When to send a call again: pure decisions, the time and the randomness are passed in.

A retry needs four yeses: the call is idempotent, the error says "not now", the budget has a token, and the pause still
leaves time before the deadline. Pauses are exponential with full jitter, so that callers do not come back in step.
"""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from betting.runtime.token_bucket import TokenBucket

ATTEMPTS_MAX = 3
BACKOFF_BASE_S = 0.025
BACKOFF_CAP_S = 0.5
# A retry that leaves less than this before the deadline cannot succeed.
USEFUL_REST_S = 0.005

BUDGET_CAPACITY = 10.0
BUDGET_PER_CALL = 0.1
BUDGET_PER_S = 0.5


@dataclass(frozen=True, slots=True)
class RetryStatistics:
    """A retry budget at one moment; totals count since the start of the process."""

    tokens: float
    calls_total: int
    retries_total: int
    refused_total: int


class RetryBudget:
    """A token bucket: each call puts in a tenth of a token, each retry takes a whole one.

    So a target that fails for everyone gets at most a tenth more calls, and a quiet client (half a token a second) may
    still retry.
    """

    def __init__(
        self, *, capacity: float = BUDGET_CAPACITY, per_call: float = BUDGET_PER_CALL, per_s: float = BUDGET_PER_S
    ) -> None:
        assert per_call >= 0
        self._per_call = per_call
        self._bucket = TokenBucket(per_s, capacity, 0.0)  # full: no matter since when
        self._calls_total = 0
        self._retries_total = 0
        self._refused_total = 0

    def deposit(self) -> None:
        """Counts a first attempt."""
        self._calls_total += 1
        self._bucket.credit(self._per_call)

    def withdraw(self, now_s: float) -> bool:
        """Takes a token for one more attempt; False: do not make it."""
        if self._bucket.take(1, now_s) > 0:
            self._refused_total += 1
            return False
        self._retries_total += 1
        return True

    def statistics(self) -> RetryStatistics:
        """The counts, frozen."""
        return RetryStatistics(self._bucket.tokens, self._calls_total, self._retries_total, self._refused_total)


def retriable(code: grpc.StatusCode) -> bool:
    """Whether the same call may succeed right away: UNAVAILABLE only.

    DEADLINE_EXCEEDED has no time left; OVERLOADED gets worse by asking again; ABORTED needs a fresh read first.
    """
    return code is grpc.StatusCode.UNAVAILABLE


def backoff_s(
    attempt: int, random_unit: float, *, base_s: float = BACKOFF_BASE_S, cap_s: float = BACKOFF_CAP_S
) -> float:
    """The pause after failed attempt number `attempt` (from 1): full jitter, `random_unit` in [0, 1)."""
    assert attempt >= 1
    return random_unit * min(cap_s, base_s * 2.0 ** (attempt - 1))


def pause_s(attempt: int, remaining_s: float | None, random_unit: float) -> float | None:
    """The pause before the next attempt, or None: attempts are used up or the deadline would pass."""
    if attempt >= ATTEMPTS_MAX:
        return None
    pause = backoff_s(attempt, random_unit)
    if remaining_s is not None and pause + USEFUL_REST_S >= remaining_s:
        return None
    return pause
