"""When the healer takes its next look at once."""

from __future__ import annotations

import pytest
from healing_scenes import life

from betting_operator.healer.healer import goes_on
from betting_operator.healing.actions import Action, Alert, Kill, describe
from betting_operator.healing.diagnoses import Kind, Severity
from betting_operator.healing.redis_actions import Follow, MoveRecord, Promote
from betting_operator.healing.redis_signals import NOBODY, RedisRecord

ONE, TWO = life("valkey-1"), life("valkey-2")
MOVE = MoveRecord(NOBODY, RedisRecord("valkey-1", "1", 1), 1)


@pytest.mark.parametrize(
    ("action", "outcome", "at_once"),
    [
        (MOVE, "done", True),
        (MOVE, "the record has changed", False),
        (Promote(ONE), "done", True),
        (Promote(ONE), "failed: timed out", False),
        (Follow(TWO, ""), "done", True),
        (Follow(TWO, "valkey-1"), "done", False),
        (Kill(ONE), "done", False),
    ],
)
def test_a_step_of_a_failover_that_was_done_is_followed_at_once(action: Action, outcome: str, at_once: bool) -> None:
    """Also on a lost node, where kills fail and people are told: the others wait for their next look."""
    alert = Alert(Kind.NODE_LOST, "node-2", Severity.PAGE, "it is lost")
    actions = (alert, action, Kill(TWO))
    outcomes = tuple(
        f"{describe(each)}: {said}" for each, said in zip(actions, ("sent", outcome, "failed: gone"), strict=True)
    )
    assert goes_on(actions, outcomes) is at_once
