"""What is left of the plan's credits, as the source says with every answer. Pure.

Credits come back on the first of the month. Source: https://the-odds-api.com/liveapi/guides/v4/#usage-quota-costs
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from betting.runtime.clock import US_PER_S

_COUNT = re.compile(r"(\d{1,12})(\.\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Quota:
    """Credits as last heard; None is "not said"."""

    remaining: int | None = None
    used: int | None = None
    last: int | None = None
    heard_at_us: int = 0

    def known_remaining(self, now_us: int) -> int | None:
        """What is left now; None when nothing is known, as after the turn of a month."""
        if self.remaining is None or now_us >= month_end_us(self.heard_at_us):
            return None
        return self.remaining


def heard(before: Quota, headers: Mapping[str, str], now_us: int) -> Quota:
    """The quota after an answer with these headers; an answer that says nothing changes nothing."""
    remaining = _count(headers, "x-requests-remaining")
    if remaining is None:
        return before
    return Quota(remaining, _count(headers, "x-requests-used"), _count(headers, "x-requests-last"), now_us)


def spent(before: Quota, now_us: int) -> Quota:
    """The quota after the source has said that nothing is left."""
    return Quota(0, before.used, before.last, now_us)


def month_end_us(now_us: int) -> int:
    """When the month of a moment ends (UTC), in microseconds since 1970."""
    now = datetime.fromtimestamp(now_us // US_PER_S, UTC)
    year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * US_PER_S


def _count(headers: Mapping[str, str], name: str) -> int | None:
    match = _COUNT.fullmatch(headers.get(name, ""))
    return int(match[1]) if match else None
