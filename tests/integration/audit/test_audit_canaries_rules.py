"""Journals whose every row fits the others, but which no honest owner would write: each breaks one promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest


class Leg(NamedTuple):
    """As in the hand-written journal."""

    event: int
    market: int
    selection: int
    numerator: int
    denominator: int
    seen: tuple[int, int] | None = None
    status: int = 1
    closes_in_us: int = 3_600_000_000


EVENS = Leg(7, 71, 1, 1, 1)


@dataclass(frozen=True)
class Forgery:
    """What is wrongly written after a clean season, and the checks that must fail: those and no others."""

    name: str
    fails: set[str]
    write: Callable[[Any], object]


def duplicated_settlement(j: Any) -> None:
    j.result(61, 1, {1: 5, 2: 1})
    j.settle(j.still_open, 61, 1, 450)
    j.settle(j.still_open, 61, 1, 450)
    j.close(61, 1)


def number_skipped(j: Any) -> None:
    j.still_open.number = 1
    j.result(61, 1, {1: 5, 2: 1})
    j.settle(j.still_open, 61, 1, 450)
    j.close(61, 1)


def payout_off_by_one(j: Any) -> None:
    j.result(61, 1, {1: 5, 2: 1})
    j.settle(j.still_open, 61, 1, 451)
    j.close(61, 1)


def half_won_paid_as_won(j: Any) -> None:
    j.result(61, 1, {1: 4, 2: 2})
    j.settle(j.still_open, 61, 1, 450)
    j.close(61, 1)


def settled_undecided(j: Any) -> None:
    bet = j.place(j.bob, 10, EVENS, Leg(8, 81, 1, 1, 1), potential=40)
    j.result(71, 1, {1: 5, 2: 1})
    j.settle(bet, 71, 1, 20)
    j.close(71, 1)


def decided_left_open(j: Any) -> None:
    j.result(61, 1, {1: 5, 2: 1})
    j.close(61, 1)


def lost_left_open(j: Any) -> None:
    bet = j.place(j.bob, 10, EVENS, Leg(8, 81, 1, 1, 1), potential=40)
    j.result(71, 1, {1: 1, 2: 5})
    j.keep(71, 1, bet)
    j.close(71, 1)


def correction_forgotten(j: Any) -> None:
    j.result(41, 2, {1: 5, 2: 1})
    j.resettle(j.void, 41, 2, 462)
    j.close(41, 2)


def corrected_from_another_payout(j: Any) -> None:
    j.void.payout += 1
    j.treble.payout += 1
    j.result(41, 2, {1: 5, 2: 1})
    j.resettle(j.void, 41, 2, 462)
    j.resettle(j.treble, 41, 2, 450)
    j.close(41, 2)


def version_skipped(j: Any) -> None:
    j.result(71, 2, {1: 5, 2: 1})
    j.close(71, 2)


def version_too_early(j: Any) -> None:
    j.result(71, 1, {1: 5, 2: 1})
    j.result(71, 2, {1: 5, 2: 1})
    j.close(71, 2)


def settled_after_the_end(j: Any) -> None:
    j.keep(21, 1, cursor=j.single.id)


def closed_twice(j: Any) -> None:
    j.close(21, 1)


def totals_forged(j: Any) -> None:
    j.result(61, 1, {1: 5, 2: 1})
    j.settle(j.still_open, 61, 1, 450)
    j.results[3, 61, 1] = (1, 451)
    j.close(61, 1)


def kept_although_decided(j: Any) -> None:
    j.result(61, 1, {1: 5, 2: 1})
    j.keep(61, 1, j.still_open)
    j.settle(j.still_open, 61, 1, 450)
    j.close(61, 1)


def kept_on_another_market(j: Any) -> None:
    j.result(71, 1, {1: 5, 2: 1})
    j.keep(71, 1, j.still_open)
    j.close(71, 1)


def settled_by_another_market(j: Any) -> None:
    j.result(61, 1, {1: 5, 2: 1})
    j.result(71, 1, {1: 5, 2: 1})
    j.settle(j.still_open, 71, 1, 450)
    j.close(61, 1)
    j.close(71, 1)


def results_differ(j: Any) -> None:
    j.result(71, 1, {1: 5, 2: 1})
    j.close(71, 1)
    j.result(71, 1, {1: 1, 2: 5}, shard=5)
    j.close(71, 1, shard=5)


def placed_after_the_result(j: Any) -> None:
    j.place(j.bob, 10, Leg(1, 11, 1, 1, 1), potential=20)
    j.place(j.bob, 10, Leg(2, 21, 1, 1, 1), potential=20)


def placed_during_settlement(j: Any) -> None:
    j.result(71, 1, {1: 5, 2: 1})
    j.place(j.bob, 10, EVENS, potential=20)


def owes(j: Any) -> None:
    """Bob has little cash and owes after a correction."""
    j.withdraw(j.bob, j.bob.cash)
    j.result(31, 2, {1: 1, 2: 5})
    j.resettle(j.quarter, 31, 2, 0, receivable=-484)
    # 50 x 191/100 x 2/2 x 3/1
    j.resettle(j.treble, 31, 2, 286)
    j.close(31, 2)


def deposit_without_repaying(j: Any) -> None:
    owes(j)
    j.deposit(j.bob, 500)


def withdrawn_while_owing(j: Any) -> None:
    deposit_without_repaying(j)
    j.withdraw(j.bob, 100)


def owed_although_there_was_cash(j: Any) -> None:
    j.result(31, 2, {1: 1, 2: 5})
    j.resettle(j.quarter, 31, 2, 0, receivable=-1)
    j.resettle(j.treble, 31, 2, 286)
    j.close(31, 2)


FORGERIES = [
    Forgery("a deposit of nothing", {"entries.amounts"}, lambda j: j.deposit(j.bob, 0)),
    Forgery("a negative deposit", {"entries.amounts"}, lambda j: j.deposit(j.bob, -5)),
    Forgery("more withdrawn than there was", {"accounts.cash"}, lambda j: j.withdraw(j.bob, j.bob.cash + 1)),
    Forgery(
        "a repayment of nothing owed",
        {"accounts.receivable", "accounts.repayment"},
        lambda j: j.deposit(j.bob, 9, repaid=9),
    ),
    Forgery("deposited without repaying", {"accounts.repayment"}, deposit_without_repaying),
    Forgery("withdrawn while owing", {"accounts.repayment", "accounts.withdrawals"}, withdrawn_while_owing),
    Forgery("owed although there was cash", {"accounts.repayment"}, owed_although_there_was_cash),
    Forgery(
        "two legs of one event", {"bets.legs"}, lambda j: j.place(j.bob, 10, EVENS, Leg(7, 72, 1, 1, 1), potential=40)
    ),
    Forgery(
        "twenty-one legs",
        {"bets.legs"},
        lambda j: j.place(j.bob, 1, *(Leg(100 + i, 1000 + i, 1, 1, 1) for i in range(21)), potential=2**21),
    ),
    Forgery(
        "a price of a million and one",
        {"bets.legs"},
        lambda j: j.place(j.bob, 1, EVENS._replace(numerator=1_000_001), potential=1_000_002),
    ),
    Forgery("no legs", {"bets.legs"}, lambda j: j.place(j.bob, 1, potential=1)),
    Forgery(
        "a denominator of zero",
        {"bets.legs", "bets.potential"},
        lambda j: j.place(j.bob, 1, EVENS._replace(denominator=0), potential=1),
    ),
    Forgery("potential payout off by one", {"bets.potential"}, lambda j: j.place(j.bob, 10, EVENS, potential=21)),
    Forgery(
        "potential payout rounded per leg",
        {"bets.potential"},
        # 101 x 3/2 x 3/2 = 227.25; rounding each leg down gives 226
        lambda j: j.place(j.bob, 101, Leg(7, 71, 1, 1, 2), Leg(8, 81, 1, 1, 2), potential=226),
    ),
    Forgery("placed after the result", {"bets.before_result", "settlements.standing"}, placed_after_the_result),
    Forgery("placed during settlement", {"bets.before_result"}, placed_during_settlement),
    Forgery(
        "a suspended quote", {"bets.evidence"}, lambda j: j.place(j.bob, 10, EVENS._replace(status=2), potential=20)
    ),
    Forgery(
        "a closed quote", {"bets.evidence"}, lambda j: j.place(j.bob, 10, EVENS._replace(closes_in_us=0), potential=20)
    ),
    Forgery(
        "another price than seen",
        {"bets.price_policy"},
        lambda j: j.place(j.bob, 10, EVENS._replace(seen=(2, 1)), potential=20),
    ),
    Forgery(
        "a worse price than seen",
        {"bets.price_policy"},
        lambda j: j.place(j.bob, 10, EVENS._replace(seen=(2, 1)), potential=20, policy=1),
    ),
    Forgery("an unknown policy", {"bets.price_policy"}, lambda j: j.place(j.bob, 10, EVENS, potential=20, policy=3)),
    Forgery(
        "a duplicated settlement",
        {"accounts.stakes", "bets.open_stakes", "settlements.numbers", "settlements.once"},
        duplicated_settlement,
    ),
    Forgery("a settlement number skipped", {"settlements.numbers"}, number_skipped),
    Forgery("a payout off by one", {"settlements.payout", "settlements.standing"}, payout_off_by_one),
    Forgery("half a win paid as a whole one", {"settlements.payout", "settlements.standing"}, half_won_paid_as_won),
    Forgery("settled before it was decided", {"settlements.payout", "settlements.standing"}, settled_undecided),
    Forgery("decided and left open", {"settlements.standing"}, decided_left_open),
    Forgery("lost and left open", {"settlements.kept", "settlements.standing"}, lost_left_open),
    Forgery("a correction forgotten", {"settlements.standing"}, correction_forgotten),
    Forgery("a correction of another payout", {"settlements.before"}, corrected_from_another_payout),
    Forgery("a version skipped", {"settlements.versions"}, version_skipped),
    Forgery("a version too early", {"settlements.versions"}, version_too_early),
    Forgery("something after the end", {"settlements.within_version"}, settled_after_the_end),
    Forgery("a version closed twice", {"settlements.within_version"}, closed_twice),
    Forgery("totals forged", {"settlements.totals"}, totals_forged),
    Forgery("kept although decided", {"settlements.kept"}, kept_although_decided),
    Forgery("kept on another market", {"settlements.kept"}, kept_on_another_market),
    Forgery("settled by another market", {"settlements.bets"}, settled_by_another_market),
    Forgery("results differ between shards", {"settlements.same_results"}, results_differ),
]


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.name.replace(" ", "-"))
async def test_caught(audited: Any, season: Any, forgery: Forgery) -> None:
    """The audit fails in the right checks and in no other."""
    forgery.write(season)
    audited.write(season)
    failed = await audited.failed()
    assert set(failed) == forgery.fails, {name: check.examples for name, check in failed.items()}


async def test_owing_is_allowed(audited: Any, season: Any) -> None:
    """The honest twin of the forgeries about owing: a correction that takes more than there is, then repaid first."""
    owes(season)
    season.deposit(season.bob, 500, repaid=484)
    season.withdraw(season.bob, 16)
    audited.write(season)
    assert await audited.failed() == {}
