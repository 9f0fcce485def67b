"""Ids that are the same on every machine and in every run, made from what identifies a match or market in the world.

Ids are the first 52 bits of a SHA-256: positive, and exact in every JSON reader (JavaScript keeps 53 bits). Two of a
season's 2,000 ids share one with a probability of about 5e-10; the reader refuses a file in which that happens, and
event-service refuses an id that already stands for something else.
"""

from __future__ import annotations

import hashlib

ID_BITS = 52


def event_id(division: str, season: str, home: str, away: str, meeting: int = 1) -> int:
    """`meeting` counts the times the same side was at home to the same other in a season (Scotland: up to two)."""
    parts = ["event", division, season, home, away]
    return _id([*parts, str(meeting)] if meeting > 1 else parts)


def provider_event_id(provider: str, source_id: str) -> int:
    """An event that a provider knows under an id of its own (without control characters)."""
    return _id(["event", provider, source_id])


def market_id(event: int, kind: int, line_quarters: int) -> int:
    """`kind` is a betting.v1.MarketKind number; a different line is a different market."""
    return _id(["market", str(event), str(kind), str(line_quarters)])


def _id(parts: list[str]) -> int:
    # The unit separator cannot appear in a cell that the reader accepts, so no two part lists join to one text.
    digest = hashlib.sha256("\x1f".join(parts).encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> (64 - ID_BITS)) or 1
