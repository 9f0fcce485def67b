"""Restarts that do not help end with a person, once, and stay ended until it is healthy."""

from __future__ import annotations

from dataclasses import replace

from healing_scenes import Scenario, calm, over, reborn, silent_to_healer, silent_to_platform

from betting_operator.healing.actions import Alert, Kill
from betting_operator.healing.diagnoses import Kind, Severity
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Observation

WALLET = "wallet-service"


def hung_lives(lives: int, policy: Policy) -> Scenario:
    """One life after the other hangs from its beginning; each is seen for eight seconds."""
    scenario = Scenario(policy)
    for life in range(lives):

        def hung(seen: Observation, began_ms: int = life * 8_500, boot_id: str = str(life)) -> Observation:
            silent_ms = seen.at_ms - began_ms
            silent = silent_to_platform(silent_to_healer(seen, silent_ms, WALLET), silent_ms, WALLET)
            return reborn(silent, WALLET, boot_id)

        scenario.live(*over(8_000, hung, start_ms=life * 8_500))
    return scenario


def pages(scenario: Scenario) -> list[str]:
    """Whom people were called for."""
    return [a.target for a in scenario.done(Alert) if isinstance(a, Alert) and a.severity is Severity.PAGE]


def test_a_process_that_hangs_again_after_three_kills_needs_a_person() -> None:
    """Who is called once; it is not killed a fourth time."""
    assert pages(hung_lives(3, Policy())) == []
    scenario = hung_lives(4, Policy())
    assert len(scenario.done(Kill)) == 3
    assert pages(scenario) == [WALLET]
    assert any(d.kind is Kind.HEALING_EXHAUSTED for d in scenario.ticks[-1].diagnoses)


def test_being_healthy_in_between_resets_the_count() -> None:
    """Then it is another illness."""
    scenario = hung_lives(3, Policy())
    scenario.live(calm(26_000))
    scenario.live(*over(4_000, lambda s: _hung_since(s, 26_500), start_ms=26_500))
    assert len(scenario.done(Kill)) == 4
    assert pages(scenario) == []


def test_a_spent_budget_needs_a_person() -> None:
    """Who is told whose budget it was."""
    scenario = hung_lives(3, Policy(disruptions_per_window=1))
    assert pages(scenario) == [f"budget of {WALLET}"]


def _hung_since(seen: Observation, began_ms: int) -> Observation:
    silent_ms = seen.at_ms - began_ms
    silent = silent_to_platform(silent_to_healer(seen, silent_ms, WALLET), silent_ms, WALLET)
    return replace(reborn(silent, WALLET, "9"), term=1)
