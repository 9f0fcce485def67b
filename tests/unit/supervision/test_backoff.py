"""How long a crashed process waits before it is started again."""

from __future__ import annotations

from betting.supervision.backoff import HEALTHY_S, MAX_S, Backoff

NO_JITTER = 0.5


def test_it_doubles_up_to_the_maximum() -> None:
    """A process that keeps crashing is started ever more rarely, but never given up."""
    backoff = Backoff()
    waits = [backoff.next_delay_s(0.0, NO_JITTER) for _ in range(20)]
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == MAX_S
    assert waits == sorted(waits)


def test_a_healthy_life_is_forgiven() -> None:
    """After a life of 20 s the next wait is the first again; one second less keeps climbing."""
    backoff = Backoff(failures=5)
    assert backoff.next_delay_s(HEALTHY_S - 1, NO_JITTER) == 3.2
    assert backoff.next_delay_s(HEALTHY_S, NO_JITTER) == 0.1


def test_jitter_stays_within_a_fifth() -> None:
    """Processes that died together do not come back at the same instant."""
    assert Backoff().next_delay_s(0.0, 0.0) == 0.1 * 0.8
    assert 0.119 < Backoff().next_delay_s(0.0, 0.999) < 0.12
