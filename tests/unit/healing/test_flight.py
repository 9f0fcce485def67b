"""Flight records that cannot be replayed say so, and where; those that differ say in which tick."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from healing_scenes import recorded

from betting_operator.healing import flight
from betting_operator.healing.plan import Plan
from betting_operator.healing.policy import Policy, PolicyError

NOW = f'"flight":{flight.VERSION}'


def test_a_plan_that_would_be_another_today_is_named() -> None:
    """Its line, what was planned, what would be."""
    lines = recorded()
    wrong = json.loads(lines[2])
    wrong["plan"]["actions"] = []
    [same, different] = flight.replay([*lines[:2], json.dumps(wrong)])
    assert same is None
    assert different is not None
    assert different.line == 3
    assert different.recorded == Plan()
    assert len(different.derived.actions) == 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda _: [], "line 1: the record is empty"),
        (lambda lines: ["{}", *lines[1:]], "line 1: this is no flight record"),
        (lambda lines: [lines[0].replace(NOW, '"flight":99'), *lines[1:]], "line 1: version 99 cannot be read"),
        (lambda lines: [*lines[:2], lines[2][:50]], "line 3: cut off or damaged"),
        (lambda lines: [lines[0], lines[1].replace('"at_ms":0', '"at_ms":"x"')], "line 2: value.seen.at_ms"),
        (
            lambda lines: [lines[0], lines[1].replace('"late_ms"', '"lateness"')],
            "late_ms, lateness should not be there",
        ),
        (lambda lines: [lines[0], lines[1].replace('"running"', '"flying"', 1)], "line 2: .*flying"),
        (lambda lines: [lines[0].replace('"attempts":[]', '"attempts":{}'), *lines[1:]], "line 1: value.attempts"),
    ],
)
def test_a_record_that_cannot_be_replayed_says_where(spoil: object, message: str) -> None:
    """Never a wrong answer, never a stack trace."""
    assert callable(spoil)
    with pytest.raises(flight.BadRecord, match=message):
        list(flight.replay(spoil(recorded())))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"disruptions_per_window": 0}, "disruptions_per_window is 0"),
        ({"silent_after_ms": -1}, "silent_after_ms is -1"),
        ({"grey_after_ms": 0}, "grey_after_ms is 0"),
        ({"memory_large_bytes": 1}, "it must exceed memory_unexplained_max_bytes"),
        ({"cool_down_ms": -1}, "cool_down_ms is -1"),
        ({"silent_after_ms": 800}, "it must exceed late_after_ms"),
    ],
)
def test_a_policy_that_cannot_work_is_refused(change: dict[str, int], message: str) -> None:
    """With the field, its value and what it must be."""
    with pytest.raises(PolicyError, match=message):
        replace(Policy(), **change).check()
    Policy().check()
