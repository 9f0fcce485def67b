"""What may be concluded from beats and clocks."""

from __future__ import annotations

from betting.bets.clock import DatabaseClock
from betting.bets.directory_view import (
    GRACE_S,
    REFUSED_AFTER_S,
    REFUSED_FOR_S,
    DirectoryView,
    Receivers,
    should_step_aside,
)
from betting.journal.directory import InstanceRow, ShardRow

OFF_US = 2_500_000


def instance(name: str, *, age_s: float = 0.1, draining: bool = False, exited: bool = False) -> InstanceRow:
    return InstanceRow(name, name, (1,), age_s, draining, exited)


def aside(me: str, error_us: int, *instances: InstanceRow) -> bool:
    return should_step_aside(me, error_us, instances, 10.0)


def test_a_clock_two_seconds_off_steps_aside_for_others() -> None:
    """Either way off; exactly two seconds is not over two."""
    both = (instance("a"), instance("b"))
    assert aside("a", OFF_US, *both)
    assert aside("a", -OFF_US, *both)
    assert not aside("a", 2_000_000, *both)


def test_the_only_instance_keeps_its_shards_whatever_its_clock_says() -> None:
    """Dead, silent and draining ones cannot take them."""
    assert not aside("a", OFF_US, instance("a"))
    assert not aside("a", OFF_US, instance("a"), instance("b", exited=True), instance("c", age_s=11))
    assert not aside("a", OFF_US, instance("a"), instance("b", draining=True))


def test_when_every_clock_is_off_exactly_one_stays() -> None:
    """Both stepped aside at the same moment; then the first by name comes back, and only it."""
    drained = (instance("a", draining=True), instance("b", draining=True))
    assert not aside("a", OFF_US, *drained)
    assert aside("b", OFF_US, *drained)
    assert not aside("a", OFF_US, instance("a"), instance("b", draining=True))
    assert aside("b", OFF_US, instance("a"), instance("b", draining=True))


def test_beats_count_again_a_grace_after_the_directory_can_be_read() -> None:
    """Whoever was cut off as well must have had the time to beat."""
    view = DirectoryView()
    assert not view.beats_void(0.0)
    view.failed(10.0)
    assert view.beats_void(10.0 + GRACE_S - 0.1)
    assert not view.beats_void(10.0 + GRACE_S)


def test_a_slow_look_is_an_outage_too() -> None:
    """A frozen database answers in the end, and everybody's beat is old then."""
    view = DirectoryView()
    view.looked(0.0, 0.5)
    assert not view.beats_void(0.5)
    view.looked(1.0, 13.0)
    assert view.beats_void(13.0)


def test_who_could_not_beat_itself_cannot_judge_others() -> None:
    """A database that takes no writes for a while: everybody's beat is old when it does again."""
    view = DirectoryView()
    view.looked(0.0, 0.1, own_beat_age_s=1.2)
    assert not view.beats_void(0.1)
    view.looked(14.9, 15.0, own_beat_age_s=14.0)
    view.looked(15.4, 15.5, own_beat_age_s=0.1)
    assert view.beats_void(15.5)
    assert not view.beats_void(15.0 + GRACE_S)


def test_an_answer_read_late_does_not_put_the_clock_back() -> None:
    """Frozen for a minute between question and answer: half of that must not be added to every closing time."""
    clock = DatabaseClock()
    clock.observe(1_000_000, 0, 2_000)
    before = clock._offset_us
    clock.observe(1_501_000, 500_000, 60_500_000)
    assert clock._offset_us == before


def test_the_clock_follows_the_database_where_an_answer_proves_it_wrong() -> None:
    """The offset is moved just as far as the two moments demand."""
    clock = DatabaseClock()
    clock.observe(1_000_000, 0, 0)
    clock.observe(6_000_000, 1_000_000, 1_001_000)
    assert clock._offset_us == 4_999_000
    clock.observe(3_000_000, 2_000_000, 2_001_000)
    assert clock._offset_us == 1_000_000


def rows(*owners: str | None, to: str = "b", epochs: tuple[int, ...] = ()) -> list[ShardRow]:
    """Shards of these owners; those without one were released for `to`."""
    return [
        ShardRow(n, owner, owner, epochs[n] if epochs else 1, "owned" if owner else "free", owner or to, "")
        for n, owner in enumerate(owners)
    ]


def seen(receivers: Receivers, shards: list[ShardRow], start_s: float, duration_s: float) -> float:
    """Looks every half second; returns when the last one was."""
    for n in range(int(duration_s / 0.5) + 1):
        receivers.looked(shards, start_s + n * 0.5)
    return start_s + duration_s


def test_a_receiver_that_takes_nothing_is_given_nothing_and_then_one_shard() -> None:
    """Though it beats: what it was given serves nobody. It is tried again, without another group."""
    receivers = Receivers()
    now_s = seen(receivers, rows("a", None), 0.0, REFUSED_AFTER_S - 0.5)
    assert receivers.limits(now_s) == {}
    now_s = seen(receivers, rows("a", None), now_s, 0.5)
    assert receivers.limits(now_s) == {"b": 0}
    seen(receivers, rows("a", None, to="c", epochs=(1, 1)), now_s + 0.5, 0.5)  # the healer has placed it on another
    assert receivers.limits(now_s + REFUSED_FOR_S - 0.5) == {"b": 0}
    assert receivers.limits(now_s + REFUSED_FOR_S) == {"b": 1}
    receivers.looked(rows("a", "b", epochs=(1, 2)), now_s + REFUSED_FOR_S + 1)
    assert receivers.limits(now_s + REFUSED_FOR_S + 1) == {}


def test_a_receiver_that_takes_one_after_the_other_is_at_work() -> None:
    """It loads large shards: each take starts the time anew."""
    receivers = Receivers()
    now_s = seen(receivers, rows("a", None, None), 0.0, REFUSED_AFTER_S - 0.5)
    now_s = seen(receivers, rows("a", "b", None, epochs=(1, 2, 1)), now_s + 0.5, REFUSED_AFTER_S - 0.5)
    assert receivers.limits(now_s) == {}


def test_what_was_lost_again_is_not_taken() -> None:
    """Others steal the shards of one that hangs: that is no sign of its being at work."""
    receivers = Receivers()
    now_s = seen(receivers, rows("b", None), 0.0, REFUSED_AFTER_S)
    receivers.looked(rows("c", None, epochs=(2, 1)), now_s)
    assert receivers.limits(now_s) == {"b": 0}


def test_while_nobody_could_write_nobody_has_refused() -> None:
    """After an outage of the directory the time starts anew."""
    view = DirectoryView()
    view.looked(0.0, 0.0, shards=rows("a", None))
    view.failed(3.0)
    view.looked(3.0, 3.0, shards=rows("a", None))
    view.looked(REFUSED_AFTER_S + 0.5, REFUSED_AFTER_S + 0.5, shards=rows("a", None))
    assert view.limits(REFUSED_AFTER_S + 0.5) == {}
