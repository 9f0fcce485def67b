"""Leaving a channel whose calls and streams get no answer: soon, for no single slow call, and not again and again."""

from __future__ import annotations

from betting.runtime.silence import CALLS_MIN, OVERDUE, REPLACED_EVERY_S, WINDOW_S, Silence

OBJECTIVE_S = 0.75
OVERDUE_S = OVERDUE * OBJECTIVE_S


def _called(silence: Silence, times: int, at_s: float, *, unanswered: bool) -> None:
    for _ in range(times):
        silence.ended(silence.began(at_s, OBJECTIVE_S), at_s, unanswered=unanswered)


def test_calls_that_ended_without_an_answer_are_silence() -> None:
    """Three of them; two may be slow calls."""
    silence = Silence(0.0)
    _called(silence, CALLS_MIN - 1, 1.0, unanswered=True)
    assert not silence.is_too_long(1.0)
    _called(silence, 1, 1.2, unanswered=True)
    assert silence.is_too_long(1.2)


def test_calls_in_flight_are_silence_once_they_are_overdue() -> None:
    """Nobody has to wait until their deadline, which may be long."""
    silence = Silence(0.0)
    for _ in range(CALLS_MIN):
        silence.began(1.0, OBJECTIVE_S)
    assert not silence.is_too_long(1.0 + OVERDUE_S - 0.01)
    assert silence.is_too_long(1.0 + OVERDUE_S + 0.1)


def test_a_call_that_was_answered_late_is_no_silence_any_more() -> None:
    """It was overdue, and its answer came."""
    silence = Silence(0.0)
    numbers = [silence.began(0.0, OBJECTIVE_S) for _ in range(CALLS_MIN)]
    for number in numbers:
        silence.ended(number, 5.0, unanswered=False)
    assert not silence.is_too_long(5.0)


def test_few_of_many_calls_are_no_silence() -> None:
    """One in fifty is an instance that hangs; one in a hundred are slow calls."""
    silence = Silence(0.0)
    _called(silence, CALLS_MIN, 1.0, unanswered=True)
    _called(silence, 100 * CALLS_MIN, 1.0, unanswered=False)
    assert not silence.is_too_long(1.0)
    _called(silence, 4 * CALLS_MIN, 1.5, unanswered=True)
    assert silence.is_too_long(1.5)


def test_what_was_long_ago_does_not_count() -> None:
    """Three slow calls within an hour are no instance that hangs."""
    silence = Silence(0.0)
    for at_s in (1.0, 1.0 + WINDOW_S, 1.0 + 2 * WINDOW_S):
        _called(silence, 1, at_s, unanswered=True)
        assert not silence.is_too_long(at_s)


def test_what_was_before_a_long_pause_does_not_count() -> None:
    """Nobody called meanwhile: nobody knows whether the instance still hangs."""
    silence = Silence(0.0)
    _called(silence, CALLS_MIN, 1.0, unanswered=True)
    assert not silence.is_too_long(1.0 + 100 * WINDOW_S)


def test_one_silent_stream_is_enough() -> None:
    """A stream that sends at fixed times is not slow by itself. A new channel is given time here too."""
    silence = Silence(100.0, replaces=True)
    silence.stream_was_silent()
    assert not silence.is_too_long(100.0 + REPLACED_EVERY_S - 0.01)
    assert silence.is_too_long(100.0 + REPLACED_EVERY_S)


def test_a_channel_that_replaces_another_is_given_time() -> None:
    """Where the service is slow itself a new channel does not help, and the next one is not opened at once."""
    silence = Silence(100.0, replaces=True)
    _called(silence, CALLS_MIN, 101.0, unanswered=True)
    assert not silence.is_too_long(100.0 + REPLACED_EVERY_S - 0.01)
    assert silence.is_too_long(100.0 + REPLACED_EVERY_S)
