"""Follows odds-service's prices for as long as the caller lives: watches again after every gap, error and silence."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import cast

from betting.clients import odds_tracker as tracker
from betting.clients.odds_tracker import Alive, Changed, GapError, Whole
from betting.runtime import logs, retry
from betting.runtime.client import Target
from betting.runtime.errors import ServiceError
from betting.v1 import odds_pb2, odds_pb2_grpc
from betting.v1.odds_pb2 import MarketPrices

# Beats come every second; three missing in a row, and the stream is taken for dead even if the connection is not.
SILENCE_MAX_S = 3.0
# How long an address may take to begin. A frozen one is left soon for the next; a large snapshot on a busy machine
# may take longer, so that each try is given twice the time of the one before.
FIRST_MESSAGE_MIN_S = 1.0
FIRST_MESSAGE_MAX_S = 10.0
BACKOFF_BASE_S = 0.1
BACKOFF_CAP_S = 2.0
_BACKOFF_STEPS_MAX = 10

OnPrices = Callable[[list[MarketPrices]], Awaitable[None] | None]
OnBeat = Callable[[int], Awaitable[None] | None]

_LOG = logs.get("price-watch")


async def watch(
    target: Target,
    event_ids: Iterable[int] = (),
    *,
    on_snapshot: OnPrices,
    on_delta: OnPrices,
    on_beat: OnBeat,
    silence_max_s: float = SILENCE_MAX_S,
) -> None:
    """Runs until cancelled. `target` is odds-service; no `event_ids` means every market.

    Behind the target may be several odds-services: the active one, which says SERVING, is watched; when it goes, the
    next as soon as it is active.

    `on_snapshot` gets all markets, whole, and replaces whatever came before; `on_delta` what changed since; `on_beat`
    odds-service's time in microseconds since 1970 when it said that nothing is missing. They are called one at a time,
    in order, and may be coroutine functions; a slow one makes this watcher slow, and odds-service ends slow streams.
    What they raise ends the watch. While nothing is called, nothing is known: how old a book may get is the caller's
    rule.
    """
    request = odds_pb2.WatchPricesRequest(event_ids=event_ids)
    failures = 0
    while True:
        stream = _Stream(target, request, silence_max_s, _first_message_s(failures))
        try:
            await stream.run(on_snapshot, on_delta, on_beat)
            why = "the stream ended"
        except GapError as error:
            why = str(error)
        failures = 1 if stream.was_whole else min(failures + 1, _BACKOFF_STEPS_MAX)
        pause_s = retry.backoff_s(failures, random.random(), base_s=BACKOFF_BASE_S, cap_s=BACKOFF_CAP_S)
        _LOG.warning("price watch restarted", target=target.name, why=why, pause_s=round(pause_s, 3))
        await asyncio.sleep(pause_s)


class _Stream:
    """One stream, from the call to its end."""

    def __init__(
        self, target: Target, request: odds_pb2.WatchPricesRequest, silence_max_s: float, first_message_s: float
    ) -> None:
        self._target = target
        self._request = request
        self._silence_max_s = silence_max_s
        self._first_message_s = first_message_s
        self._begun = False
        self._tracker = tracker.StreamTracker()
        # Whether the whole snapshot came: then trouble is new trouble, and the backoff starts afresh.
        self.was_whole = False

    async def run(self, on_snapshot: OnPrices, on_delta: OnPrices, on_beat: OnBeat) -> None:
        """Until the stream ends. Raises GapError when it breaks, and what the callbacks raise."""
        stub = self._target.stub(odds_pb2_grpc.OddsServiceStub)
        responses = self._target.stream(
            stub.WatchPrices, self._request, wait_for_ready=True, silent_after_s=self._silent_after_s
        )
        async with aclosing(cast("AsyncGenerator[odds_pb2.WatchPricesResponse, None]", responses)) as messages:
            while (response := await self._next(messages)) is not None:
                meaning = self._tracker.take(response)
                if isinstance(meaning, Whole):
                    self.was_whole = True
                    await _called(on_snapshot(meaning.prices))
                elif isinstance(meaning, Changed):
                    await _called(on_delta(meaning.prices))
                elif isinstance(meaning, Alive):
                    await _called(on_beat(meaning.at_us))

    async def _next(
        self, responses: AsyncGenerator[odds_pb2.WatchPricesResponse, None]
    ) -> odds_pb2.WatchPricesResponse | None:
        """None: the stream ended in order. Raises GapError."""
        try:
            message = await anext(responses)
        except StopAsyncIteration:
            return None
        except ServiceError as error:
            raise GapError(str(error)) from None
        self._begun = True
        return message

    def _silent_after_s(self) -> float:
        if not self._begun:
            return self._first_message_s
        return self._silence_max_s if self.was_whole else max(FIRST_MESSAGE_MAX_S, self._silence_max_s)


def _first_message_s(failures: int) -> float:
    return float(min(FIRST_MESSAGE_MAX_S, FIRST_MESSAGE_MIN_S * 2 ** max(0, failures - 1)))


async def _called(result: Awaitable[None] | None) -> None:
    if result is not None:
        await result
