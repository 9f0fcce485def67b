"""The rules of quotes and producers in virtual time: hand-made cases, then random histories."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from betting.odds import board as boards
from betting.odds.board import Board, BoardUpdate
from betting.odds.quotes import (
    ALIVE,
    CLOSED,
    FINAL,
    LIVE,
    OPEN,
    RECOVERING,
    RESULTED,
    SILENT,
    SUSPENDED,
    VOID,
    Offer,
    Producer,
    Publication,
    Quote,
    SelectionPrice,
)
from betting.runtime.errors import ServiceError

SECOND = 1_000_000
SILENCE = 20 * SECOND


def offer(market_id: int = 1, status: int = OPEN, price: int = 91, closes: int = 10_000 * SECOND) -> Offer:
    return Offer(market_id, market_id + 1000, status, closes, (SelectionPrice(1, price, 100),))


def publish(board: Board, now: int, *offers: Offer, snapshot: bool = False, producer: str = "a") -> BoardUpdate:
    """What desk does: time first, then the sign of life, then the publication."""
    board.commit(board.plan_time(now))
    board.heard(producer, now)
    plan = board.plan_publication(Publication(producer, producer.upper(), offers, snapshot), now)
    board.commit(plan)
    return plan


def test_a_new_producer_opens_with_its_snapshot() -> None:
    """Before it, markets are suspended and stale and a snapshot is wanted; with it they open."""
    board = Board(SILENCE)
    publish(board, 0, offer())
    quote, producer = board.quote(1, 0), board.producer("a")
    assert quote is not None
    assert (quote.status, quote.stale, quote.version) == (SUSPENDED, True, 1)
    assert producer is not None
    assert (producer.status, producer.wants_snapshot) == (RECOVERING, True)
    publish(board, 1, offer(), snapshot=True)
    quote, producer = board.quote(1, 1), board.producer("a")
    assert quote is not None
    assert (quote.status, quote.stale, quote.version) == (OPEN, False, 2)
    assert producer is not None
    assert (producer.status, producer.wants_snapshot) == (ALIVE, False)


def test_silence_is_over_twenty_seconds_not_twenty() -> None:
    """At exactly the limit nothing happens; one microsecond later the markets are suspended, once."""
    board = Board(SILENCE)
    publish(board, 0, offer(), snapshot=True)
    assert not board.plan_time(SILENCE)
    plan = board.plan_time(SILENCE + 1)
    assert [(quote.status, quote.stale, quote.version) for quote in plan.quotes] == [(SUSPENDED, True, 2)]
    assert [producer.status for producer in plan.producers] == [SILENT]
    board.commit(plan)
    assert not board.plan_time(100 * SILENCE)


def test_planning_changes_nothing() -> None:
    """A plan that is never committed (the database refused it) can be made again, and is the same."""
    board = Board(SILENCE)
    publish(board, 0, offer(1), offer(2, closes=5 * SECOND), snapshot=True)
    assert board.plan_time(SILENCE + 1) == board.plan_time(SILENCE + 1)
    assert len(board.plan_time(SILENCE + 1).quotes) == 2
    publication = Publication("a", "A", (offer(1, price=99),), snapshot=True)
    assert board.plan_publication(publication, 1) == board.plan_publication(publication, 1)


def test_a_later_closing_time_keeps_a_market_open() -> None:
    """A postponed market closes at its new time, not at the old one; a closed one may open again if postponed then."""
    board = Board(SILENCE)
    publish(board, 0, offer(closes=5 * SECOND), snapshot=True)
    publish(board, 1, offer(closes=9 * SECOND))
    board.commit(board.plan_time(6 * SECOND))
    assert board.quote(1, 6 * SECOND).status == OPEN  # type: ignore[union-attr]
    board.commit(board.plan_time(9 * SECOND))
    assert board.quote(1, 9 * SECOND).status == CLOSED  # type: ignore[union-attr]
    publish(board, 9 * SECOND, offer(closes=12 * SECOND))
    assert board.quote(1, 9 * SECOND).status == OPEN  # type: ignore[union-attr]


def test_a_void_market_may_get_a_result_but_never_opens() -> None:
    """Corrections pass between the final statuses; offers to reopen are dropped and counted."""
    board = Board(SILENCE)
    publish(board, 0, offer(), snapshot=True)
    publish(board, 1, offer(status=VOID))
    assert publish(board, 2, offer(status=OPEN)).dropped == 1
    publish(board, 3, offer(status=RESULTED))
    assert board.quote(1, 3).status == RESULTED  # type: ignore[union-attr]


def test_bounds_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """One market or producer too many refuses the whole publication."""
    monkeypatch.setattr(boards, "MARKETS_MAX", 2)
    board = Board(SILENCE)
    publish(board, 0, offer(1), snapshot=True)
    with pytest.raises(ServiceError, match="TOO_MANY_MARKETS"):
        publish(board, 1, offer(2), offer(3))
    assert len(board) == 1
    monkeypatch.setattr(boards, "PRODUCERS_MAX", 1)
    with pytest.raises(ServiceError, match="TOO_MANY_PRODUCERS"):
        publish(board, 1, offer(4), producer="b")
    with pytest.raises(ServiceError, match="TOO_MANY_PRODUCERS"):
        publish(board, 1, producer="c")


def test_what_is_over_is_forgotten_in_time() -> None:
    """Resulted markets go after ten minutes, closed ones after a day, live ones never; adopting brings one back."""
    board = Board(SILENCE)
    publish(board, 0, offer(1, RESULTED), offer(2, CLOSED), offer(3, closes=boards.KEEP_CLOSED_US * 9), snapshot=True)
    resulted = board.quote(1, 0)
    assert board.evict(boards.KEEP_FINAL_US) == 0
    assert board.evict(boards.KEEP_FINAL_US + 1) == 1
    assert board.evict(boards.KEEP_CLOSED_US + 1) == 1
    assert (1 in board, 2 in board, 3 in board) == (False, False, True)
    assert resulted is not None
    assert board.adopt([resulted]) == [resulted]
    assert board.adopt([resulted]) == []


def test_adopting_keeps_the_latest_sign_of_life() -> None:
    """What the database says of a producer wins, except that it was heard since."""
    board = Board(SILENCE)
    publish(board, 5, snapshot=True)
    board.adopt([], [Producer("a", "A", ALIVE, 3, wants_snapshot=True)])
    producer = board.producer("a")
    assert producer is not None
    assert (producer.last_alive_at_us, producer.wants_snapshot) == (5, True)


_OFFERS = st.builds(
    offer,
    market_id=st.integers(1, 4),
    status=st.sampled_from([OPEN, OPEN, OPEN, SUSPENDED, CLOSED, RESULTED, VOID]),
    price=st.integers(1, 3),
    closes=st.sampled_from([30 * SECOND, 60 * SECOND, 10**12]),
)


class BoardMachine(RuleBasedStateMachine):
    """Two producers publish, fall silent and come back while time passes; the rules are checked after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.board = Board(SILENCE)
        self.now = 0
        self.versions: dict[int, int] = {}
        self.final: set[int] = set()
        self.heard: dict[str, int] = {}
        # A producer is trusted from a snapshot of its own until it falls silent.
        self.trusted: set[str] = set()

    def commit(self, plan: BoardUpdate) -> None:
        for quote in plan.quotes:
            assert quote.version == self.versions.get(quote.market_id, 0) + 1
            assert quote.market_id not in self.final or quote.status in FINAL
            before = self.board.quote(quote.market_id, 0)
            assert before is None or replace(before, version=0, changed_at_us=0) != replace(
                quote, version=0, changed_at_us=0
            ), "a version that changes nothing"
            self.versions[quote.market_id] = quote.version
            if quote.status in FINAL:
                self.final.add(quote.market_id)
        self.board.commit(plan)

    def pass_time(self) -> None:
        for producer, at in self.heard.items():
            if self.now - at > SILENCE:
                self.trusted.discard(producer)
        self.commit(self.board.plan_time(self.now))

    @rule(seconds=st.sampled_from([0, 1, 5, 19, 21, 40]))
    def wait(self, seconds: int) -> None:
        self.now += seconds * SECOND
        self.pass_time()

    @rule(
        producer=st.sampled_from(["a", "b"]),
        offers=st.lists(_OFFERS, max_size=4, unique_by=lambda each: each.market_id),
        snapshot=st.booleans(),
    )
    def publish(self, producer: str, offers: list[Offer], snapshot: bool) -> None:
        # Markets 1 and 2 are a's, 3 and 4 are b's.
        own = tuple(each for each in offers if (each.market_id <= 2) == (producer == "a"))
        others = {quote.market_id: quote for quote in self.quotes() if quote.producer_id != producer}
        self.pass_time()
        others_after_time = {quote.market_id: quote for quote in self.quotes() if quote.producer_id != producer}
        self.board.heard(producer, self.now)
        self.commit(self.board.plan_publication(Publication(producer, "P", own, snapshot), self.now))
        self.heard[producer] = self.now
        if snapshot:
            self.trusted.add(producer)
            kept = {each.market_id for each in own}
            assert not [
                q for q in self.quotes() if q.producer_id == producer and q.status in LIVE and q.market_id not in kept
            ]
        assert others.keys() == others_after_time.keys()
        assert others_after_time == {q.market_id: q for q in self.quotes() if q.producer_id != producer}

    def quotes(self) -> list[Quote]:
        return list(self.board.quotes(self.now))

    @invariant()
    def only_trusted_producers_have_open_markets(self) -> None:
        for quote in self.quotes():
            if quote.status == OPEN:
                assert quote.producer_id in self.trusted
            if quote.stale:
                assert quote.status == SUSPENDED
                assert quote.producer_id not in self.trusted

    @invariant()
    def nothing_is_live_past_its_closing_time(self) -> None:
        assert all(quote.closes_at_us > self.now for quote in self.quotes() if quote.status in LIVE)

    @invariant()
    def statuses_of_producers_follow(self) -> None:
        for producer, markets in self.board.producers():
            assert (producer.status == ALIVE) == (producer.producer_id in self.trusted)
            assert producer.wants_snapshot or producer.status == ALIVE
            live = [q for q in self.quotes() if q.producer_id == producer.producer_id and q.status in LIVE]
            assert markets == len(live)


TestBoardMachine = BoardMachine.TestCase
TestBoardMachine.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def test_a_process_that_was_replaced_publishes_nothing() -> None:
    """A producer's term only rises: a lower one changes nothing and is no sign of life; none is no term."""
    board = Board(SILENCE)
    for term, price in ((3, 91), (4, 95)):
        board.commit(board.plan_publication(Publication("a", "A", (offer(1, price=price),), True, term), SECOND))
    before = board.quote(1, SECOND), board.producer("a")
    with pytest.raises(ServiceError, match="PRODUCER_REPLACED"):
        board.heard("a", 9 * SECOND, term=3)
    with pytest.raises(ServiceError, match="at term 4, this is term 3"):
        board.plan_publication(Publication("a", "A", (offer(1, price=13),), True, 3), 9 * SECOND)
    assert (board.quote(1, SECOND), board.producer("a")) == before
    board.commit(board.plan_publication(Publication("a", "A", (offer(1, price=97),), True), 9 * SECOND))
    producer = board.producer("a")
    assert producer is not None
    assert producer.term == 4
