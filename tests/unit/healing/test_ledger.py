"""Books that do not balance stop their shard, and only theirs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from healing_scenes import Scenario, calm, certainty_of

from betting_operator.healing.actions import Action, Alert, Freeze
from betting_operator.healing.diagnoses import Certainty, Kind
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Audit, Observation

REASON = "its books do not balance: entry 7: the balance it told is not the balance (1 in all)"
PROBLEM = "entry 7: the balance it told is not the balance (1 in all)"


def failing(at_ms: int, failures: int, *shards: int) -> Observation:
    """These were looked at so often in vain."""
    return replace(calm(at_ms), audits=tuple(Audit(shard, failures, PROBLEM) for shard in shards))


def done(scenario: Scenario) -> list[Action]:
    """Everything but telling."""
    return [action for action in scenario.actions if not isinstance(action, Alert)]


@pytest.mark.parametrize("policy", [Policy(), Policy(paused="network work")], ids=["healing", "paused"])
def test_two_failures_in_a_row_freeze_the_shard_and_call_a_person(policy: Policy) -> None:
    """Once is suspected; money goes before a pause."""
    scenario = Scenario(policy)
    tick = scenario.live(failing(0, 1, 2))
    assert certainty_of(tick, Kind.LEDGER_BROKEN, "shard 2") is Certainty.SUSPECTED
    assert done(scenario) == []
    scenario.live(failing(500, 2, 2))
    assert done(scenario) == [Freeze(2, REASON, 1)]
    assert [a.about for a in scenario.done(Alert) if isinstance(a, Alert)] == [Kind.LEDGER_BROKEN]


def test_a_shard_that_is_stopped_is_not_stopped_again() -> None:
    """Nor is anything done in a dry run."""
    scenario = Scenario()
    [first, *rest] = calm().shards or ()
    scenario.live(replace(failing(0, 2, 0), shards=(replace(first, state="frozen"), *rest)))
    assert done(scenario) == []
    dry = Scenario(Policy(dry_run=True))
    tick = dry.live(failing(0, 2, 0))
    assert done(dry) == []
    assert any("freeze shard 0" in each.target for each in tick.plan.declined)


def test_many_at_once_are_the_checks_own_fault_until_a_person_says_otherwise() -> None:
    """Three of four: cannot tell, and betting goes on."""
    scenario = Scenario()
    tick = scenario.live(failing(0, 3, 0, 1, 2))
    assert certainty_of(tick, Kind.LEDGER_BROKEN, "shard 1") is Certainty.CANNOT_TELL
    assert done(scenario) == []
