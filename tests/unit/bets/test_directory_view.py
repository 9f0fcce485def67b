"""What may be concluded from beats and clocks."""

from __future__ import annotations

from betting.bets.clock import DatabaseClock
from betting.bets.directory_view import GRACE_S, DirectoryView, should_step_aside
from betting.journal.directory import InstanceRow

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
