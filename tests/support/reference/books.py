"""Everything a shard knows, in plain containers, and the list of what happened."""

from __future__ import annotations

from dataclasses import dataclass, field

from betting.engine.entries import Kind
from reference.answers import Answers
from reference.bets import Bet
from reference.canonical import Canonical
from reference.ledger import CLEARING, HOUSE, Ledger, Move, cash, receivable, stakes


@dataclass(frozen=True)
class Happened:
    """One thing that happened; its place in the list is its sequence."""

    kind: Kind
    at_us: int
    account: bytes | None = None
    bet: bytes | None = None
    key: bytes | None = None
    market: int | None = None
    moves: tuple[Move, ...] = ()


@dataclass
class Market:
    """A market that has a result: the version in force, and how far its settlement is."""

    version: int
    outcomes: dict[int, int]
    to_look_at: list[bytes]
    before: tuple[int, int]  # bets and payouts of the version before
    cursor: bytes = b""
    bets: int = 0
    payout_minor: int = 0
    finished: bool = False


@dataclass
class Books:
    """One shard's books. `happened` is the journal: its length is the head."""

    now_us: int = 0
    happened: list[Happened] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    owners: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)  # account -> user, currency
    bets: dict[bytes, Bet] = field(default_factory=dict)  # all there ever were
    open_in_order: list[bytes] = field(default_factory=list)
    markets: dict[int, Market] = field(default_factory=dict)
    answers: Answers = field(default_factory=Answers)

    def note(
        self,
        kind: Kind,
        now: int,
        start: int,
        account: bytes | None = None,
        bet: bytes | None = None,
        key: bytes | None = None,
        market: int | None = None,
    ) -> None:
        """Something happened; its moves are those made since `start` moves there were."""
        moves = tuple(self.ledger.moves[start:])
        self.happened.append(Happened(kind, now, account, bet, key, market, moves))
        self.now_us = now

    def results(self) -> dict[int, dict[int, int]]:
        """The results in force: market, selection, outcome."""
        return {number: market.outcomes for number, market in self.markets.items()}

    def canonical(self) -> Canonical:
        """The same form the engine gives of its state."""
        balance = self.ledger.balance
        still_open = [self.bets[id_] for id_ in self.open_in_order]
        return Canonical(
            head=len(self.happened),
            now_us=self.now_us,
            house_minor=balance(HOUSE),
            clearing_minor=balance(CLEARING),
            accounts=tuple(
                (
                    account, *self.owners[account],
                    balance(cash(account)), balance(stakes(account)), balance(receivable(account)),
                    tuple(sorted(bet.id for bet in still_open if bet.account == account)),
                )
                for account in sorted(self.owners)
            ),
            open_bets=tuple(sorted((bet.id, bet.record()) for bet in still_open)),
            results=tuple(
                (
                    number, m.version, tuple(sorted(m.outcomes.items())), m.finished,
                    m.bets if m.finished else 0, m.payout_minor if m.finished else 0,
                )
                for number, m in sorted(self.markets.items(), key=lambda item: item[0])
            ),
            settling=tuple(
                (number, m.version, m.cursor, m.bets, m.payout_minor, tuple(sorted(m.to_look_at)))
                for number, m in sorted(self.markets.items(), key=lambda item: item[0])
                if not m.finished
            ),
            reopened=tuple(sorted((bet.id, bet.settlements) for bet in still_open if bet.settlements)),
            recent=self.answers.recent(self.now_us),
        )  # fmt: skip
