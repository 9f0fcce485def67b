"""When a process that stands by may take over: how long it has seen the active one silent, itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import in_process
import pytest
from hypothesis import given
from hypothesis import strategies as st

from betting.odds.settings import OddsSettings
from betting.runtime.election import LOOK_EVERY_S, LOOK_GAP_MAX_S, SILENT_AFTER_S, WATCHED_MIN_S, Seen, Silence

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)


def seen(beat: float, age_s: float = 0.0, term: int = 1) -> Seen:
    return Seen(term, "odds-service-1@a", BEGAN + timedelta(seconds=beat), age_s)


def watched(silence: Silence, beat: float, from_s: float, to_s: float, age_s: float = 0.0, term: int = 1) -> float:
    """Looks five times a second at a row that does not change; when it counted as silent first, or never."""
    now_s = from_s
    while now_s <= to_s:
        silence.saw(seen(beat, age_s, term), now_s)
        if silence.is_silent(now_s):
            return now_s
        now_s += 0.2
    return float("inf")


def test_who_beats_is_not_replaced() -> None:
    """A row that changes every second is never silent, however long it is watched."""
    silence = Silence(SILENT_AFTER_S)
    for second in range(60):
        assert watched(silence, second, second, second + 0.8) == float("inf")


def test_who_stops_beating_is_replaced_after_two_and_a_half_seconds() -> None:
    """Counted from the first look that saw the last beat."""
    assert SILENT_AFTER_S <= watched(Silence(SILENT_AFTER_S), 0, 0, 10) <= SILENT_AFTER_S + 0.3


def test_a_process_that_starts_watches_before_it_believes_the_database() -> None:
    """An old beat counts for something, but one beat of an active process has to be missed in plain sight."""
    at_s = watched(Silence(SILENT_AFTER_S), 0, 0, 10, age_s=3600)
    assert WATCHED_MIN_S <= at_s <= WATCHED_MIN_S + 0.3


def test_time_in_which_nothing_was_seen_does_not_count() -> None:
    """Its own pause, or looks that failed: watching begins anew, with no credit for what the database says."""
    silence = Silence(SILENT_AFTER_S)
    assert watched(silence, 0, 0, 1) == float("inf")
    assert not silence.is_silent(70)
    assert watched(silence, 0, 70, 80, age_s=70) >= 70 + SILENT_AFTER_S
    other = Silence(SILENT_AFTER_S)
    assert watched(other, 0, 0, 2) == float("inf")
    other.interrupted(2.2)
    assert watched(other, 0, 2.4, 9) >= 2.2 + SILENT_AFTER_S


def test_another_term_is_another_process() -> None:
    """A lease that changed hands is watched from then on."""
    silence = Silence(SILENT_AFTER_S)
    assert watched(silence, 0, 0, 2) == float("inf")
    assert watched(silence, 0, 2.2, 9, term=2) >= 2.2 + SILENT_AFTER_S


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans(), st.integers(0, 3)), max_size=40))
def test_nobody_is_replaced_who_was_not_watched_silent(steps: list[tuple[float, bool, int]]) -> None:
    """Whatever pauses, failures and beats: silent means looks without a gap, and no beat, for the whole time."""
    silence = Silence(SILENT_AFTER_S)
    now_s, beat, quiet_since_s, last_s = 0.0, 0, 0.0, 0.0
    silence.saw(seen(0), now_s)
    for pause_s, failed, beats in steps:
        now_s += pause_s
        beat += beats
        if failed or beats or now_s - last_s > LOOK_GAP_MAX_S:
            quiet_since_s = now_s
        last_s = now_s
        if failed:
            silence.interrupted(now_s)
        else:
            silence.saw(seen(beat), now_s)
        if silence.is_silent(now_s):
            assert now_s - quiet_since_s >= SILENT_AFTER_S


def test_settings_leave_the_active_one_time_to_beat() -> None:
    """A standby looks often enough to count what it has seen as watched, and at least two beats fit into a silence."""
    assert LOOK_EVERY_S < LOOK_GAP_MAX_S / 2
    for settings in ({"tick": "0.6"}, {"beat": "2"}, {"takeover_after": "1.9"}):
        with pytest.raises(ValueError, match=r"less than or equal|give at least twice BETTING_BEAT"):
            in_process.settings(OddsSettings, **settings)
    in_process.settings(OddsSettings, tick="0.5", beat="1", takeover_after="2")
