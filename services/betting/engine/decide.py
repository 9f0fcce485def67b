"""The rules for bets and cash. `decide` reads the state and returns facts; it never changes anything.

Order in every rule, after TigerBeetle: has this key been answered → may the key be used → refusals in the order of
`refusals.Refusal` → the point of no return, where entries are made.
"""

from __future__ import annotations

from betting.engine import settlement
from betting.engine.commands import (
    Command,
    Decision,
    Deposit,
    MarketStatus,
    PlaceBet,
    PricePolicy,
    PriorAnswer,
    Quote,
    Recorded,
    Rejected,
    ResultMarket,
    SettleChunk,
    Withdraw,
)
from betting.engine.entries import FORMAT, Entry, Kind
from betting.engine.ids import account_id, bet_id, key_time_ms
from betting.engine.prices import Limits
from betting.engine.records import (
    ACCOUNT_BODY,
    AMOUNT,
    MOVED_BODY,
    REFUSED_HEAD,
    SeenLeg,
    pack_bet_content,
    placed_struct,
    price_figure,
)
from betting.engine.refusals import Refusal
from betting.engine.repeats import difference
from betting.engine.state import RECENT_MINUTES, Account, ShardState

KEY_LIFETIME_MS = 30 * 24 * 3600 * 1000
KEY_AHEAD_MS = 5 * 60 * 1000
# Looking a member up in its enum costs as much as adding a bet to a dict.
_PLACED = Kind.BET_PLACED
_OPEN = int(MarketStatus.OPEN)

KEY_REMEMBERED_MS = RECENT_MINUTES * 60 * 1000


def needs_lookup(key: bytes, now_us: int) -> bool:
    """Whether a request key is too old to be in memory for certain: look in the database before `decide`."""
    return key_time_ms(key) < now_us // 1000 - KEY_REMEMBERED_MS


def decide(
    state: ShardState,
    command: Command,
    now_us: int,
    limits: Limits,
    prior: PriorAnswer | None = None,
) -> Decision:
    """The entries this command makes now, and its answer once they are durable.

    now_us: the database's time; never earlier than the state's. prior: what the database knows of an old request key
    of this user.
    """
    now = now_us if now_us > state.now_us else state.now_us
    match command:
        case PlaceBet():
            return _keyed(state, command, now, prior) or _place(state, command, now, limits)
        case Deposit():
            return _keyed(state, command, now, prior) or _deposit(state, command, now, limits)
        case Withdraw():
            return _keyed(state, command, now, prior) or _withdraw(state, command, now)
        case ResultMarket():
            return settlement.result_market(state, command, now)
        case SettleChunk():
            return settlement.settle_chunk(state, command, now)


def _keyed(
    state: ShardState, command: PlaceBet | Deposit | Withdraw, now: int, prior: PriorAnswer | None
) -> Decision | None:
    """The answer this request key already has, or why it may not be used, or None: go on."""
    key = command.key
    first = state.remembered(command.user, command.currency, key) or prior
    if first is not None:
        field = difference(command, first)
        if field:
            return Decision((), Rejected(Refusal.KEY_REUSED, field))
        return Decision((), Recorded(first.kind, key, first.body, repeated=True))
    age_ms = now // 1000 - key_time_ms(key)
    if age_ms > KEY_LIFETIME_MS:
        return Decision((), Rejected(Refusal.KEY_EXPIRED))
    if age_ms < -KEY_AHEAD_MS:
        return Decision((), Rejected(Refusal.KEY_IN_FUTURE))
    return None


def _place(state: ShardState, command: PlaceBet, now: int, limits: Limits) -> Decision:
    _, user, currency, stake, legs, policy, quotes = command
    found = state.account_ids.get(user + currency)
    if found is None:
        return Decision((), Rejected(Refusal.ACCOUNT_NOT_FOUND, "currency"))
    meaningless = _check_meaning(legs, quotes)
    if meaningless is not None:
        return Decision((), meaningless)
    account = state.accounts[found]
    if stake < limits.min_stake_minor:
        return _refuse_bet(state, command, now, found, Refusal.STAKE_BELOW_MINIMUM, limits.min_stake_minor)
    if stake > limits.max_stake_minor:
        return _refuse_bet(state, command, now, found, Refusal.STAKE_ABOVE_MAXIMUM, limits.max_stake_minor)
    refusal, index, figure = _check_legs(state, legs, quotes, policy, now)
    if refusal is not None:
        return _refuse_bet(state, command, now, found, refusal, figure, index)

    flat: list[int] = []
    evidence: list[int] = []
    top, bottom = stake, 1
    for leg, quote in zip(legs, quotes, strict=True):
        assert quote is not None
        numerator, denominator = leg[2], leg[3]
        if policy:  # AS_SEEN takes the price seen; the others take the price there is
            numerator, denominator = quote[1], quote[2]
        top *= numerator + denominator
        bottom *= denominator
        flat += (quote[0], leg[0], leg[1], numerator, denominator)
        evidence += (leg[2], leg[3], quote[3], quote[5], quote[6], quote[4])
    potential = top // bottom
    if potential > limits.max_payout_minor:
        return _refuse_bet(state, command, now, found, Refusal.PAYOUT_ABOVE_MAXIMUM, limits.max_payout_minor)
    if len(account.open_bets) >= limits.max_open_bets:
        return _refuse_bet(state, command, now, found, Refusal.TOO_MANY_OPEN_BETS, limits.max_open_bets)
    if account.cash_minor < stake:
        return _refuse_bet(state, command, now, found, Refusal.INSUFFICIENT_FUNDS, stake - account.cash_minor)

    n = len(legs)
    body = placed_struct(n).pack(found, stake, now, n, *flat, policy, potential, *evidence)
    key = command.key
    bet = bet_id(found, key)
    entry = Entry(
        state.head + 1, _PLACED, FORMAT, now, found, bet, key, None, -stake, stake, 0, 0, 0, body
    )  # fmt: skip
    return Decision((entry,), Recorded(_PLACED, key, body, repeated=False))


def _check_meaning(legs: tuple[SeenLeg, ...], quotes: tuple[Quote | None, ...]) -> Rejected | None:
    """The first leg that no bet could have, whatever its stake and price."""
    if len(legs) == 1:
        return None if quotes[0] is not None else Rejected(Refusal.UNKNOWN_SELECTION, "legs[0]")
    seen = set()
    for index, quote in enumerate(quotes):
        if quote is None:
            return Rejected(Refusal.UNKNOWN_SELECTION, f"legs[{index}]")
        # A book that names two events for one market must not get a bet in that apply could not take out again.
        event, market = ("event", quote[0]), ("market", legs[index][0])
        if event in seen or market in seen:
            return Rejected(Refusal.LEGS_SHARE_EVENT, f"legs[{index}]")
        seen.add(event)
        seen.add(market)
    return None


def _check_legs(
    state: ShardState,
    legs: tuple[SeenLeg, ...],
    quotes: tuple[Quote | None, ...],
    policy: int,
    now: int,
) -> tuple[Refusal | None, int, int]:
    """The first refusal, leg by leg in checking order, the leg it is about, its figure. One pass when all is well."""
    results = state.results
    for index, leg in enumerate(legs):
        quote = quotes[index]
        assert quote is not None
        _event, numerator, denominator, _version, status, closes_at, _age = quote
        if leg[0] in results:
            return Refusal.MARKET_RESULTED, index, 0
        if status != _OPEN:
            return Refusal.MARKET_NOT_OPEN, index, max(0, status)
        if now >= closes_at:
            return Refusal.MARKET_CLOSED, index, max(0, closes_at)
        # Shorter than the price seen: moved against the bettor.
        if numerator * leg[3] < leg[2] * denominator and policy != PricePolicy.ACCEPT_ANY:
            return Refusal.PRICE_MOVED, index, price_figure(numerator, denominator)
    return None, 0, 0


def _deposit(state: ShardState, command: Deposit, now: int, limits: Limits) -> Decision:
    key, user, currency, amount = command
    found = account_id(user, currency)
    account = state.accounts.get(found)
    known = account or Account(user, currency, 0, 0, 0, ())
    repaid = min(amount, -known.receivable_minor)
    cash, receivable = known.cash_minor + amount - repaid, known.receivable_minor + repaid
    if cash > limits.max_cash_minor:
        figure = limits.max_cash_minor
        return _refuse_amount(state, command, now, found, Refusal.BALANCE_ABOVE_MAXIMUM, figure, Kind.DEPOSITED)
    body = MOVED_BODY.pack(found, amount, cash, known.open_stakes_minor, receivable)
    sequence = state.head + 1
    opening: tuple[Entry, ...] = ()
    if account is None:
        opened = ACCOUNT_BODY.pack(user, currency)
        opening = (Entry(sequence, Kind.ACCOUNT_OPENED, FORMAT, now, found, None, None, None, 0, 0, 0, 0, 0, opened),)
        sequence += 1
    entry = Entry(
        sequence, Kind.DEPOSITED, FORMAT, now, found, None, key, None, amount - repaid, 0, 0, -amount, repaid, body
    )  # fmt: skip
    return Decision((*opening, entry), Recorded(Kind.DEPOSITED, key, body, repeated=False))


def _withdraw(state: ShardState, command: Withdraw, now: int) -> Decision:
    key, user, currency, amount = command
    found = account_id(user, currency)
    account = state.accounts.get(found)
    if account is None:
        return Decision((), Rejected(Refusal.ACCOUNT_NOT_FOUND, "currency"))
    if account.receivable_minor < 0:
        owed = -account.receivable_minor
        return _refuse_amount(state, command, now, found, Refusal.OWES_RECEIVABLE, owed, Kind.WITHDRAWN)
    if account.cash_minor < amount:
        missing = amount - account.cash_minor
        return _refuse_amount(state, command, now, found, Refusal.INSUFFICIENT_FUNDS, missing, Kind.WITHDRAWN)
    body = MOVED_BODY.pack(found, amount, account.cash_minor - amount, account.open_stakes_minor, 0)
    entry = Entry(
        state.head + 1, Kind.WITHDRAWN, FORMAT, now, found, None, key, None, -amount, 0, 0, amount, 0, body
    )  # fmt: skip
    return Decision((entry,), Recorded(Kind.WITHDRAWN, key, body, repeated=False))


def _refuse_bet(
    state: ShardState, command: PlaceBet, now: int, account: bytes, refusal: Refusal, figure: int, index: int = 0
) -> Decision:
    content = pack_bet_content(command.stake_minor, command.policy, command.legs)
    body = REFUSED_HEAD.pack(account, refusal, index, figure, Kind.BET_PLACED) + content
    return _refused(state, command.key, now, account, body)


def _refuse_amount(
    state: ShardState,
    command: Deposit | Withdraw,
    now: int,
    account: bytes,
    refusal: Refusal,
    figure: int,
    kind: Kind,
) -> Decision:
    body = REFUSED_HEAD.pack(account, refusal, 0, figure, kind) + AMOUNT.pack(command.amount_minor)
    return _refused(state, command.key, now, account, body)


def _refused(state: ShardState, key: bytes, now: int, account: bytes, body: bytes) -> Decision:
    entry = Entry(state.head + 1, Kind.REFUSED, FORMAT, now, account, None, key, None, 0, 0, 0, 0, 0, body)
    return Decision((entry,), Recorded(Kind.REFUSED, key, body, repeated=False))
