"""Checks that a price stream is complete: messages go in, their meaning comes out, and a missing message is a gap.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from betting.v1.odds_pb2 import MarketPrices, WatchPricesResponse

# More markets than this in one snapshot is not a snapshot of ours; nothing grows without bound.
SNAPSHOT_MARKETS_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Whole:
    """The snapshot is complete: these are all markets."""

    prices: list[MarketPrices]


@dataclass(frozen=True, slots=True)
class Changed:
    """These markets changed."""

    prices: list[MarketPrices]


@dataclass(frozen=True, slots=True)
class Alive:
    """A heartbeat: no change; everything sent so far is current."""

    at_us: int


@dataclass(frozen=True, slots=True)
class Partial:
    """A part of a snapshot came; more follow."""


class GapError(Exception):
    """A message is missing or invalid: call WatchPrices again. The text says what was wrong."""


class StreamTracker:
    """One stream from its first message on; make a new one for each stream."""

    def __init__(self) -> None:
        self._epoch = ""
        self._sequence: int | None = None
        self._parts: list[MarketPrices] = []
        self._complete = False

    def take(self, response: WatchPricesResponse) -> Whole | Changed | Alive | Partial:
        """What a message means. Raises GapError; after that the stream is of no use."""
        self._check_epoch(response.epoch)
        kind = response.WhichOneof("update")
        if kind == "snapshot":
            return self._snapshot(response)
        if not self._complete or self._sequence is None:
            raise GapError(f"{kind or 'nothing'} came before the end of the snapshot")
        if kind == "delta":
            self._check_sequence(response.sequence, self._sequence + 1)
            self._sequence = response.sequence
            return Changed(list(response.delta.prices))
        if kind == "beat":
            self._check_sequence(response.sequence, self._sequence)
            return Alive(response.beat.at_us)
        raise GapError("a message without an update of a known kind came")

    def _snapshot(self, response: WatchPricesResponse) -> Whole | Partial:
        if self._complete:
            raise GapError("a snapshot came in the middle of a stream")
        if self._sequence is not None:
            self._check_sequence(response.sequence, self._sequence)
        self._sequence = response.sequence
        self._parts.extend(response.snapshot.prices)
        if len(self._parts) > SNAPSHOT_MARKETS_MAX:
            raise GapError(f"a snapshot of over {SNAPSHOT_MARKETS_MAX} markets came")
        if not response.snapshot.last:
            return Partial()
        self._complete = True
        parts, self._parts = self._parts, []
        return Whole(parts)

    def _check_epoch(self, epoch: str) -> None:
        if self._epoch and epoch != self._epoch:
            raise GapError(f"epoch {epoch} came in a stream of epoch {self._epoch}")
        self._epoch = epoch

    def _check_sequence(self, came: int, expected: int) -> None:
        if came != expected:
            raise GapError(f"sequence {came} came where {expected} was due")
