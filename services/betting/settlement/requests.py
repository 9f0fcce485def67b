"""What may be asked of the settlement-service: checks, and outcomes from a score. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from betting.engine.outcomes import MarketKind, Outcome, decide_market
from betting.runtime import errors
from betting.settlement.store import Wanted
from betting.v1 import event_pb2, settlement_pb2

MAX_GOALS = 1_000
MAX_VERSION = 2**31 - 1

_OUTCOMES = frozenset(int(outcome) for outcome in Outcome)


def check_version(version: int) -> int:
    """Raises INVALID_ARGUMENT."""
    if not 1 <= version <= MAX_VERSION:
        raise errors.invalid_argument(
            "VERSION",
            f"version is {version}: give 1 for the first result, one more for each correction, at most {MAX_VERSION}",
        )
    return version


def check_id(name: str, value: int) -> int:
    """Raises INVALID_ARGUMENT."""
    if value <= 0:
        raise errors.invalid_argument(name.upper(), f"{name} is {value}: give a positive id")
    return value


def from_outcomes(market: event_pb2.Market, given: Iterable[settlement_pb2.SelectionOutcome], version: int) -> Wanted:
    """Exactly one outcome per selection of the market. Raises INVALID_ARGUMENT naming the selection."""
    outcomes: dict[int, int] = {}
    selections = {selection.selection_id for selection in market.selections}
    for one in given:
        if one.selection_id not in selections:
            raise _bad(market, one.selection_id, "is not one of its selections")
        if one.selection_id in outcomes:
            raise _bad(market, one.selection_id, "is given twice")
        outcome = int(one.outcome)
        if outcome not in _OUTCOMES:
            raise _bad(market, one.selection_id, f"cannot have outcome {outcome}")
        outcomes[one.selection_id] = outcome
    missing = selections - outcomes.keys()
    if missing:
        raise _bad(market, min(missing), "has no outcome: a result names every selection")
    voids = all(outcome == Outcome.VOID for outcome in outcomes.values())
    return Wanted(market.market_id, check_version(version), market.event_id, outcomes, voids)


def void(market: event_pb2.Market, version: int) -> Wanted:
    """Every leg on the market counts as price 1."""
    outcomes = {selection.selection_id: int(Outcome.VOID) for selection in market.selections}
    return Wanted(market.market_id, check_version(version), market.event_id, outcomes, voids=True)


def from_score(event: event_pb2.Event, home_goals: int, away_goals: int, version: int) -> list[Wanted]:
    """One settlement per market of the event. Raises INVALID_ARGUMENT for an impossible score."""
    for name, goals in (("home_goals", home_goals), ("away_goals", away_goals)):
        if not 0 <= goals <= MAX_GOALS:
            raise errors.invalid_argument("SCORE", f"{name} is {goals}: it must be 0 to {MAX_GOALS}")
    return [_by_score(market, home_goals, away_goals, version) for market in event.markets]


def _by_score(market: event_pb2.Market, home_goals: int, away_goals: int, version: int) -> Wanted:
    decided = decide_market(MarketKind(market.kind), market.line_quarters, home_goals, away_goals)
    outcomes = {selection: int(outcome) for selection, outcome in decided.items()}
    return Wanted(market.market_id, check_version(version), market.event_id, outcomes, voids=False)


def _bad(market: event_pb2.Market, selection: int, what: str) -> errors.ServiceError:
    return errors.invalid_argument("OUTCOME", f"market {market.market_id}: selection {selection} {what}")
