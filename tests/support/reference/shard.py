"""`Reference`: one shard, command by command, in the words of the business."""

from __future__ import annotations

from betting.engine.commands import (
    Command,
    Deposit,
    PlaceBet,
    PriorAnswer,
    Quote,
    Recorded,
    Rejected,
    Reply,
    ResultMarket,
    SettleChunk,
    Withdraw,
)
from betting.engine.entries import Kind
from betting.engine.ids import account_id, bet_id
from betting.engine.prices import Limits
from betting.engine.records import AMOUNT, MOVED_BODY, REFUSED_HEAD, SeenLeg, evidence_struct, pack_bet_content
from betting.engine.refusals import Refusal, is_final
from reference.answers import MoneyCommand, differing_field, key_refusal, method_of
from reference.bets import Bet, Leg, potential_payout
from reference.books import Books
from reference.canonical import Canonical
from reference.ledger import CLEARING, cash, receivable, stakes
from reference.refusing import Shop, Turned, why_no_bet, why_no_deposit, why_no_withdrawal
from reference.settling import Settlements


class Reference:
    """The rules of one shard. `execute` changes it; compare `canonical()` with the engine's."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.books = Books()
        self.settlements = Settlements(self.books)

    def canonical(self) -> Canonical:
        """The same form the engine gives of its state."""
        return self.books.canonical()

    def execute(self, command: Command, now_us: int, limits: Limits, prior: PriorAnswer | None = None) -> Reply:
        """Does what the command asks for, or says why not. Time in µs since 1970; it never runs backwards here.

        The reference forgets no request key, so `prior` can only confirm what it knows. Raises ValueError when it does
        not, or when a page of settled bets is not what this reference knows of them.
        """
        now = max(now_us, self.books.now_us)
        if isinstance(command, ResultMarket):
            return self.settlements.result(command, now)
        if isinstance(command, SettleChunk):
            return self.settlements.chunk(command, now)
        self._confirm(command, prior)
        return self._answered_before(command) or self._unusable(command, now) or self._first_time(command, now, limits)

    def _confirm(self, command: MoneyCommand, prior: PriorAnswer | None) -> None:
        known = self.books.answers.find(command)
        if prior is not None and (known is None or (known.kind, known.body) != (prior.kind, prior.body)):
            raise ValueError(f"request key {command.key.hex()} was never answered like that here")

    def _answered_before(self, command: MoneyCommand) -> Reply | None:
        """A repeat gets the first answer again; the same key for something else is named an error."""
        first = self.books.answers.find(command)
        if first is None:
            return None
        different = differing_field(command, first.command)
        if different:
            return Rejected(Refusal.KEY_REUSED, different)
        return Recorded(first.kind, command.key, first.body, repeated=True)

    def _unusable(self, command: MoneyCommand, now: int) -> Reply | None:
        refusal = key_refusal(command.key, now)
        return Rejected(refusal) if refusal is not None else None

    def _first_time(self, command: MoneyCommand, now: int, limits: Limits) -> Reply:
        shop = Shop(
            self.books.ledger,
            self.books.owners,
            frozenset(self.books.markets),
            self._open_bets_of(command),
            now,
            limits,
        )
        if isinstance(command, PlaceBet):
            turned = why_no_bet(shop, command)
            return self._refuse(command, now, turned) if turned else self._place(command, now)
        if isinstance(command, Deposit):
            turned = why_no_deposit(shop, command)
            return self._refuse(command, now, turned) if turned else self._deposit(command, now)
        turned = why_no_withdrawal(shop, command)
        return self._refuse(command, now, turned) if turned else self._withdraw(command, now)

    def _open_bets_of(self, command: MoneyCommand) -> int:
        account = account_id(command.user, command.currency)
        return sum(1 for bet in self.books.open_in_order if self.books.bets[bet].account == account)

    def _place(self, command: PlaceBet, now: int) -> Reply:
        account = account_id(command.user, command.currency)
        quotes = [quote for quote in command.quotes if quote is not None]
        legs = taken(command.legs, quotes, command.policy)
        bet = Bet(bet_id(account, command.key), account, command.stake_minor, now, legs)
        self.books.bets[bet.id] = bet
        self.books.open_in_order.append(bet.id)
        start = len(self.books.ledger.moves)
        self.books.ledger.move(cash(account), stakes(account), bet.stake_minor)
        evidence = [
            part
            for seen, q in zip(command.legs, quotes, strict=True)
            for part in (seen.numerator, seen.denominator, q.version, q.closes_at_us, q.age_ms, q.status)
        ]
        potential = potential_payout(bet.stake_minor, legs)
        body = bet.record() + evidence_struct(len(legs)).pack(command.policy, potential, *evidence)
        return self._answer(command, Kind.BET_PLACED, body, now, start, bet.id)

    def _deposit(self, command: Deposit, now: int) -> Reply:
        account = account_id(command.user, command.currency)
        if account not in self.books.owners:
            self.books.owners[account] = (command.user, command.currency)
            self.books.note(Kind.ACCOUNT_OPENED, now, len(self.books.ledger.moves), account=account)
        start = len(self.books.ledger.moves)
        self.books.ledger.pay_in(account, CLEARING, command.amount_minor)
        return self._answer(command, Kind.DEPOSITED, self._balance_body(account, command.amount_minor), now, start)

    def _withdraw(self, command: Withdraw, now: int) -> Reply:
        account = account_id(command.user, command.currency)
        start = len(self.books.ledger.moves)
        self.books.ledger.move(cash(account), CLEARING, command.amount_minor)
        return self._answer(command, Kind.WITHDRAWN, self._balance_body(account, command.amount_minor), now, start)

    def _balance_body(self, account: bytes, amount_minor: int) -> bytes:
        balances = [self.books.ledger.balance(name(account)) for name in (cash, stakes, receivable)]
        return MOVED_BODY.pack(account, amount_minor, *balances)

    def _refuse(self, command: MoneyCommand, now: int, turned: Turned) -> Reply:
        if not is_final(turned.refusal):
            return Rejected(turned.refusal, turned.field)
        account = account_id(command.user, command.currency)
        head = REFUSED_HEAD.pack(account, turned.refusal, turned.leg, turned.figure, method_of(command))
        if isinstance(command, PlaceBet):
            content = pack_bet_content(command.stake_minor, command.policy, command.legs)
        else:
            content = AMOUNT.pack(command.amount_minor)
        return self._answer(command, Kind.REFUSED, head + content, now, len(self.books.ledger.moves))

    def _answer(
        self, command: MoneyCommand, kind: Kind, body: bytes, now: int, start: int, bet: bytes | None = None
    ) -> Reply:
        account = account_id(command.user, command.currency)
        self.books.note(kind, now, start, account=account, bet=bet, key=command.key)
        self.books.answers.give(command, kind, body, now)
        return Recorded(kind, command.key, body, repeated=False)


def taken(legs: tuple[SeenLeg, ...], quotes: list[Quote], policy: int) -> tuple[Leg, ...]:
    """The legs at the price taken: the one seen under AS_SEEN, else the one there is."""
    prices = [
        (seen.numerator, seen.denominator) if policy == 0 else (quote.numerator, quote.denominator)
        for seen, quote in zip(legs, quotes, strict=True)
    ]
    return tuple(
        Leg(quote.event, seen.market, seen.selection, *price)
        for seen, quote, price in zip(legs, quotes, prices, strict=True)
    )
