"""Settlement scenarios, told as stories; engine and reference run in lockstep behind every step."""

from __future__ import annotations

from typing import Any

import pytest

from betting.engine.commands import Conflict, Progress, ResultMarket, SettleChunk
from betting.engine.entries import Entry, Kind
from betting.engine.records import RESETTLED_BODY, SETTLED_BODY, TOTALS_BODY

HOME_WINS = {1: 5, 2: 1, 3: 1}
AWAY_WINS = {1: 1, 2: 5, 3: 1}
VOID = {1: 3, 2: 3, 3: 3}


def of_kind(world: Any, kind: Kind) -> list[Entry]:
    """All entries of a kind so far."""
    return [entry for entry in world.twins.entries if entry.kind == kind]


def test_market_without_bets_finishes(world: Any) -> None:
    """Most shards have no bet on most markets: the first chunk closes the version."""
    assert world.result(101, HOME_WINS) == Progress(done=False, bets=0, payout_minor=0)
    assert world.chunk(101, 5, 5) == Progress(done=True, bets=0, payout_minor=0)
    assert world.chunk(101, 5, 5) == Progress(done=True, bets=0, payout_minor=0)
    assert len(of_kind(world, Kind.MARKET_SETTLED)) == 1


def test_another_market_can_settle_the_last_bet(world: Any) -> None:
    """The only bet waiting for one market is lost by another one's result meanwhile: nothing is left to look at."""
    world.place([(101, 1), (201, 1)])
    world.result(101, HOME_WINS)
    world.settle(201, AWAY_WINS)
    assert world.chunk(101, 5, 5) == Progress(done=True, bets=0, payout_minor=0)


@pytest.mark.parametrize("limit", range(1, 6))
def test_interleaved_settlements(world: Any, limit: int) -> None:
    """Two markets settle chunk by chunk in turn; each shared accumulator is settled once."""
    for number in range(6):
        world.place([(101, 1 + number % 2), (201, 1)], 50)
    for market in (101, 201):
        world.place([(market, 1)], 50)
        world.result(market, HOME_WINS)
    for _ in range(10):
        for market in (101, 201):
            world.chunk(market, limit, 2)
    settled = [entry.bet for entry in of_kind(world, Kind.BET_SETTLED)]
    assert len(settled) == len(set(settled)) == 8
    assert not world.twins.state.open_bets
    assert world.cash() == 10_000 - 8 * 50 + 3 * 200 + 2 * 100


def test_winner_who_withdrew_owes(world: Any) -> None:
    """A corrected result takes the cash there is; the rest is owed, and repaid first by the next winnings."""
    world.place([(101, 1)], 1_000)
    world.settle(101, HOME_WINS)
    world.withdraw(10_500)
    world.settle(101, AWAY_WINS)
    (account,) = world.twins.state.accounts.values()
    assert (account.cash_minor, account.receivable_minor) == (0, -1_500)
    world.deposit(1_600)
    world.place([(201, 1)], 100)
    world.settle(201, HOME_WINS)
    (account,) = world.twins.state.accounts.values()
    assert (account.cash_minor, account.receivable_minor) == (200, 0)


def test_winnings_repay_a_debt(world: Any) -> None:
    """An open bet that wins while the user owes goes to the debt first."""
    world.place([(101, 1)], 1_000)
    world.place([(201, 1)], 600)
    world.settle(101, HOME_WINS)
    world.withdraw(world.cash())
    world.settle(101, AWAY_WINS)
    world.settle(201, HOME_WINS)
    (account,) = world.twins.state.accounts.values()
    assert (account.cash_minor, account.receivable_minor) == (0, -800)


def test_lost_accumulator_opens_again(world: Any) -> None:
    """A lost leg settled the bet early; corrected, it waits for its last leg, and its settlements are counted."""
    world.place([(101, 1), (201, 1)], 100)
    world.settle(101, AWAY_WINS)
    assert not world.twins.state.open_bets
    world.settle(101, HOME_WINS)
    assert len(world.twins.state.open_bets) == 1
    world.twins.restart(len(world.twins.entries))
    world.settle(201, HOME_WINS)
    last = of_kind(world, Kind.BET_SETTLED)[-1]
    assert SETTLED_BODY.unpack(last.body) == (1, 2, 400)
    assert world.cash() == 10_300


def test_correction_pays_the_difference(world: Any) -> None:
    """Home bets give back, away bets get theirs; a bet that comes out the same is left alone."""
    for selection in (1, 2, 3):
        world.place([(101, selection)], 100)
    world.settle(101, HOME_WINS)
    world.settle(101, AWAY_WINS, page_size=1)
    changes = {RESETTLED_BODY.unpack(entry.body) for entry in of_kind(world, Kind.BET_RESETTLED)}
    assert changes == {(2, 2, 200, 0), (2, 2, 0, 200)}
    assert TOTALS_BODY.unpack(of_kind(world, Kind.MARKET_SETTLED)[-1].body) == (2, 2, 200)


def test_third_version_checks_the_second_s_totals(world: Any) -> None:
    """Each version is compared with what the one before paid."""
    world.place([(101, 1)], 100)
    for outcomes in (HOME_WINS, AWAY_WINS, HOME_WINS, VOID):
        assert world.settle(101, outcomes).done
    assert world.cash() == 10_000


def test_incomplete_result_waits_for_a_complete_one(world: Any) -> None:
    """A result that forgets a selection leaves its bets open; the next version settles them."""
    world.place([(101, 3)], 100)
    world.place([(101, 1)], 100)
    assert world.settle(101, {1: 5, 2: 1}) == Progress(done=True, bets=1, payout_minor=200)
    assert len(world.twins.state.open_bets) == 1
    assert world.settle(101, {1: 1, 2: 1, 3: 5}).done
    assert not world.twins.state.open_bets
    assert world.cash() == 10_000


def test_forgotten_selection_does_not_block_another_market(world: Any) -> None:
    """An accumulator lost elsewhere has a leg that no result mentions: correcting the other market opens it again."""
    world.place([(101, 3), (201, 1)], 100)
    world.settle(201, AWAY_WINS)
    world.settle(101, {1: 5, 2: 1})
    assert world.settle(201, HOME_WINS).done
    assert len(world.twins.state.open_bets) == 1
    world.settle(101, {1: 1, 2: 1, 3: 5})
    assert world.cash() == 10_300


def test_result_taken_back(world: Any) -> None:
    """A correction that mentions a selection no longer opens its bets again and takes their payout back."""
    world.place([(101, 1)], 100)
    world.settle(101, HOME_WINS)
    assert world.cash() == 10_100
    world.settle(101, {2: 1})
    assert world.cash() == 9_900
    (account,) = world.twins.state.accounts.values()
    assert account.open_stakes_minor == 100


def test_versions_come_in_order(world: Any) -> None:
    """A gap, another result under a known number, a next version too early: conflicts; only the last passes."""
    assert world.result(101, HOME_WINS, step=1) == Conflict("market 101 is at version 0: the next is 1, not 2")
    world.result(101, HOME_WINS)
    assert not world.result(101, AWAY_WINS, step=-1).retry
    assert world.result(101, AWAY_WINS).retry
    world.chunk(101, 1, 1)
    assert world.result(101, HOME_WINS, step=-1) == Progress(done=True, bets=0, payout_minor=0)
    assert world.result(101, AWAY_WINS) == Progress(done=False, bets=0, payout_minor=0)
    assert not world.result(101, HOME_WINS, step=-2).retry


def test_one_correction_at_a_time(world: Any) -> None:
    """While one market is corrected another may be settled for the first time, not corrected."""
    for market in (101, 201):
        world.place([(market, 1)], 100)
        world.settle(market, HOME_WINS)
    world.result(101, AWAY_WINS)
    assert world.result(201, AWAY_WINS).retry
    assert world.settle(301, HOME_WINS).done


def test_a_page_read_twice_is_harmless(world: Any) -> None:
    """Two drivers of one settlement: the slower one's page is out of date, and it is told to ask again."""
    for _ in range(4):
        world.place([(101, 1)], 10)
    world.settle(101, HOME_WINS)
    world.result(101, AWAY_WINS)
    page = world.twins.page(101, 2)
    command = SettleChunk(101, 2, 5, page)
    assert world.twins.execute(command, world.now_us) == Progress(done=False, bets=2, payout_minor=0)
    reply = world.twins.execute(command, world.now_us)
    assert isinstance(reply, Conflict)
    assert reply.retry
    assert world.chunk(101, 5, 2).done


def test_wrong_totals_stop_the_settlement(world: Any) -> None:
    """The read model disagrees about what the version before paid: nothing is written, a person must look."""
    world.place([(101, 1)], 10)
    world.settle(101, HOME_WINS)
    world.result(101, AWAY_WINS)
    head = world.twins.state.head
    reply = world.chunk(101, 5, 5, "totals")
    assert isinstance(reply, Conflict)
    assert not reply.retry
    assert "a person must look" in reply.reason
    assert world.twins.state.head == head


def test_chunks_are_bounded(world: Any) -> None:
    """A chunk looks at no more bets than its limit."""
    for _ in range(7):
        world.place([(101, 1)], 10)
    world.result(101, HOME_WINS)
    for settled in (3, 6, 7):
        assert world.chunk(101, 3, 1).bets == settled
    assert world.twins.state.results[101].done


def test_chunk_of_another_version_writes_nothing(world: Any) -> None:
    """Commands for a market or version that is not under way tell how far it is."""
    head = world.twins.state.head
    assert world.twins.execute(SettleChunk(999, 1, 5, None), world.now_us) == Progress(
        done=False, bets=0, payout_minor=0
    )
    world.twins.execute(ResultMarket(101, 1, HOME_WINS), world.now_us)
    assert world.chunk(101, 1, 1, "version") == Progress(done=False, bets=0, payout_minor=0)
    assert world.twins.state.head == head + 1
