"""Simulated bettors over all shards: every shard gets a bet every 150 ms, whatever happened to it."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import aiohttp

from betting.drills.acks import AckFile
from betting.drills.bettors import BettingClient, Bettor, register
from betting.drills.catalogue import Catalogue
from betting.drills.connect import CallFailed, ConnectClient
from betting.drills.measure import ACCEPTED, Attempt
from betting.drills.target import FEED, GATEWAY, Target
from betting.supervision.errors import PlatformError

INTERVAL_S = 0.15
IN_FLIGHT_PER_SHARD_MAX = 300  # 45 s of waiting bets: longer than any fault of the demo
ACCUMULATOR_SHARE = 0.3
ACCUMULATOR_LEGS_MAX = 5
BETTORS_MAX = 400
REGISTER_AT_ONCE = 16
OPENING_S = 20.0  # at most, for the season's first markets to open
JOINING_S = 90.0  # at most, for all bettors to register and pay in
WARM_UP_S = 2.0
ANSWERS_S = 15.0
BETTING_MAX_S = 600.0  # bounds how long any bet is repeated, should everything hang
POLL_S = 0.1


class BettorPool:
    """Bets in open loop: an unanswered bet never keeps the next one back, so an outage is seen as long as it is.

    pace: how many times as often as usual; may be changed while they bet.
    """

    def __init__(
        self,
        betting_client: BettingClient,
        catalogue: Catalogue,
        bettors: list[Bettor],
        *,
        answers_until_s: float,
        pace: float = 1.0,
    ) -> None:
        self.pace = pace
        self.attempts: list[Attempt] = []
        self.skipped = 0
        self._betting_client = betting_client
        self._catalogue = catalogue
        self._answers_until_s = answers_until_s
        self._by_shard: dict[int, list[Bettor]] = defaultdict(list)
        for each in bettors:
            self._by_shard[each.shard].append(each)
        self._last_accepted_s: dict[int, float] = {}
        self._waiting: dict[int, set[asyncio.Task[None]]] = defaultdict(set)

    @property
    def shards(self) -> list[int]:
        """The shards that have bettors."""
        return sorted(self._by_shard)

    async def keep_betting(self) -> None:
        """Runs until cancelled; bets on their way go on."""
        async with asyncio.TaskGroup() as group:
            for shard, bettors in self._by_shard.items():
                group.create_task(self._bet_on_shard(shard, itertools.cycle(bettors)))

    @property
    def size(self) -> int:
        """How many bettors there are."""
        return sum(len(each) for each in self._by_shard.values())

    @property
    def somebody(self) -> Bettor:
        """One of the bettors."""
        return next(iter(self._by_shard.values()))[0]

    def last_accepted_s(self) -> list[float]:
        """When each shard last accepted a bet, −infinity if never."""
        return [self._last_accepted_s.get(shard, float("-inf")) for shard in self._by_shard]

    async def answers(self, timeout_s: float) -> None:
        """Waits for the answers to bets on their way; those without one by then stay unanswered."""
        waiting = [task for tasks in self._waiting.values() for task in tasks]
        if not waiting:
            return
        _, unanswered = await asyncio.wait(waiting, timeout=timeout_s)
        for task in unanswered:
            task.cancel()
        if unanswered:
            await asyncio.wait(unanswered)

    async def _bet_on_shard(self, shard: int, bettors: Iterator[Bettor]) -> None:
        draw = random.Random(shard)
        await asyncio.sleep(draw.random() * INTERVAL_S)
        while True:
            waiting = self._waiting[shard]
            if len(waiting) < IN_FLIGHT_PER_SHARD_MAX:
                task = asyncio.create_task(self._bet(next(bettors), draw))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
            else:
                self.skipped += 1
            await asyncio.sleep(INTERVAL_S / self.pace)

    async def _bet(self, bettor: Bettor, draw: random.Random) -> None:
        wanted = draw.randint(2, ACCUMULATOR_LEGS_MAX) if draw.random() < ACCUMULATOR_SHARE else 1
        legs = self._catalogue.pick(draw, wanted)
        if not legs:
            return
        attempt = Attempt(bettor.shard, time.monotonic())
        self.attempts.append(attempt)
        await self._betting_client.bet(attempt, bettor, legs, draw, self._answers_until_s)
        if attempt.outcome == ACCEPTED and attempt.answered_s is not None:
            self._last_accepted_s[attempt.shard] = attempt.answered_s


async def gather_bettors(
    client: ConnectClient, betting_client: BettingClient, shard_count: int, until_s: float
) -> list[Bettor]:
    """Registers bettors until every shard has one, and deposits for each. Raises PlatformError when that fails.

    The user id decides the shard and the platform decides the user id, so it takes about 3.4 × the shard count.
    """
    bettors: list[Bettor] = []
    numbers = itertools.count(1)
    while len({each.shard for each in bettors}) < shard_count:
        if len(bettors) >= BETTORS_MAX:
            missing = sorted(set(range(shard_count)) - {each.shard for each in bettors})
            raise PlatformError(
                f"{BETTORS_MAX} bettors registered and none is in shard {missing}: is `shard_count` right?"
            )
        batch = [register(client, next(numbers), shard_count, until_s) for _ in range(REGISTER_AT_ONCE)]
        bettors += await asyncio.gather(*batch)
    await asyncio.gather(*(betting_client.deposit(each, until_s) for each in bettors))
    return bettors


@asynccontextmanager
async def gateway_of(target: Target) -> AsyncIterator[ConnectClient]:
    """A client of the platform's gateway."""
    connector = aiohttp.TCPConnector(limit=0)  # the crowd bounds what is in flight
    async with aiohttp.ClientSession(connector=connector) as session:
        yield ConnectClient(session, target.gateway_url)


@asynccontextmanager
async def betting_pool(
    target: Target,
    client: ConnectClient,
    ack_file: AckFile,
    note: Callable[[str], None],
    pace: float = 1.0,
) -> AsyncIterator[BettorPool]:
    """Bettors with money on every shard, at work for the length of a block; then their last answers are waited for.

    pace: how many times as often as usual each shard sees a bet. Raises PlatformError when they cannot begin.
    """
    catalogue = Catalogue(client)
    await _opened(catalogue, target)
    note(f"{catalogue.events} events to bet on")
    betting_client = BettingClient(client, ack_file)
    try:
        bettors = await gather_bettors(client, betting_client, target.shard_count, time.monotonic() + JOINING_S)
    except CallFailed as error:
        raise PlatformError(
            f"The bettors could not register and pay in ({error}): see {target.where_logs(GATEWAY)}."
        ) from error
    note(f"{len(bettors)} bettors on {target.shard_count} shards")
    pool = BettorPool(betting_client, catalogue, bettors, answers_until_s=time.monotonic() + BETTING_MAX_S, pace=pace)
    background = [asyncio.create_task(catalogue.keep_fresh()), asyncio.create_task(pool.keep_betting())]
    try:
        await asyncio.sleep(WARM_UP_S)
        yield pool
    except BaseException:
        await pool.answers(0.0)
        raise
    finally:
        for task in background:
            task.cancel()
        await asyncio.wait(background)
    await pool.answers(ANSWERS_S)


async def _opened(catalogue: Catalogue, target: Target) -> None:
    deadline = time.monotonic() + OPENING_S
    while not catalogue.events:
        if time.monotonic() > deadline:
            raise PlatformError(f"No market opened within {OPENING_S:.0f} s: see {target.where_logs(FEED)}.")
        await catalogue.refresh()
        await asyncio.sleep(POLL_S)
