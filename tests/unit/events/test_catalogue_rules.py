"""Folding, patterns and transitions of the catalogue."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from betting.events import transitions, words
from betting.runtime.errors import ServiceError


@pytest.mark.parametrize(
    ("text", "folded"),
    [("1. FC  Köln", "1. fc koln"), ("STRAßE", "strasse"), ("İstanbul", "istanbul"), ("ﬁne", "fine"), ("  ", "")],
)
def test_folding_removes_case_and_accents(text: str, folded: str) -> None:
    """Known values, letters of several scripts among them."""
    assert words.folded(text) == folded


@given(st.text(max_size=40))
def test_folding_twice_changes_nothing(text: str) -> None:
    """What is stored folded is found by a folded search."""
    assert words.folded(words.folded(text)) == words.folded(text)


def test_wildcards_stand_for_themselves() -> None:
    """LIKE's special characters are escaped; words are separate patterns."""
    assert words.patterns("10% a_b \\") == ["%10\\%%", "%a\\_b%", "%\\\\%"]


@pytest.mark.parametrize("text", ["", " a ", "x" * 101, "\u0301\u0301", "a\x00b"])
def test_texts_to_search_for_have_bounds(text: str) -> None:
    """Too short, too long, nothing but accents, zero bytes: refused with one reason."""
    with pytest.raises(ServiceError) as caught:
        words.patterns(text)
    assert caught.value.reason == "SEARCH_TEXT_INVALID"


@pytest.mark.parametrize("before", sorted(transitions.EVENT_STEPS))
@pytest.mark.parametrize("after", sorted(transitions.EVENT_STEPS))
def test_events_take_only_the_steps_of_the_table(before: int, after: int) -> None:
    """Staying is always allowed; every other step is allowed or refused as the table says."""
    allowed = before == after or (before, after) in {(1, 2), (1, 4), (2, 3), (2, 4)}
    assert _passes(transitions.check_event, before, after) == allowed


@pytest.mark.parametrize("before", sorted(transitions.MARKET_STEPS))
@pytest.mark.parametrize("after", sorted(transitions.MARKET_STEPS))
def test_markets_take_only_the_steps_of_the_table(before: int, after: int) -> None:
    """Staying is always allowed; every other step is allowed or refused as the table says."""
    steps = {(1, 2), (1, 3), (1, 5), (2, 1), (2, 3), (2, 5), (3, 4), (3, 5), (4, 5), (5, 4)}
    assert _passes(transitions.check_market, before, after) == (before == after or (before, after) in steps)


def test_time_closes_what_is_live_and_nothing_else() -> None:
    """Open and suspended markets read closed from their closing time on; results stay."""
    shown = [transitions.shown_market(status, 100, 100) for status in (1, 2, 3, 4, 5)]
    assert shown == [3, 3, 3, 4, 5]
    assert transitions.shown_market(1, 101, 100) == 1


def _passes(check: object, before: int, after: int) -> bool:
    try:
        check(7, before, after)  # type: ignore[operator]
    except ServiceError:
        return False
    return True
