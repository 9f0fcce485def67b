"""The rules of leadership: what one life of the operator does about the Lease, and that never two lead at once."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from betting_operator.kubernetes.candidate import (
    CLOCK_RATE_ERROR,
    DURATION_MAX_S,
    DURATION_S,
    POLL_EVERY_S,
    RENEW_DEADLINE_S,
    RETRY_S,
    Acquire,
    Candidate,
    Decision,
    Lease,
    Read,
    Renew,
    Seen,
    Wait,
    Write,
    decide,
)
from betting_operator.kubernetes.client import AwayError, ConflictError
from betting_operator.kubernetes.elector import REQUEST_TIMEOUT_S, WATCHDOG_EVERY_S

THEIRS = Lease("them", "1")


@pytest.mark.parametrize(
    ("lease", "unchanged_s", "leading", "expected"),
    [
        (Lease("me", "1"), 0.0, True, Renew()),
        (Lease("me", "1"), 0.0, False, Renew()),  # taken by a request whose answer was lost
        (Lease("", "1"), 0.0, False, Acquire()),
        (THEIRS, 0.0, False, Wait(DURATION_S)),
        (THEIRS, DURATION_S - 1, False, Wait(1.0)),
        (THEIRS, DURATION_S, False, Acquire()),
        (Lease("them", "1", duration_s=30), DURATION_S, False, Wait(30 - DURATION_S)),
        (Lease("them", "1", duration_s=1), 1.0, False, Wait(DURATION_S - 1)),
        (Lease("them", "1", duration_s=1e9), DURATION_MAX_S, False, Acquire()),
        (None, 0.0, False, Acquire()),
        (None, 0.0, True, Renew()),
    ],
)
def test_what_is_done_about_a_lease(lease: Lease | None, unchanged_s: float, leading: bool, expected: Decision) -> None:
    """A row for each case."""
    assert decide(Seen(lease, 100.0), 100.0 + unchanged_s, "me", leading=leading) == expected


class Clock:
    """Moved by the test."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def elected(clock: Clock) -> Candidate:
    """A candidate that has just taken a released Lease; its write began at the clock's time."""
    candidate = Candidate("me", clock)
    requests = candidate.round()
    assert next(requests) == Read()
    assert requests.send(Lease("", "1")) == Write(Lease("", "1"), "me", 1)
    answered(requests, Lease("me", "2", 1))
    assert candidate.leads()
    return candidate


def after_a_conflict(candidate: Candidate) -> Generator[Read | Write, Lease | None, float]:
    """Its renewal meets one; this is the round after it, which waits for what the Lease is now."""
    requests = candidate.round()
    assert isinstance(next(requests), Write)
    with pytest.raises(StopIteration):
        requests.throw(ConflictError(409, "changed"))
    requests = candidate.round()
    assert next(requests) == Read()
    return requests


def answered(requests: Generator[Read | Write, Lease | None, float], answer: Lease | None) -> float:
    """The pause after a round that this answer ends."""
    with pytest.raises(StopIteration) as end:
        requests.send(answer)
    pause_s: float = end.value.value
    return pause_s


def test_leadership_is_counted_from_the_start_of_the_renewal() -> None:
    """However late the answer was."""
    clock = Clock()
    candidate = elected(clock)
    clock.now_s += 2.0
    requests = candidate.round()
    assert isinstance(next(requests), Write)
    clock.now_s += 1.5
    answered(requests, Lease("me", "3", 1))
    clock.now_s += RENEW_DEADLINE_S - 1.5 - 0.01
    assert candidate.leads()
    clock.now_s += 0.01
    assert not candidate.leads()


def test_a_renewal_after_the_deadline_does_not_bring_leadership_back() -> None:
    """A process that was stopped between request and answer never leads again, though it still holds the Lease."""
    clock = Clock()
    candidate = elected(clock)
    clock.now_s += 2.0
    requests = candidate.round()
    assert isinstance(next(requests), Write)
    clock.now_s += 2.5
    assert not candidate.leads()
    answered(requests, Lease("me", "3", 1))
    assert not candidate.leads()
    assert candidate.lost == "no renewal succeeded for 4 s"


def test_the_lease_in_other_hands_ends_leadership_before_the_deadline() -> None:
    """Its renewal meets a conflict, then it reads who has it."""
    candidate = elected(Clock())
    requests = after_a_conflict(candidate)
    answered(requests, Lease("them", "9"))
    assert candidate.lost == "them holds the Lease"


def test_a_lease_that_somebody_else_edited_is_renewed_over_the_edit() -> None:
    """An annotation by kubectl costs one more request, not the leadership."""
    candidate = elected(Clock())
    requests = after_a_conflict(candidate)
    assert requests.send(Lease("me", "7", 1)) == Write(Lease("me", "7", 1), "me", 1)
    answered(requests, Lease("me", "8", 1))
    assert candidate.leads()


def test_who_creates_the_lease_leads_only_after_it_has_held_it() -> None:
    """It may have been deleted by hand while another leads. It is renewed meanwhile."""
    clock = Clock()
    candidate = Candidate("me", clock)
    requests = candidate.round()
    assert next(requests) == Read()
    assert requests.send(None) == Write(None, "me", 0)
    answered(requests, Lease("me", "1"))
    for version in range(1, 4):
        assert not candidate.leads()
        clock.now_s += DURATION_S / 3
        requests = candidate.round()
        assert next(requests) == Read()
        assert requests.send(Lease("me", str(version))) == Write(Lease("me", str(version)), "me", 0)
        answered(requests, Lease("me", str(version + 1)))
    assert candidate.leads()


def test_it_has_stopped_leading_before_it_asks_to_release() -> None:
    """And it releases only what it holds."""
    clock = Clock()
    candidate = elected(clock)
    requests = candidate.release()
    assert next(requests) == Write(Lease("me", "2", 1), "", 1)
    assert not candidate.leads()
    assert list(Candidate("other", clock).release()) == []


# --- all of it together, against a simulated API server


@dataclass(frozen=True)
class Replica:
    """One replica of the operator: how its clock runs, and when it is stopped (from, to) or killed, in real seconds."""

    clock_rate: float
    clock_offset_s: float
    stops: tuple[tuple[float, float], ...]
    kills: tuple[float, ...]


@dataclass
class World:
    """Real time, the Lease, and what happens to requests."""

    seed: int
    outages: tuple[tuple[float, float], ...]
    slow: tuple[tuple[float, float], ...]
    deletions: tuple[float, ...]
    now_s: float = 0.0
    lease: Lease | None = None
    versions: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    queue: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def at(self, time_s: float, do: Callable[[], None]) -> None:
        heapq.heappush(self.queue, (time_s, next(self.numbers), do))

    def run(self, until_s: float, observe: Callable[[], None]) -> None:
        for deleted_s in self.deletions:
            self.at(deleted_s, self.delete)
        while self.queue and self.queue[0][0] <= until_s:
            self.now_s, _, do = heapq.heappop(self.queue)
            do()
            observe()

    def delete(self) -> None:
        self.lease = None

    def serve(self, request: Read | Write) -> Lease | ConflictError | None:
        """Compare and set."""
        if isinstance(request, Read):
            return self.lease
        if request.over != self.lease:
            return ConflictError(409, "changed")
        self.lease = Lease(request.holder, str(next(self.versions)), request.transitions)
        return self.lease

    def delay_s(self) -> float:
        slow = any(begin <= self.now_s < end for begin, end in self.slow)
        return self.random.expovariate(1 / 0.7) if slow else self.random.uniform(0.001, 0.02)

    def away(self) -> bool:
        return any(begin <= self.now_s < end for begin, end in self.outages)


class Process:
    """Lives of one replica, one after the other: a round, a pause, a round; and a watchdog."""

    def __init__(self, name: str, replica: Replica, world: World) -> None:
        self.name, self.replica, self.world = name, replica, world
        self.lives = itertools.count(1)
        self.candidate = self.born()
        for killed_s in replica.kills:
            world.at(killed_s, self.end)
        world.at(0.0, self.watch)

    def clock(self) -> float:
        return self.replica.clock_offset_s + self.replica.clock_rate * self.world.now_s

    def born(self) -> Candidate:
        self.candidate = Candidate(f"{self.name}@{next(self.lives)}", self.clock)
        self.later(0.3, self.begin)
        return self.candidate

    def end(self) -> None:
        """The process is replaced by another; what it has asked for may still happen."""
        self.candidate.lose("killed")
        self.born()

    def later(self, own_s: float, do: Callable[[], None]) -> None:
        """After so long by its own clock, once it is not stopped, unless this life has ended."""
        candidate = self.candidate

        def when_running() -> None:
            for begin, end in self.replica.stops:
                if begin <= self.world.now_s < end:
                    self.world.at(end, when_running)
                    return
            if candidate is self.candidate:
                do()

        self.world.at(self.world.now_s + own_s / self.replica.clock_rate, when_running)

    def watch(self) -> None:
        self.candidate.check()
        if self.candidate.lost:
            self.born()
        # a process that is stopped does not watch
        ends = [end for begin, end in self.replica.stops if begin <= self.world.now_s < end]
        self.world.at(max([self.world.now_s + WATCHDOG_EVERY_S, *ends]), self.watch)

    def begin(self) -> None:
        requests = self.candidate.round()
        self.ask(requests, lambda: next(requests))

    def ask(self, requests: Generator[Read | Write, Lease | None, float], step: Callable[[], Read | Write]) -> None:
        """Goes on until the next request, and sends it."""
        try:
            request = step()
        except StopIteration as end:
            self.later(end.value, self.begin)
            return
        except AwayError:
            self.later(RETRY_S if self.candidate.has_led else POLL_EVERY_S, self.begin)
            return
        waits = [True]
        if not self.world.away():
            self.world.at(self.world.now_s + self.world.delay_s(), lambda: self.arrive(requests, request, waits))
        self.later(REQUEST_TIMEOUT_S, lambda: self.proceed(requests, AwayError(0, "no answer"), waits))

    def arrive(
        self, requests: Generator[Read | Write, Lease | None, float], request: Read | Write, waits: list[bool]
    ) -> None:
        answer = self.world.serve(request)
        own_s = self.world.delay_s() * self.replica.clock_rate
        self.later(own_s, lambda: self.proceed(requests, answer, waits))

    def proceed(
        self,
        requests: Generator[Read | Write, Lease | None, float],
        answer: Lease | Exception | None,
        waits: list[bool],
    ) -> None:
        if not waits.pop():
            return
        waits.append(False)
        if isinstance(answer, Exception):
            self.ask(requests, lambda: requests.throw(answer))
        else:
            self.ask(requests, lambda: requests.send(answer))


FAULTS_END_S = 40.0
END_S = FAULTS_END_S + 20.0
MOMENT = st.floats(0, FAULTS_END_S)
SPAN = st.tuples(MOMENT, st.floats(0.1, 15)).map(lambda span: (span[0], min(span[0] + span[1], FAULTS_END_S)))
SPANS = st.lists(SPAN, max_size=3).map(tuple)
MOMENTS = st.lists(MOMENT, max_size=3).map(tuple)
REPLICAS = st.builds(
    Replica,
    clock_rate=st.floats(1 - CLOCK_RATE_ERROR, 1 + CLOCK_RATE_ERROR),
    clock_offset_s=st.floats(0, 1e6),
    stops=SPANS,
    kills=MOMENTS,
)
WORLDS = st.builds(World, seed=st.integers(0, 2**32), outages=SPANS, slow=SPANS, deletions=MOMENTS)


@settings(max_examples=200, deadline=None)
@given(world=WORLDS, replicas=st.lists(REPLICAS, min_size=2, max_size=3))
def test_never_two_lead_and_in_the_end_one_does(world: World, replicas: list[Replica]) -> None:
    """With wrong clocks, stopped and killed processes, an API server away or slow, late writes, a Lease deleted."""
    processes = [Process(f"replica-{number}", replica, world) for number, replica in enumerate(replicas)]

    def observe() -> None:
        leaders = [each.candidate.identity for each in processes if each.candidate.leads()]
        assert len(leaders) <= 1, f"at {world.now_s:.3f} s"

    world.run(END_S, observe)
    assert [each for each in processes if each.candidate.leads()] != []
