"""Refusals: which are final, one scenario per final one, and which comes first when several apply."""

from __future__ import annotations

from typing import Any

import pytest

from betting.engine.commands import MarketStatus, Recorded, Rejected
from betting.engine.entries import Kind
from betting.engine.records import RefusedBody, unpack_refused
from betting.engine.refusals import Refusal, is_final
from betting.v1 import common_pb2

MINUTE_MS = 60_000
MINUTE_US = 60_000_000
MONTH_MS = 30 * 24 * 60 * MINUTE_MS
VOID = {1: 3, 2: 3, 3: 3}

TABLE = [
    (Refusal.KEY_EXPIRED, 60, False),
    (Refusal.KEY_IN_FUTURE, 61, False),
    (Refusal.KEY_REUSED, 62, False),
    (Refusal.NOT_OWNER, 42, False),
    (Refusal.OVERLOADED, 41, False),
    (Refusal.RATE_LIMITED, 43, False),
    (Refusal.SHARD_FROZEN, 44, False),
    (Refusal.DEADLINE_PASSED, 45, False),
    (Refusal.BOOK_STALE, 40, False),
    (Refusal.ACCOUNT_NOT_FOUND, 10, False),
    (Refusal.UNKNOWN_SELECTION, 19, False),
    (Refusal.LEGS_SHARE_EVENT, 20, False),
    (Refusal.STAKE_BELOW_MINIMUM, 12, True),
    (Refusal.STAKE_ABOVE_MAXIMUM, 13, True),
    (Refusal.MARKET_RESULTED, 18, True),
    (Refusal.MARKET_NOT_OPEN, 16, True),
    (Refusal.MARKET_CLOSED, 17, True),
    (Refusal.PRICE_MOVED, 15, True),
    (Refusal.PAYOUT_ABOVE_MAXIMUM, 14, True),
    (Refusal.TOO_MANY_OPEN_BETS, 21, True),
    (Refusal.BALANCE_ABOVE_MAXIMUM, 22, True),
    (Refusal.OWES_RECEIVABLE, 23, True),
    (Refusal.INSUFFICIENT_FUNDS, 11, True),
]


@pytest.mark.parametrize(("refusal", "number", "final"), TABLE, ids=lambda value: getattr(value, "name", ""))
def test_table(refusal: Refusal, number: int, final: bool) -> None:
    """Each refusal has its public number and is final or not."""
    assert refusal == number
    assert is_final(refusal) is final


def test_table_is_whole_and_in_order() -> None:
    """No member is missing from the table, and the enum is in checking order."""
    assert [row[0] for row in TABLE] == list(Refusal)


def test_numbers_are_those_of_the_public_contract() -> None:
    """A code means the same in betting.v1.RefusalCode."""
    public = {name.removeprefix("REFUSAL_CODE_"): number for name, number in common_pb2.RefusalCode.items() if number}
    assert public == {refusal.name: refusal.value for refusal in Refusal}


def refused(reply: object) -> RefusedBody:
    """The body of a refusal that was recorded."""
    assert isinstance(reply, Recorded)
    assert reply.kind == Kind.REFUSED
    return unpack_refused(reply.body)


def test_account_not_found(world: Any) -> None:
    """No account in this currency: neither bet nor withdrawal, and nothing is written."""
    turned_away = Rejected(Refusal.ACCOUNT_NOT_FOUND, "currency")
    head = world.twins.state.head
    assert world.place([(101, 1)], user=1) == turned_away
    assert world.withdraw(1, user=1) == turned_away
    assert world.place([(101, 1)], currency=1) == turned_away
    assert world.twins.state.head == head


@pytest.mark.parametrize(
    ("stake", "code"),
    [(9, Refusal.STAKE_BELOW_MINIMUM), (10, None), (5_000, None), (5_001, Refusal.STAKE_ABOVE_MAXIMUM)],
)
def test_stake_limits(world: Any, stake: int, code: Refusal | None) -> None:
    """Both limits are themselves allowed."""
    reply = world.place([(101, 1)], stake)
    assert reply.kind == Kind.BET_PLACED if code is None else refused(reply).code == code


def test_unknown_selection_names_the_leg(world: Any) -> None:
    """A selection that the book does not have, second in the bet; the request key stays free for the right bet."""
    key = world.key()
    assert world.place([(101, 1), (202, 3)], key=key) == Rejected(Refusal.UNKNOWN_SELECTION, "legs[1]")
    assert world.place([(202, 3)]) == Rejected(Refusal.UNKNOWN_SELECTION, "legs[0]")
    assert world.place([(101, 1)], key=key).kind == Kind.BET_PLACED


def test_legs_share_event(world: Any) -> None:
    """Two markets of one event, and one market twice even where the book claims two events."""
    head = world.twins.state.head
    assert world.place([(201, 1), (101, 1), (102, 1)]) == Rejected(Refusal.LEGS_SHARE_EVENT, "legs[2]")
    world.quote(101, 2, event=9)
    assert world.place([(101, 1), (101, 2)]) == Rejected(Refusal.LEGS_SHARE_EVENT, "legs[1]")
    assert world.twins.state.head == head


def test_market_resulted_from_the_first_entry_on(world: Any) -> None:
    """Once the result is in, not once it is settled."""
    world.place([(101, 1)])
    world.result(101, VOID)
    assert refused(world.place([(101, 1)])).code == Refusal.MARKET_RESULTED


@pytest.mark.parametrize("status", [s for s in MarketStatus if s is not MarketStatus.OPEN])
def test_market_not_open(world: Any, status: MarketStatus) -> None:
    """Only an open market takes bets."""
    world.quote(301, 1, status=status)
    assert refused(world.place([(301, 1)])).code == Refusal.MARKET_NOT_OPEN


@pytest.mark.parametrize(("left_us", "code"), [(1, None), (0, Refusal.MARKET_CLOSED), (-1, Refusal.MARKET_CLOSED)])
def test_market_closed(world: Any, left_us: int, code: Refusal | None) -> None:
    """The closing time itself is too late."""
    world.quote(301, 1, closes_at_us=world.now_us + left_us)
    reply = world.place([(301, 1)])
    assert reply.kind == Kind.BET_PLACED if code is None else refused(reply).code == code


@pytest.mark.parametrize("policy", [0, 1])
def test_price_moved_tells_the_price(world: Any, policy: int) -> None:
    """Shorter than seen: refused with the price there is, which is not reduced or rounded."""
    world.quote(301, 1, numerator=1_998, denominator=2_000)
    body = refused(world.place([(301, 1)], policy=policy, seen=(1_000, 1_000)))
    assert (body.code, body.current_price) == (Refusal.PRICE_MOVED, (1_998, 2_000))


@pytest.mark.parametrize(
    ("policy", "seen", "taken"),
    [
        (0, (1, 2), (1, 2)), (1, (1, 2), (1, 1)), (2, (1, 2), (1, 1)), (2, (3, 1), (1, 1)), (0, (2, 2), (2, 2)),
        (1, (2, 2), (1, 1)),
    ],
)  # fmt: skip
def test_price_taken(world: Any, policy: int, seen: tuple[int, int], taken: tuple[int, int]) -> None:
    """As seen, the better one, or whatever there is; an equal price has not moved."""
    world.place([(301, 1)], 100, policy=policy, seen=seen)
    (record,) = world.twins.state.open_bets.values()
    assert (int.from_bytes(record[-8:-4]), int.from_bytes(record[-4:])) == taken


@pytest.mark.parametrize(("stake", "code"), [(20, None), (21, Refusal.PAYOUT_ABOVE_MAXIMUM)])
def test_payout_above_maximum(world: Any, stake: int, code: Refusal | None) -> None:
    """The limit itself may be won."""
    world.quote(301, 1, numerator=9_999, denominator=1)
    reply = world.place([(301, 1)], stake)
    assert reply.kind == Kind.BET_PLACED if code is None else refused(reply).code == code


def test_too_many_open_bets(world: Any) -> None:
    """The limit itself can be reached; a settled bet makes room again."""
    replies = [world.place([(101, 1)], 10) for _ in range(13)]
    assert [reply.kind for reply in replies[:12]] == [Kind.BET_PLACED] * 12
    assert refused(replies[12]).code == Refusal.TOO_MANY_OPEN_BETS
    world.settle(101, VOID)
    assert world.place([(201, 1)], 10).kind == Kind.BET_PLACED


def test_insufficient_funds(world: Any) -> None:
    """All the cash can be staked or withdrawn, not a unit more."""
    assert refused(world.withdraw(10_001)).code == Refusal.INSUFFICIENT_FUNDS
    world.withdraw(9_900)
    assert refused(world.place([(101, 1)], 101)).code == Refusal.INSUFFICIENT_FUNDS
    assert world.place([(101, 1)], 100).kind == Kind.BET_PLACED


def test_balance_above_maximum(world: Any) -> None:
    """Cash may reach the limit; without an account a refused deposit opens none."""
    assert refused(world.deposit(40_001)).code == Refusal.BALANCE_ABOVE_MAXIMUM
    assert world.deposit(40_000).kind == Kind.DEPOSITED
    assert refused(world.deposit(50_001, user=1)).code == Refusal.BALANCE_ABOVE_MAXIMUM
    assert world.twins.state.account_ids.keys() == {b"\x01" * 16 + b"GBP"}


def in_debt(world: Any) -> None:
    """The first user won 5,000, withdrew everything, and the result was corrected."""
    world.place([(101, 1)], 5_000)
    world.settle(101, {1: 5, 2: 1, 3: 1})
    world.withdraw(world.cash())
    world.settle(101, {1: 1, 2: 5, 3: 1})


def test_owes_receivable(world: Any) -> None:
    """A debtor withdraws nothing until the debt is repaid; deposits repay it first."""
    in_debt(world)
    assert refused(world.withdraw(1)).code == Refusal.OWES_RECEIVABLE
    world.deposit(9_999)
    assert refused(world.withdraw(1)).code == Refusal.OWES_RECEIVABLE
    world.deposit(2)
    assert world.withdraw(1).kind == Kind.WITHDRAWN


def test_a_debt_leaves_room_for_a_deposit(world: Any) -> None:
    """The limit is on what becomes cash: 10,000 go to the debt, 50,000 may stay."""
    in_debt(world)
    assert refused(world.deposit(60_001)).code == Refusal.BALANCE_ABOVE_MAXIMUM
    assert world.deposit(60_000).kind == Kind.DEPOSITED
    assert world.cash() == 50_000


def test_checking_order_of_a_bet(world: Any) -> None:
    """A bet with everything wrong at once loses one fault after another, and is refused for the next in the enum."""
    now = world.now_us
    world.result(202, VOID)
    for selection in (1, 2):
        world.quote(202, selection, event=1, status=2, closes_at_us=now, numerator=1, denominator=2)
    world.withdraw(10_000)
    assert world.place([(202, 3)], 9, user=1).refusal == Refusal.ACCOUNT_NOT_FOUND
    assert world.place([(202, 3)], 9).refusal == Refusal.UNKNOWN_SELECTION
    assert world.place([(101, 1), (202, 1)], 9).refusal == Refusal.LEGS_SHARE_EVENT
    assert refused(world.place([(202, 1)], 9)).code == Refusal.STAKE_BELOW_MINIMUM
    assert refused(world.place([(202, 1)], 5_001)).code == Refusal.STAKE_ABOVE_MAXIMUM
    assert refused(world.place([(202, 1)], 5_000, seen=(9_999, 1))).code == Refusal.MARKET_RESULTED
    world.quote(301, 1, status=2, closes_at_us=now, numerator=1, denominator=2)
    assert refused(world.place([(301, 1)], 5_000, seen=(9_999, 1))).code == Refusal.MARKET_NOT_OPEN
    world.quote(301, 1, status=1)
    assert refused(world.place([(301, 1)], 5_000, seen=(9_999, 1))).code == Refusal.MARKET_CLOSED
    world.quote(301, 1, closes_at_us=now + 1, numerator=9_998)
    assert refused(world.place([(301, 1)], 5_000, seen=(9_999, 1))).code == Refusal.PRICE_MOVED
    world.quote(301, 1, numerator=9_999, denominator=1)
    assert refused(world.place([(301, 1)], 5_000, seen=(9_999, 1))).code == Refusal.PAYOUT_ABOVE_MAXIMUM
    assert refused(world.place([(401, 1)], 5_000)).code == Refusal.INSUFFICIENT_FUNDS


def test_open_bets_come_before_funds(world: Any) -> None:
    """Too many open bets and no money: the number of bets is said first."""
    for _ in range(12):
        world.place([(101, 1)], 10)
    world.withdraw(world.cash())
    assert refused(world.place([(101, 1)], 10)).code == Refusal.TOO_MANY_OPEN_BETS


def test_legs_are_checked_one_after_another(world: Any) -> None:
    """A moved price in the first leg is said before a closed market in the second."""
    world.quote(202, 1, closes_at_us=world.now_us)
    body = refused(world.place([(301, 1), (202, 1)], seen=(2, 1)))
    assert (body.code, body.leg_index) == (Refusal.PRICE_MOVED, 0)


@pytest.mark.parametrize(
    ("age_ms", "refusal"),
    [
        (MONTH_MS, None), (MONTH_MS + 1, Refusal.KEY_EXPIRED), (-5 * MINUTE_MS, None),
        (-5 * MINUTE_MS - 1, Refusal.KEY_IN_FUTURE),
    ],
)  # fmt: skip
def test_age_of_keys(world: Any, age_ms: int, refusal: Refusal | None) -> None:
    """Up to 30 days old and 5 minutes ahead; beyond, nothing is written and the key stays free."""
    head = world.twins.state.head
    reply = world.deposit(1, key=world.key(age_ms))
    if refusal is None:
        assert isinstance(reply, Recorded)
    else:
        assert reply == Rejected(refusal)
        assert world.twins.state.head == head


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ("currency", "account"), ("amount", "stake_minor"), ("method", "method"), ("legs", "legs"),
        ("policy", "price_change_policy"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stake", [100, 1], ids=["placed", "refused"])
@pytest.mark.parametrize("wait_minutes", [0, 25], ids=["from memory", "from the database"])
def test_reused_key_names_the_field(world: Any, change: str, field: str, stake: int, wait_minutes: int) -> None:
    """The same key with other content; the true repeat still gets the first answer."""
    first = world.place([(101, 1)], stake)
    world.now_us += wait_minutes * 60_000_000
    world.deposit(1, user=1)  # moves the shard's clock
    assert world.repeat(1, change) == Rejected(Refusal.KEY_REUSED, field)
    assert world.repeat(1, "") == first._replace(repeated=True)


@pytest.mark.parametrize("wait_minutes", [0, 25], ids=["from memory", "from the database"])
@pytest.mark.parametrize("stake", [100, 1], ids=["placed", "refused"])
def test_a_key_belongs_to_its_user(world: Any, stake: int, wait_minutes: int) -> None:
    """Two users of one shard use one key: each has a bet of its own, and each repeat gets its own first answer."""
    world.deposit(1_000, user=1)
    mine = world.place([(101, 1)], stake)
    theirs = world.place([(101, 1)], stake, user=1, key=mine.key)
    assert not theirs.repeated
    assert theirs.body[:16] != mine.body[:16]
    world.now_us += wait_minutes * MINUTE_US
    world.deposit(1, user=2)  # moves the shard's clock
    assert world.place([(101, 1)], stake, key=mine.key) == mine._replace(repeated=True)
    assert world.place([(101, 1)], stake, user=1, key=mine.key) == theirs._replace(repeated=True)
    assert world.place([(101, 1)], stake + 1, user=1, key=mine.key) == Rejected(Refusal.KEY_REUSED, "stake_minor")
    world.twins.restart(len(world.twins.entries) // 2)
    assert world.place([(101, 1)], stake, key=mine.key) == mine._replace(repeated=True)


def test_a_key_is_the_users_in_every_currency(world: Any) -> None:
    """The same key for an account in another currency is an error, whoever else used that key before."""
    first = world.deposit(10, user=1)
    world.deposit(10, user=2, key=first.key)
    for user in (1, 2):
        assert world.deposit(10, user=user, currency=1, key=first.key) == Rejected(Refusal.KEY_REUSED, "account")


@pytest.mark.parametrize("wait_minutes", [0, 25], ids=["from memory", "from the database"])
def test_a_refused_first_deposit_is_known_by_its_account(world: Any, wait_minutes: int) -> None:
    """It opens no account, so nothing names its user: repeats are answered, another currency is another request."""
    first = world.deposit(50_001, user=1)
    other = world.deposit(10, user=1, currency=1, key=first.key)
    assert other.kind == Kind.DEPOSITED
    world.deposit(10, user=1)
    world.now_us += wait_minutes * MINUTE_US
    world.deposit(1, user=2)
    world.twins.restart(3)
    assert world.deposit(50_001, user=1, key=first.key) == first._replace(repeated=True)
    assert world.deposit(10, user=1, currency=1, key=first.key) == other._replace(repeated=True)


def test_reused_key_of_a_deposit(world: Any) -> None:
    """Amounts of deposits are called amount_minor."""
    assert world.repeat(0, "amount") == Rejected(Refusal.KEY_REUSED, "amount_minor")


def test_failed_key_stays_failed(world: Any) -> None:
    """A repeat of a final refusal is refused again, also once the money is there."""
    world.deposit(1, user=1)
    first = world.place([(101, 1)], 5_000, user=1)
    assert refused(first).code == Refusal.INSUFFICIENT_FUNDS
    world.deposit(9_000, user=1)
    assert world.repeat(-2, "") == first._replace(repeated=True)


def test_an_old_key_works_once(world: Any) -> None:
    """A key made long before it is used: the repeat finds the first answer in memory before the database has it."""
    key = world.key(60 * MINUTE_MS)
    first = world.deposit(5, key=key)
    world.now_us += 1_000_000
    world.twins.read_model.requests.clear()
    assert world.repeat(1, "") == first._replace(repeated=True)
    assert world.cash() == 10_005


@pytest.mark.parametrize("age_minutes", [15, 16, 19, 20, 21, 60])
def test_a_key_that_is_looked_up_is_remembered_from_its_use_on(world: Any, age_minutes: int) -> None:
    """A look-up from before its answer was durable finds nothing: memory must know it, whatever minute has begun."""
    world.now_us += -world.now_us % MINUTE_US + MINUTE_US - 10_000  # the last moment of a minute
    key = world.key(age_minutes * MINUTE_MS)
    first = world.deposit(5, key=key)
    for waited_us in (20_000, 19 * MINUTE_US):
        world.now_us += waited_us
        world.deposit(1, user=1)  # anybody's entry moves the minute on
        world.twins.read_model.requests.clear()
        index = next(i for i, past in enumerate(world.past) if past.key == key)
        assert world.repeat(index, "") == first._replace(repeated=True)
