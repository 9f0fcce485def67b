"""When a write that was refused is tried again."""

from __future__ import annotations

import pytest

from betting_operator.kubernetes.writes import Refusal


@pytest.mark.parametrize(("times", "pause_s"), [(1, 2.0), (2, 4.0), (3, 8.0), (4, 16.0), (5, 30.0), (100_000, 30.0)])
def test_a_refused_write_is_tried_again_later_and_later(times: int, pause_s: float) -> None:
    refusal = Refusal("manifest", "live", "no room", times, took_s=0.1, at_s=100.0)
    assert not refusal.is_due(100.0 + pause_s - 0.001)
    assert refusal.is_due(100.0 + pause_s)


def test_a_refusal_is_about_what_was_wanted_and_what_there_was() -> None:
    refusal = Refusal("manifest", "live", "no room", 1, took_s=0.1, at_s=100.0)
    assert refusal.is_about("manifest", "live")
    assert not refusal.is_about("another", "live")
    assert not refusal.is_about("manifest", "another")
    assert not refusal.is_about("manifest", "")
