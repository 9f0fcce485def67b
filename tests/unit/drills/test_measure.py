"""What the demo's table says, from made-up records of bets."""

from __future__ import annotations

from betting.drills.measure import (
    ACCEPTED,
    UNANSWERED,
    Attempt,
    Mark,
    Window,
    back_s,
    detections_s,
    judge,
    outage_s,
)
from betting.drills.target import Tick

WINDOW = Window("fault", fault_s=100.0, until_s=110.0)


def accepted(shard: int, *times_s: float) -> list[Attempt]:
    """Bets answered 0.01 s after they were sent."""
    return [Attempt(shard, at - 0.01, at, ACCEPTED, 1) for at in times_s]


def test_the_longest_gap_counts_not_the_first_bet_after_the_fault() -> None:
    """A bet accepted 3 ms after the kill was on its way before it: the outage is the silence that follows."""
    steady = [103.0 + number / 5 for number in range(35)]
    assert outage_s([99.9, 100.003, *steady], WINDOW) == 103.0 - 100.003


def test_a_gap_begins_at_the_fault_at_the_earliest() -> None:
    """Silence before the fault is not the fault's."""
    steady = [101.0 + number / 5 for number in range(45)]
    assert outage_s([90.0, *steady], WINDOW) == 1.0


def test_a_shard_that_stays_silent_has_not_come_back() -> None:
    """Neither with no bet at all, nor when the last silence is the longest."""
    assert outage_s([], WINDOW) is None
    assert outage_s([99.0, 100.5, 101.0], WINDOW) is None
    assert outage_s([99.0, 111.0], WINDOW) is None


def test_the_worst_shard_is_named_and_never_coming_back_is_worst() -> None:
    """Shard 2 took longest; a silent shard 3 beats it."""
    steady = [102.0 + number / 5 for number in range(40)]
    attempts = accepted(1, 100.1, *steady) + accepted(2, *[at + 0.5 for at in steady[:-3]])
    outcome = judge(WINDOW, attempts, [1, 2])
    assert (outcome.worst_shard, outcome.worst_s) == (2, 2.5)
    outcome = judge(WINDOW, attempts, [1, 2, 3])
    assert (outcome.worst_shard, outcome.worst_s) == (3, None)


def test_counts_are_of_the_window() -> None:
    """Accepted, refused by name and unanswered bets sent within it; before and after do not count."""
    attempts = [
        *accepted(1, 99.0, 101.0, 115.0),
        Attempt(1, 102.0, 102.1, "PRICE_MOVED", 1),
        Attempt(1, 103.0, 103.1, "PRICE_MOVED", 1),
        Attempt(1, 104.0, 104.1, "MARKET_CLOSED", 1),
        Attempt(1, 105.0, None, UNANSWERED, 9),
    ]
    outcome = judge(WINDOW, attempts, [1])
    assert (outcome.accepted, outcome.unanswered) == (1, 1)
    assert outcome.refused == {"PRICE_MOVED": 2, "MARKET_CLOSED": 1}


def test_a_bet_that_waited_through_the_fault_is_delayed() -> None:
    """Sent before the fault and answered within it counts, also one still waiting; exactly a second does not."""
    attempts = [
        Attempt(1, 99.5, 101.0, ACCEPTED, 3),
        Attempt(1, 102.0, 103.0, ACCEPTED, 1),
        Attempt(1, 97.0, 99.0, ACCEPTED, 1),
        Attempt(1, 108.0, None, UNANSWERED, 5),
    ]
    assert judge(WINDOW, attempts, [1]).delayed == 2


def test_an_acknowledged_bet_that_the_journal_lacks_is_lost() -> None:
    """Within the window, and only what was acknowledged: a bet without an answer may be in the journal or not."""
    attempts = [
        Attempt(1, 102.0, 102.1, ACCEPTED, 1, "a", acknowledged=True),
        Attempt(1, 102.5, 102.6, ACCEPTED, 1, "b", acknowledged=True),
        Attempt(1, 103.0, None, UNANSWERED, 9, "c"),
        Attempt(1, 120.0, 120.1, ACCEPTED, 1, "d", acknowledged=True),
    ]
    assert judge(WINDOW, attempts, [1]).lost == 0
    assert judge(WINDOW, attempts, [1], {"b", "c", "d"}).lost == 1


def test_a_part_is_back_when_it_last_began_to_work() -> None:
    """Working again and again failing is not back; a part that never failed was never away."""
    assert back_s([Mark(90.0, True)], WINDOW) == 0.0
    assert back_s([Mark(90.0, True), Mark(101.0, False), Mark(102.0, True)], WINDOW) == 2.0
    assert back_s([Mark(90.0, True), Mark(101.0, False)], WINDOW) is None
    flapping = [Mark(90.0, True), Mark(101.0, False), Mark(102.0, True), Mark(103.0, False), Mark(105.0, True)]
    assert back_s(flapping, WINDOW) == 5.0
    assert back_s([Mark(90.0, True), Mark(101.0, False), Mark(111.0, True)], WINDOW) is None


def test_healed_is_when_the_last_part_and_the_last_shard_are_back() -> None:
    """A part that is away for good is never healed, whatever bettors feel."""
    steady = accepted(1, *[100.2 + number / 5 for number in range(49)])
    marks = {"wallet": [Mark(90.0, True), Mark(100.5, False), Mark(103.0, True)], "feed": [Mark(90.0, True)]}
    window = Window("fault", 100.0, 110.0, budget_s=2.0, part="wallet")
    outcome = judge(window, steady, [1], marks=marks)
    assert (outcome.part_s, outcome.healed_s, outcome.is_kept) == (3.0, 3.0, False)
    marks["feed"].append(Mark(101.0, False))
    assert judge(window, steady, [1], marks=marks).healed_s is None


def ticks(*confirmed: tuple[int, set[str]]) -> list[Tick]:
    """At whole seconds, with what was confirmed of which target."""
    return [Tick(at * 1_000_000, frozenset(("process-hung", each) for each in what), (), ()) for at, what in confirmed]


def test_a_detection_is_the_first_thing_that_is_newly_confirmed() -> None:
    """What stood confirmed before the fault is no proof of it."""
    seen = ticks((9, {"old"}), (11, {"old"}), (13, {"old", "new"}), (14, {"new", "newer"}))
    assert detections_s(seen, [10_000_000]) == [3.0]


def test_each_detection_belongs_to_the_latest_fault_before_it() -> None:
    """What nobody confirmed before the next fault was not detected."""
    seen = ticks((9, {"before"}), (10, set()), (22, {"a"}), (23, set()), (24, {"a"}))
    assert detections_s(seen, [10_000_000, 20_000_000]) == [None, 2.0]
    assert detections_s([], [10_000_000]) == [None]
