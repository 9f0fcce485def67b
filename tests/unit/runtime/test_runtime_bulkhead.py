"""The bulkhead: bounds, fairness, deadlines, and no place ever lost or doubled."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from betting.runtime.bulkhead import Bulkhead
from betting.runtime.errors import ServiceError


async def test_a_free_place_is_taken_at_once() -> None:
    """Up to the limit nobody waits."""
    bulkhead = Bulkhead("x", in_flight_max=2, queued_max=0)
    await bulkhead.enter(None)
    assert bulkhead.try_enter()
    assert not bulkhead.try_enter()
    assert bulkhead.statistics().in_flight == 2


async def test_over_both_limits_is_overloaded() -> None:
    """With places and queue full, the next is told so at once, by code and reason."""
    bulkhead = Bulkhead("wallet-service", in_flight_max=1, queued_max=1)
    await bulkhead.enter(None)
    waiting = asyncio.ensure_future(bulkhead.enter(None))
    await asyncio.sleep(0)
    with pytest.raises(ServiceError) as caught:
        await bulkhead.enter(1.0)
    assert (caught.value.code.name, caught.value.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    assert bulkhead.statistics().rejected_total == 1
    bulkhead.leave()
    await waiting


async def test_waiters_are_served_in_order_and_newcomers_do_not_overtake() -> None:
    """A freed place goes to who waits longest, also when a newcomer asks in the same instant."""
    bulkhead = Bulkhead("x", in_flight_max=1, queued_max=5)
    await bulkhead.enter(None)
    order: list[int] = []

    async def one(number: int) -> None:
        async with bulkhead.place(None):
            order.append(number)

    tasks = [asyncio.ensure_future(one(number)) for number in range(3)]
    await asyncio.sleep(0)
    bulkhead.leave()
    assert not bulkhead.try_enter()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2]
    assert bulkhead.statistics().in_flight == 0


async def test_nobody_waits_longer_than_the_bulkhead_says() -> None:
    """Whoever has more time of their own is refused as overloaded, and leaves no trace in the queue."""
    bulkhead = Bulkhead("x", in_flight_max=1, queued_max=5, wait_max_s=0.001)
    await bulkhead.enter(None)
    for timeout_s in (None, 60.0):
        with pytest.raises(ServiceError) as caught:
            await bulkhead.enter(timeout_s)
        assert (caught.value.code.name, caught.value.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    assert bulkhead.statistics().queued == 0
    bulkhead.leave()
    assert bulkhead.try_enter()


async def test_a_deadline_in_the_queue_ends_the_wait() -> None:
    """Whoever waits too long gets DEADLINE_EXCEEDED and leaves no trace in the queue."""
    bulkhead = Bulkhead("x", in_flight_max=1, queued_max=5)
    await bulkhead.enter(None)
    with pytest.raises(ServiceError) as caught:
        await bulkhead.enter(0.001)
    assert (caught.value.code.name, caught.value.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_IN_QUEUE")
    assert bulkhead.statistics().queued == 0
    assert bulkhead.statistics().expired_total == 1
    bulkhead.leave()
    assert bulkhead.try_enter()


async def test_a_cancelled_waiter_hands_on_the_place_it_was_just_given() -> None:
    """Cancelled in the very instant the place came: the place is free again, not lost."""
    bulkhead = Bulkhead("x", in_flight_max=1, queued_max=5)
    await bulkhead.enter(None)
    waiter = asyncio.ensure_future(bulkhead.enter(None))
    await asyncio.sleep(0)
    bulkhead.leave()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert bulkhead.statistics().in_flight == 0
    assert bulkhead.try_enter()


async def test_giving_back_twice_is_caught() -> None:
    """A place given back twice would let one too many in: it is an assertion."""
    bulkhead = Bulkhead("x")
    await bulkhead.enter(None)
    bulkhead.leave()
    with pytest.raises(AssertionError):
        bulkhead.leave()


@settings(max_examples=80, deadline=None)
@given(
    in_flight_max=st.integers(1, 3),
    queued_max=st.integers(0, 3),
    steps=st.lists(st.sampled_from(["enter", "leave", "cancel-first", "cancel-last"]), max_size=40),
)
def test_agrees_with_a_plain_model(in_flight_max: int, queued_max: int, steps: list[str]) -> None:
    """Random comings, goings and cancellations give the counts that two lists of names give."""

    async def scenario() -> None:
        bulkhead = Bulkhead("x", in_flight_max=in_flight_max, queued_max=queued_max)
        inside = 0
        queue: deque[asyncio.Future[None]] = deque()
        for step in steps:
            if step == "enter":
                task: asyncio.Future[None] = asyncio.ensure_future(bulkhead.enter(None))
                await asyncio.sleep(0)
                if inside < in_flight_max:
                    inside += 1
                    await task
                elif len(queue) < queued_max:
                    queue.append(task)
                else:
                    with pytest.raises(ServiceError):
                        await task
            elif step == "leave" and inside:
                bulkhead.leave()
                if queue:
                    await queue.popleft()
                else:
                    inside -= 1
            elif step.startswith("cancel") and queue:
                task = queue.popleft() if step == "cancel-first" else queue.pop()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            statistics = bulkhead.statistics()
            assert (statistics.in_flight, statistics.queued) == (inside, len(queue))
        for task in queue:
            task.cancel()
        await asyncio.gather(*queue, return_exceptions=True)

    asyncio.run(scenario())
