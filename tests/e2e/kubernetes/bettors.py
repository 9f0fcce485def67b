"""Bettors outside the cluster: eight bets a second on every shard while a phase lasts, and what became of each bet.

They run in a thread of their own, so that a scenario is plain code that calls kubectl and waits.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from tools import Failed, say, wait_for

from betting.drills import acks
from betting.drills.bettor_pool import BettorPool, gather_bettors
from betting.drills.bettors import CURRENCY, SIGN_IN_TIMEOUT_S, BettingClient, Bettor, register, repeat
from betting.drills.catalogue import Catalogue
from betting.drills.connect import CallFailed, ConnectClient
from betting.drills.measure import ACCEPTED, UNANSWERED, Attempt, FaultResult, Window, judge

PER_SHARD_MIN_S = 5.0  # bets sent per shard and second
PAUSE_MAX_S = 5.0  # the longest that any shard may go without an accepted bet
# A quarter more often than bettors of a drill: on a busy machine each shard still gets the bets that are wanted.
PACE = 1.25
# A bettor waits as long as a browser does by default: what waits is late, and is no refusal.
TRY_TIMEOUT_S = 10.0
ANSWERS_S = 20.0
JOINING_S = 120.0
WARM_UP_MAX_S = 30.0
# Who has no answer for longer waits for something.
WAITS_S = 1.0
# Access tokens last 10 minutes, and a bettor who is alone on a shard stakes about £850 a minute.
REFRESH_AFTER_S = 240.0
REFRESHED_AT_ONCE = 8
BETTING_MAX_S = 7_200.0
# Nothing that the bettors are asked to do takes half as long: it hangs.
WORK_MAX_S = 300.0
_CODE = re.compile(r"REFUSAL_CODE_(\w+)")
# What a market says that takes no bets: after the kick-off to a bettor who is late, before it by a fault.
NO_BETS = frozenset(("MARKET_NOT_OPEN", "MARKET_CLOSED", "MARKET_RESULTED"))
# The kick-off is a moment of the platform's clock. Clocks that NTP keeps are less apart than this; one machine has one.
CLOCKS_APART_S = 1.0

T = TypeVar("T")


@dataclass(frozen=True)
class Bets:
    """The bets of one phase. Times are in seconds, from when a bettor wanted the bet to its definite answer.

    refused: bets that were told "no" at least once, or met a broken connection, by what they met last; a bettor
    repeats them, and `accepted` counts those that were taken in the end. late: see is_late. pause_s: the longest
    that any shard accepted no bet. least_per_s: bets sent per second on the shard with the fewest. refused_at_s:
    when the first and the last of each reason was sent, from the phase's start. early_s: how long before the kick-off
    markets took no bets, least and most, by reason.
    """

    sent: int
    accepted: int
    refused: Counter[str]
    late: Counter[str]
    unanswered: int
    p50_s: float
    p99_s: float
    worst_s: float
    pause_s: float
    least_per_s: float
    refused_at_s: dict[str, tuple[float, float]] = field(default_factory=dict)
    early_s: dict[str, tuple[float, float]] = field(default_factory=dict)
    keys: frozenset[str] = field(repr=False, default=frozenset())

    def problems(self) -> list[str]:
        """What is wrong with them, a line each."""
        found = [
            f"{count} bets were refused, sent {first_s:.0f} to {last_s:.0f} s after the start: {why}{self._early(why)}"
            for why, count in self.refused.most_common(5)
            for first_s, last_s in [self.refused_at_s[why]]
        ]
        if self.unanswered:
            found.append(f"{self.unanswered} bets had no answer after {ANSWERS_S:.0f} s")
        if self.pause_s > PAUSE_MAX_S:
            found.append(f"a shard accepted no bet for {self.pause_s:.1f} s")
        if self.least_per_s < PER_SHARD_MIN_S:
            found.append(f"a shard had only {self.least_per_s:.1f} bets/s: the load was too small to prove anything")
        return found

    def _early(self, why: str) -> str:
        return "" if why not in self.early_s else " ({} to {} s before it)".format(*self.early_s[why])


def judged(attempts: Sequence[Attempt], shards: Sequence[int], began_s: float, ended_s: float) -> Bets:
    """The figures of the bets that were sent between two moments of the monotonic clock."""
    inside = [each for each in attempts if began_s <= each.sent_s < ended_s]
    refused: dict[str, list[float]] = defaultdict(list)
    early_s: dict[str, list[float]] = defaultdict(list)
    late: Counter[str] = Counter()
    accepted_at: dict[int, list[float]] = defaultdict(list)
    took_s = []
    for each in inside:
        if each.tries > 1:
            refused[reason(each.problem)].append(each.sent_s - began_s)
        if each.outcome == ACCEPTED and each.answered_s is not None:
            took_s.append(each.answered_s - each.sent_s)
            accepted_at[each.shard].append(each.answered_s)
        elif is_late(each):
            late[each.outcome] += 1
        elif each.outcome != UNANSWERED and each.tries <= 1:
            why = f"{each.outcome} before the kick-off" if each.outcome in NO_BETS else each.outcome
            refused[why].append(each.sent_s - began_s)
            if each.outcome in NO_BETS and each.past_closing_s is not None:
                early_s[why].append(-each.past_closing_s)
    took_s.sort()
    sent = Counter(each.shard for each in inside)
    return Bets(
        sent=len(inside),
        accepted=len(took_s),
        refused=Counter({why: len(at) for why, at in refused.items()}),
        late=late,
        unanswered=sum(each.outcome == UNANSWERED for each in inside),
        p50_s=_quantile(took_s, 0.5),
        p99_s=_quantile(took_s, 0.99),
        worst_s=took_s[-1] if took_s else float("inf"),
        pause_s=max(_longest_gap(accepted_at[shard], began_s, ended_s) for shard in shards),
        least_per_s=min(sent[shard] for shard in shards) / (ended_s - began_s),
        refused_at_s=_ranges(refused),
        early_s=_ranges(early_s),
        keys=frozenset(each.request_key for each in inside if each.acknowledged),
    )


def is_late(attempt: Attempt) -> bool:
    """Whether a refusal is the market's own word to a bettor who came a moment too late: no fault of the platform.

    A price that has moved always is. That the market takes no bets is, if the kick-off of the leg that the refusal is
    about had passed when its answer came, or was at most a second ahead (CLOCKS_APART_S). The kick-off is the market's
    `closes_at_us`, which bettors know from the prices they bet at: in the replayed season, too, it is a moment of the
    wall clock, fixed when the replay began. A bet that was sent before the kick-off and decided after it is late; one
    that was decided before it and answered after it is taken for late too, since answers do not say when they were
    decided. Everything else is a refusal: a market that is suspended, closed or unknown before its kick-off.
    """
    if attempt.outcome == "PRICE_MOVED":
        return True
    passed_s = attempt.past_closing_s
    return attempt.outcome in NO_BETS and passed_s is not None and passed_s >= -CLOCKS_APART_S


def reason(problem: str) -> str:
    """What a bet met, in a few words: the platform's own code, or what the connection said."""
    found = _CODE.search(problem)
    return found[1] if found else re.sub(r"shard \d+", "shard N", problem[:100])


def _ranges(found_s: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    return {why: (round(min(each), 1), round(max(each), 1)) for why, each in found_s.items()}


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("inf")


def _longest_gap(accepted_s: Sequence[float], began_s: float, ended_s: float) -> float:
    moments = [began_s, *sorted(at for at in accepted_s if at < ended_s), ended_s]
    return max(after - before for before, after in pairwise(moments))


class Load:
    """Bettors of one platform. A context manager: leaving it ends the thread; all acknowledgements are written then."""

    def __init__(self, gateway_url: str, shard_count: int, acks_path: Path) -> None:
        self._gateway_url = gateway_url
        self._shard_count = shard_count
        self._acks_path = acks_path
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bettors", daemon=True)
        self._open = AsyncExitStack()
        self._client: ConnectClient | None = None
        self._betting: BettingClient | None = None
        self._catalogue: Catalogue | None = None
        self._acks: acks.AckFile | None = None
        self._bettors: list[Bettor] = []
        self._refreshed_s = float("-inf")
        self._balances: dict[str, int] = {}
        self._pool: BettorPool | None = None
        self.all_keys: set[str] = set()

    def __enter__(self) -> Load:
        self._thread.start()
        self._run(self._connect())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._open.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    # --- single bettors, for the first bet of a new platform

    def answers(self) -> bool:
        """Whether the gateway answers a question that needs no account."""
        return self._run(self._answers())

    def first_bettor(self) -> Bettor:
        """Registers one bettor with money, as soon as that works."""
        until_s = time.monotonic() + JOINING_S
        assert self._client is not None
        bettor = self._run(register(self._client, 0, self._shard_count, until_s))
        assert self._betting is not None
        self._run(self._betting.deposit(bettor, until_s))
        return bettor

    def bet_on_everything(self, bettor: Bettor) -> int:
        """One bet on every event that is open. Returns how many were accepted."""
        return self._run(self._bet_on_everything(bettor))

    def settled_bets(self, bettor: Bettor) -> int:
        """How many of the bettor's bets are settled, at most a page."""
        reply = self._call("betting.v1.BetService/ListSettledBets", {"currency": CURRENCY}, bettor)
        return len(reply.get("bets", []))

    # --- all bettors

    def gather(self) -> None:
        """Registers bettors with money until every shard has one."""
        if self._bettors:
            return
        assert self._client is not None
        assert self._betting is not None
        until_s = time.monotonic() + JOINING_S
        self._bettors = self._run(gather_bettors(self._client, self._betting, self._shard_count, until_s))
        self._refreshed_s = time.monotonic()
        say(f"{len(self._bettors)} bettors with money on {self._shard_count} shards")

    @contextmanager
    def phase(self) -> Iterator[list[Bets]]:
        """Bets for the length of a block; the list holds the figures once it has ended."""
        self.gather()
        if time.monotonic() - self._refreshed_s > REFRESH_AFTER_S:
            self._run(self._refresh())
        assert self._betting is not None
        assert self._catalogue is not None
        until_s = time.monotonic() + BETTING_MAX_S
        pool = self._pool = BettorPool(
            self._betting, self._catalogue, self._bettors, answers_until_s=until_s, pace=PACE
        )
        self._run(self._catalogue.refresh())
        background = self._run(self._begin(pool))
        figures: list[Bets] = []
        try:
            warm_up_s = time.monotonic()
            wait_for("every shard accepts bets", lambda: min(pool.last_accepted_s()) > warm_up_s, WARM_UP_MAX_S)
            began_s = time.monotonic()
            yield figures
            ended_s = time.monotonic()
            _wait_for_answers(pool, began_s, ended_s)
        finally:
            self._run(_end(background))
            self._run(pool.answers(0.0))
        found = judged(list(pool.attempts), pool.shards, began_s, ended_s)
        self.all_keys |= {each.request_key for each in pool.attempts if each.acknowledged}
        figures.append(found)

    def outage(self, fault_s: float, until_s: float) -> FaultResult:
        """The effect of a fault on the bets of the present phase, between two moments of the monotonic clock."""
        assert self._pool is not None
        return judge(Window("", fault_s, until_s), list(self._pool.attempts), self._pool.shards)

    @contextmanager
    def pace(self, times: float) -> Iterator[None]:
        """So many times as many bets as usual in the present phase, for the length of a block."""
        assert self._pool is not None
        pool, usual = self._pool, self._pool.pace
        pool.pace = usual * times
        try:
            yield
        finally:
            pool.pace = usual

    def slowest_s(self, fault_s: float) -> float | None:
        """The longest that a bet which was wanted at the fault or later, or waited then, had no answer since.

        None: one has waited for a while and has none yet.
        """
        assert self._pool is not None
        now_s = time.monotonic()
        attempts = list(self._pool.attempts)
        if any(each.answered_s is None and now_s - each.sent_s > WAITS_S for each in attempts):
            return None
        ends = [(each.sent_s, each.answered_s or now_s) for each in attempts]
        return max((ended_s - max(sent_s, fault_s) for sent_s, ended_s in ends if ended_s > fault_s), default=0.0)

    @contextmanager
    def asking_for_balances(
        self, interval_s: float, timeout_s: float, heard: Callable[[float, float, bool], None]
    ) -> Iterator[None]:
        """Asks for a balance at this interval for the length of a block.

        heard: called with when each call began and ended, and whether it was answered in time.
        """
        task = self._run(self._start(self._keep_asking(interval_s, timeout_s, heard)))
        try:
            yield
        finally:
            self._run(_end([task]))

    def quiet_for_s(self) -> float:
        """How long the shard that has waited longest has accepted no bet."""
        assert self._pool is not None
        return time.monotonic() - min(self._pool.last_accepted_s())

    def closed_loop(self, connections: int, for_s: float) -> list[float]:
        """The seconds that each bet took, of so many bettors who bet again as soon as they have an answer."""
        self.gather()
        assert self._catalogue is not None
        self._run(self._catalogue.refresh())
        return self._run(self._closed_loop(connections, for_s))

    def note_balances(self) -> int:
        """Remembers what every bettor has; returns the sum, in minor units."""
        self._balances = self._run(self._ask_balances())
        return sum(self._balances.values())

    def changed_balances(self) -> list[str]:
        """The bettors whose balance is less than was noted: bets that were settled meanwhile can only have added."""
        now = self._run(self._ask_balances())
        return [f"{user}: {was} before, {now.get(user)} now" for user, was in self._balances.items() if now[user] < was]

    # --- in the thread of the bettors

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WORK_MAX_S)

    def _call(self, method: str, body: dict[str, Any], bettor: Bettor) -> dict[str, Any]:
        assert self._client is not None
        try:
            return self._run(self._client.call(method, body, token=bettor.token, timeout_s=5.0))
        except CallFailed as error:
            if not error.retryable:
                raise Failed(f"{method}: {error}") from error
            return {}

    async def _connect(self) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        session = await self._open.enter_async_context(aiohttp.ClientSession(connector=connector))
        self._acks = await self._open.enter_async_context(acks.writing(self._acks_path))
        self._client = ConnectClient(session, self._gateway_url)
        self._betting = BettingClient(self._client, self._acks, TRY_TIMEOUT_S)
        self._catalogue = Catalogue(self._client)

    async def _answers(self) -> bool:
        assert self._client is not None
        with suppress(CallFailed):
            await self._client.call("betting.v1.EventService/ListEvents", {"pageSize": 1}, timeout_s=2.0)
            return True
        return False

    async def _begin(self, pool: BettorPool) -> list[asyncio.Task[None]]:
        assert self._catalogue is not None
        return [asyncio.create_task(self._catalogue.keep_fresh()), asyncio.create_task(pool.keep_betting())]

    async def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(work)

    async def _keep_asking(
        self, interval_s: float, timeout_s: float, heard: Callable[[float, float, bool], None]
    ) -> None:
        client, asked = self._client, itertools.cycle(self._bettors)
        assert client is not None

        async def ask(bettor: Bettor) -> None:
            began_s, works = time.monotonic(), False
            with suppress(CallFailed):
                body = {"currency": CURRENCY}
                await client.call("betting.v1.WalletService/GetBalance", body, token=bettor.token, timeout_s=timeout_s)
                works = True
            heard(began_s, time.monotonic(), works)

        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(ask(next(asked)))
                await asyncio.sleep(interval_s)

    async def _refresh(self) -> None:
        """Everybody logs in again and pays in again."""
        assert self._client is not None
        client, gate, until_s = self._client, asyncio.Semaphore(REFRESHED_AT_ONCE), time.monotonic() + JOINING_S

        async def refresh(bettor: Bettor) -> None:
            body = {"email": bettor.email, "password": bettor.password}

            async def log_in() -> dict[str, Any]:
                return await client.call("betting.v1.UserService/Login", body, timeout_s=SIGN_IN_TIMEOUT_S)

            async with gate:
                bettor.token = (await repeat(log_in, until_s))["tokens"]["accessToken"]
                assert self._betting is not None
                await self._betting.deposit(bettor, until_s)

        await asyncio.gather(*(refresh(each) for each in self._bettors))
        self._refreshed_s = time.monotonic()

    async def _bet_on_everything(self, bettor: Bettor) -> int:
        assert self._catalogue is not None
        assert self._betting is not None
        await self._catalogue.refresh()
        legs = self._catalogue.pick(random.Random(1), self._catalogue.events)
        until_s = time.monotonic() + JOINING_S
        attempts = [Attempt(bettor.shard, time.monotonic()) for _ in legs]
        for attempt, leg in zip(attempts, legs, strict=True):
            await self._betting.bet(attempt, bettor, [leg], random.Random(1), until_s)
        self.all_keys |= {each.request_key for each in attempts if each.acknowledged}
        return sum(each.outcome == ACCEPTED for each in attempts)

    async def _closed_loop(self, connections: int, for_s: float) -> list[float]:
        took_s: list[float] = []
        ends_s = time.monotonic() + for_s

        async def keep_betting(number: int) -> None:
            assert self._betting is not None
            assert self._catalogue is not None
            draw, bettor = random.Random(number), self._bettors[number % len(self._bettors)]
            while (began_s := time.monotonic()) < ends_s:
                attempt = Attempt(bettor.shard, began_s)
                legs = self._catalogue.pick(draw, 1)
                await self._betting.bet(attempt, bettor, legs, draw, ends_s + ANSWERS_S)
                self.all_keys |= {attempt.request_key} if attempt.acknowledged else set()
                if attempt.outcome == ACCEPTED:
                    took_s.append(time.monotonic() - began_s)

        await asyncio.gather(*(keep_betting(number) for number in range(connections)))
        return took_s

    async def _ask_balances(self) -> dict[str, int]:
        assert self._client is not None
        client, until_s = self._client, time.monotonic() + JOINING_S

        async def ask(bettor: Bettor) -> int:
            async def balance() -> dict[str, Any]:
                body = {"currency": CURRENCY}
                return await client.call("betting.v1.WalletService/GetBalance", body, token=bettor.token, timeout_s=5.0)

            reply = await repeat(balance, until_s)
            return int(reply["balance"].get("cashMinor", 0))

        await self._refresh_tokens_if_old()
        return {each.user_id: await ask(each) for each in self._bettors}

    async def _refresh_tokens_if_old(self) -> None:
        if time.monotonic() - self._refreshed_s > REFRESH_AFTER_S:
            await self._refresh()


def _wait_for_answers(pool: BettorPool, began_s: float, ended_s: float) -> None:
    deadline_s = time.monotonic() + ANSWERS_S
    while time.monotonic() < deadline_s:
        sent = [each for each in pool.attempts if began_s <= each.sent_s < ended_s]
        if all(each.answered_s is not None for each in sent):
            return
        time.sleep(0.2)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for each in tasks:
        each.cancel()
    await asyncio.wait(tasks)
