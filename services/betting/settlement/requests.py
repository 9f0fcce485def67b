"""The rules of settlement requests: checks, outcomes from a score, and earlier versions. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from betting.engine.outcomes import SELECTIONS, MarketKind, Outcome, decide_market, possible_results
from betting.runtime import errors
from betting.runtime.errors import ServiceError
from betting.v1 import event_pb2, settlement_pb2

MAX_GOALS = 1_000
MAX_VERSION = 2**31 - 1

_OUTCOMES = frozenset(int(outcome) for outcome in Outcome)
_KINDS = frozenset(int(kind) for kind in MarketKind)
_PLAYED = frozenset({event_pb2.EVENT_STATUS_STARTED, event_pb2.EVENT_STATUS_FINISHED})


class RequestedSettlement(NamedTuple):
    """A settlement to record. `voids`: by the decision of an operator, not because the score gives void."""

    market_id: int
    version: int
    event_id: int
    outcomes: Mapping[int, int]
    voids: bool


class RecordedVersion(NamedTuple):
    """A recorded version of a market; `done` once it is settled on every shard."""

    version: int
    outcomes: Mapping[int, int]
    voids: bool
    done: bool


class RefusedResult(NamedTuple):
    """A result that is not accepted, and why. No outcomes if they do not follow from the result."""

    market_id: int
    version: int
    event_id: int
    outcomes: Mapping[int, int]
    why: ServiceError


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


def from_outcomes(
    market: event_pb2.Market, given: Iterable[settlement_pb2.SelectionOutcome], version: int
) -> RequestedSettlement:
    """Exactly one outcome per selection of the market: all VOID, or such as some score gives.

    Raises INVALID_ARGUMENT naming the selections.
    """
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
    if not voids:
        _check_possible(market, outcomes)
    return RequestedSettlement(market.market_id, check_version(version), market.event_id, outcomes, voids)


def check_started(event: event_pb2.Event, now_us: int) -> None:
    """Raises FAILED_PRECONDITION NOT_STARTED while the event's start is ahead and its feed has not started it."""
    if event.status in _PLAYED or event.starts_at_us <= now_us:
        return
    starts = datetime.fromtimestamp(event.starts_at_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    raise errors.failed_precondition(
        "NOT_STARTED",
        f"event {event.event_id} has not started: it starts at {starts} and has no result before that; "
        "to return the stakes now, void its markets with VoidMarket",
    )


def void(market: event_pb2.Market, version: int) -> RequestedSettlement:
    """Every leg on the market pays at decimal odds of 1."""
    outcomes = {selection.selection_id: int(Outcome.VOID) for selection in market.selections}
    return RequestedSettlement(market.market_id, check_version(version), market.event_id, outcomes, voids=True)


def from_score(
    event: event_pb2.Event, home_goals: int, away_goals: int, version: int
) -> list[RequestedSettlement | RefusedResult]:
    """The outcomes of each market of the event, from the score. Raises INVALID_ARGUMENT for an impossible score."""
    for name, goals in (("home_goals", home_goals), ("away_goals", away_goals)):
        if not 0 <= goals <= MAX_GOALS:
            raise errors.invalid_argument("SCORE", f"{name} is {goals}: it must be 0 to {MAX_GOALS}")
    check_version(version)
    return [_by_score(event, market, home_goals, away_goals, version) for market in event.markets]


def _by_score(
    event: event_pb2.Event, market: event_pb2.Market, home_goals: int, away_goals: int, version: int
) -> RequestedSettlement | RefusedResult:
    market_id = market.market_id
    try:
        decided = decide_market(MarketKind(market.kind), market.line_quarters, home_goals, away_goals)
    except ValueError:
        decided = {}
    outcomes = {selection: int(outcome) for selection, outcome in decided.items()}
    if outcomes.keys() != {selection.selection_id for selection in market.selections}:
        message = f"market {market_id} is not decided by a score: settle it with SettleMarket or VoidMarket"
        return RefusedResult(market_id, version, event.event_id, {}, errors.failed_precondition("UNDECIDED", message))
    return RequestedSettlement(market_id, version, event.event_id, outcomes, voids=False)


def recorded_as(known: Sequence[RecordedVersion], wanted: RequestedSettlement) -> int | None:
    """The version that says the same already; None: record it as the next one. `known`: ascending, without gaps.

    Raises FAILED_PRECONDITION when the version has other outcomes, is not the next one, or comes too early.
    """
    market_id, version = wanted.market_id, wanted.version
    last = len(known)
    if version <= last:
        if known[version - 1].outcomes != wanted.outcomes:
            raise errors.failed_precondition(
                "VERSION_TAKEN",
                f"market {market_id} version {version} has another result: correct it with version {last + 1}, "
                "or confirm what is in force by sending it again",
            )
        return version
    if version != last + 1:
        raise errors.failed_precondition(
            "VERSION_NOT_NEXT", f"market {market_id} is at version {last}: the next is {last + 1}"
        )
    if known and not known[-1].done:
        raise errors.failed_precondition(
            "VERSION_UNFINISHED", f"market {market_id} version {last} has not finished: wait for it"
        )
    return None


def stands_against_score(known: Sequence[RecordedVersion], wanted: RequestedSettlement) -> int | None:
    """The version in force, where an event's score leaves it as it is: it was voided, or corrected to the same."""
    if not known or wanted.version > len(known):
        return None
    in_force = known[-1]
    return in_force.version if in_force.voids or in_force.outcomes == wanted.outcomes else None


def abandoned(wanted: RequestedSettlement) -> ServiceError:
    """Why a score does not settle a market of an abandoned event."""
    return errors.failed_precondition(
        "EVENT_ABANDONED",
        f"event {wanted.event_id} is abandoned: market {wanted.market_id} is for you to void (VoidMarket) or settle",
    )


def _check_possible(market: event_pb2.Market, outcomes: Mapping[int, int]) -> None:
    """Raises INVALID_ARGUMENT. A market that no score decides may have any outcomes."""
    if market.kind not in _KINDS or outcomes.keys() != set(SELECTIONS[MarketKind(market.kind)]):
        return
    kind = MarketKind(market.kind)
    possible = possible_results(kind, market.line_quarters)
    if outcomes in possible:
        return
    at = "" if kind is MarketKind.MATCH_RESULT else f" at the line {market.line_quarters / 4:g}"
    raise errors.invalid_argument(
        "OUTCOMES_IMPOSSIBLE",
        f"market {market.market_id} ({kind.name.lower().replace('_', ' ')}): {_named(outcomes)} contradict each other: "
        f"no score gives that{at}. Give one of: {'; '.join(map(_named, possible))}; or VOID for every selection",
    )


def _named(outcomes: Mapping[int, int]) -> str:
    """`selections 1 WON, 2 LOST`."""
    each = (f"{selection} {Outcome(outcome).name}" for selection, outcome in sorted(outcomes.items()))
    return f"selections {', '.join(each)}"


def _bad(market: event_pb2.Market, selection: int, what: str) -> errors.ServiceError:
    return errors.invalid_argument("OUTCOME", f"market {market.market_id}: selection {selection} {what}")
