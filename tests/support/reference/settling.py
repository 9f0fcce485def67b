"""Results, version by version: who is paid, who has to give back, whose bet is open again."""

from __future__ import annotations

from dataclasses import dataclass

from betting.engine.commands import ColdPage, Conflict, Progress, Reply, ResultMarket, SettleChunk
from betting.engine.entries import Kind
from reference.bets import Bet, payout
from reference.books import Books, Market
from reference.ledger import HOUSE, stakes


@dataclass
class Settlements:
    """The rules for results over a shard's books."""

    books: Books

    def result(self, command: ResultMarket, now: int) -> Reply:
        """A first result is version 1; each correction is the next number, once the one before is settled."""
        market = self.books.markets.get(command.market)
        reached = market.version if market is not None else 0
        if market is not None and command.version == reached:
            if market.outcomes != command.outcomes:
                return Conflict("this version has another result")
            return progress_of(market, command.version)
        if command.version != reached + 1:
            return Conflict("versions come one after the other")
        if market is not None and not market.finished:
            return Conflict("the version before is still being settled", retry=True)
        if command.version > 1 and any(m.version > 1 and not m.finished for m in self.books.markets.values()):
            return Conflict("another market is being corrected", retry=True)
        waiting = [bet for bet in self.books.open_in_order if self.books.bets[bet].is_on(command.market)]
        before = (market.bets, market.payout_minor) if market is not None else (0, 0)
        self.books.markets[command.market] = Market(command.version, dict(command.outcomes), waiting, before)
        self.books.note(Kind.MARKET_RESULTED, now, len(self.books.ledger.moves), market=command.market)
        return Progress(done=False, bets=0, payout_minor=0)

    def chunk(self, command: SettleChunk, now: int) -> Reply:
        """Open bets first; a correction then looks at bets settled before, page by page."""
        market = self.books.markets.get(command.market)
        if market is None or market.version != command.version or market.finished:
            return progress_of(market, command.version)
        if market.to_look_at:
            self._look_at_open(command.market, market, command.limit, now)
            finished = market.version == 1 and not market.to_look_at
        elif market.version == 1:
            finished = True
        elif command.cold is None:
            finished = False
        else:
            problem = self._look_at_settled(command.market, market, command.cold, now)
            if problem is not None:
                return problem
            finished = command.cold.last
        if finished:
            market.finished = True
            self.books.note(Kind.MARKET_SETTLED, now, len(self.books.ledger.moves), market=command.market)
        return progress_of(market, command.version)

    def _look_at_open(self, number: int, market: Market, limit: int, now: int) -> None:
        looked_at = market.to_look_at[:limit]
        left_open = []
        for id_ in looked_at:
            bet = self.books.bets[id_]
            pays = payout(bet, self.books.results())
            if pays is None:
                left_open.append(id_)
            else:
                self._settle(number, market, bet, pays, now)
        market.to_look_at = [id_ for id_ in market.to_look_at if id_ not in left_open]
        if left_open:
            self.books.note(Kind.BETS_KEPT, now, len(self.books.ledger.moves), market=number)

    def _settle(self, number: int, market: Market, bet: Bet, pays: int, now: int) -> None:
        start = len(self.books.ledger.moves)
        self.books.ledger.move(stakes(bet.account), HOUSE, bet.stake_minor)
        self.books.ledger.pay_in(bet.account, HOUSE, pays)
        bet.payout_minor = pays
        bet.settlements += 1
        self.books.open_in_order.remove(bet.id)
        for other in self.books.markets.values():
            other.to_look_at = [id_ for id_ in other.to_look_at if id_ != bet.id]
        self._count(number, market, bet, pays, Kind.BET_SETTLED, now, start)

    def _look_at_settled(self, number: int, market: Market, page: ColdPage, now: int) -> Conflict | None:
        if page.after != market.cursor:
            return Conflict("the page does not go on where the last one ended", retry=True)
        if (page.version_bets, page.version_payout_minor) != market.before:
            return Conflict("the read model does not agree with the version before")
        for cold in page.bets:
            bet = self.books.bets[cold.bet]
            if (cold.record, cold.settlements, cold.payout_minor) != (bet.record(), bet.settlements, bet.payout_minor):
                raise ValueError(f"the page is not true of bet {bet.id.hex()}")
            pays = payout(bet, self.books.results())
            if pays is None:
                self._reopen(number, market, bet, cold.payout_minor, now)
            elif pays != cold.payout_minor:
                self._correct(number, market, bet, cold.payout_minor, pays, now)
        if page.bets:
            market.cursor = page.bets[-1].bet
            self.books.note(Kind.BETS_KEPT, now, len(self.books.ledger.moves), market=number)
        return None

    def _correct(self, number: int, market: Market, bet: Bet, paid: int, pays: int, now: int) -> None:
        start = len(self.books.ledger.moves)
        if pays > paid:
            self.books.ledger.pay_in(bet.account, HOUSE, pays - paid)
        else:
            self.books.ledger.take_back(bet.account, paid - pays)
        bet.payout_minor = pays
        bet.settlements += 1
        self._count(number, market, bet, pays, Kind.BET_RESETTLED, now, start)

    def _reopen(self, number: int, market: Market, bet: Bet, paid: int, now: int) -> None:
        """The bet was settled too early: the payout comes back, the stake is at risk again."""
        start = len(self.books.ledger.moves)
        self.books.ledger.take_back(bet.account, paid)
        self.books.ledger.move(HOUSE, stakes(bet.account), bet.stake_minor)
        bet.payout_minor = None
        self.books.open_in_order.append(bet.id)
        self._count(number, market, bet, 0, Kind.BET_REOPENED, now, start)

    def _count(self, number: int, market: Market, bet: Bet, pays: int, kind: Kind, now: int, start: int) -> None:
        market.bets += 1
        market.payout_minor += pays
        self.books.note(kind, now, start, account=bet.account, bet=bet.id, market=number)


def progress_of(market: Market | None, version: int) -> Progress:
    """How far a version is; nothing is known of versions before the one in force."""
    if market is None or market.version != version:
        return Progress(done=False, bets=0, payout_minor=0)
    return Progress(market.finished, market.bets, market.payout_minor)
