"""The rules for results: one market version after another, in bounded chunks, exact and idempotent.

A version begins with MARKET_RESULTED: from then on the market takes no bets. Each chunk then looks at open bets with a
leg on the market: a bet whose result is certain is settled, another stays open until its last leg has a result. A later
version first looks at the open bets again, then at bets settled before (from the read model). MARKET_SETTLED closes the
version.
"""

from __future__ import annotations

from itertools import islice

from betting.engine.commands import ColdBet, ColdPage, Conflict, Decision, Progress, ResultMarket, SettleChunk
from betting.engine.entries import FORMAT, Entry, Kind
from betting.engine.outcomes import HALVES, Outcome
from betting.engine.records import (
    NO_CURSOR,
    RESETTLED_BODY,
    SETTLED_BODY,
    TOTALS_BODY,
    legs_of,
    pack_kept,
    pack_result,
)
from betting.engine.state import MarketResult, Settling, ShardState


def payout_of(record: bytes, results: dict[int, MarketResult]) -> int | None:
    """What a bet pays under these results, stake included; None while that is open.

    Exact, rounded once, down. A lost leg decides at once. A selection that its market's result does not mention has no
    result yet: refusing it here would let one incomplete result block every later version of its market for ever.
    """
    flat = legs_of(record)
    top, bottom = int.from_bytes(record[16:24]), 1
    certain = True
    for i in range(0, len(flat), 5):
        result = results.get(flat[i + 1])
        outcome = result.outcomes.get(flat[i + 2]) if result is not None else None
        if outcome is None:
            certain = False
            continue
        if outcome == Outcome.LOST:
            return 0
        wins, returns = HALVES[outcome]
        denominator = flat[i + 4]
        top *= wins * (flat[i + 3] + denominator) + returns * denominator
        bottom *= 2 * denominator
    return top // bottom if certain else None


def result_market(state: ShardState, command: ResultMarket, now: int) -> Decision:
    """Puts a result into force. Repeating the version in force is harmless; anything out of order is a Conflict."""
    market, version, outcomes = command
    known = state.results.get(market)
    if known is not None and known.version == version:
        if known.outcomes != outcomes:
            return _conflict(f"market {market} version {version} has another result already: use version {version + 1}")
        return Decision((), progress(state, market, version))
    expected = 1 if known is None else known.version + 1
    if version != expected:
        return _conflict(f"market {market} is at version {expected - 1}: the next is {expected}, not {version}")
    if known is not None and not known.done:
        return _conflict(f"market {market} version {known.version} has not finished here", retry=True)
    # A bet may have legs on two corrected markets: correcting one after the other keeps the cold pages true.
    correcting = [other for other, settling in state.settling.items() if settling.version > 1]
    if version > 1 and correcting:
        return _conflict(f"market {correcting[0]} is being settled again on this shard", retry=True)
    body = pack_result(version, outcomes)
    entry = Entry(
        state.head + 1, Kind.MARKET_RESULTED, FORMAT, now, None, None, None, market, 0, 0, 0, 0, 0, body
    )  # fmt: skip
    return Decision((entry,), Progress(done=False, bets=0, payout_minor=0))


def progress(state: ShardState, market: int, version: int) -> Progress:
    """How far this version is on this shard."""
    settling = state.settling.get(market)
    if settling is not None and settling.version == version:
        return Progress(done=False, bets=settling.bets, payout_minor=settling.payout_minor)
    known = state.results.get(market)
    if known is not None and known.version == version and known.done:
        return Progress(done=True, bets=known.bets, payout_minor=known.payout_minor)
    return Progress(done=False, bets=0, payout_minor=0)


def settle_chunk(state: ShardState, command: SettleChunk, now: int) -> Decision:
    """The next chunk of a version under way: open bets first, then the cold page given."""
    settling = state.settling.get(command.market)
    if settling is None or settling.version != command.version:
        return Decision((), progress(state, command.market, command.version))
    chunk = _Chunk(state, settling, command.market, now)
    if settling.unvisited or settling.version == 1:
        chunk.open_bets(command.limit)
    elif command.cold is not None:
        conflict = chunk.cold_bets(command.cold)
        if conflict is not None:
            return Decision((), conflict)
    if chunk.finished:
        chunk.close()
    done = Progress(chunk.finished, settling.bets + chunk.bets, settling.payout_minor + chunk.payout_minor)
    return Decision(tuple(chunk.entries), done)


class _Chunk:
    """The entries of one chunk. Keeps the balances that earlier entries of the same chunk lead to."""

    def __init__(self, state: ShardState, settling: Settling, market: int, now: int) -> None:
        self.state = state
        self.settling = settling
        self.market = market
        self.now = now
        self.entries: list[Entry] = []
        self.bets = 0
        self.payout_minor = 0
        self.finished = False
        self._balances: dict[bytes, list[int]] = {}

    def open_bets(self, limit: int) -> None:
        kept: list[bytes] = []
        looked_at = list(islice(self.settling.unvisited, limit))
        for bet in looked_at:
            record = self.state.open_bets[bet]
            payout = payout_of(record, self.state.results)
            if payout is None:
                kept.append(bet)
            else:
                self._settle(bet, record, payout)
        if kept:
            self._append(Kind.BETS_KEPT, pack_kept(self.settling.version, NO_CURSOR, kept))
        self.finished = self.settling.version == 1 and len(looked_at) == len(self.settling.unvisited)

    def cold_bets(self, page: ColdPage) -> Conflict | None:
        """Settles settled bets anew; the conflict when the page does not fit."""
        if page.after != self.settling.cursor:
            # Somebody else drives the same version and was faster: harmless.
            reason = f"market {self.market}: the page starts after another bet than the last one looked at"
            return Conflict(reason, retry=True)
        wrong_totals = self._totals_problem(page)
        if wrong_totals is not None:
            return Conflict(wrong_totals)
        for cold in page.bets:
            payout = payout_of(cold.record, self.state.results)
            if payout is None:
                self._reopen(cold)
            elif payout != cold.payout_minor:
                self._resettle(cold, payout)
        if page.bets:
            self._append(Kind.BETS_KEPT, pack_kept(self.settling.version, page.bets[-1].bet, []))
        self.finished = page.last
        return None

    def _totals_problem(self, page: ColdPage) -> str | None:
        bets, payout = self.settling.before
        if (bets, payout) == (page.version_bets, page.version_payout_minor):
            return None
        return (
            f"market {self.market} version {self.settling.version - 1} closed with {bets} bets paying {payout} here, "
            f"the read model has {page.version_bets} paying {page.version_payout_minor}: a person must look"
        )

    def close(self) -> None:
        settling = self.settling
        bets, payout = settling.bets + self.bets, settling.payout_minor + self.payout_minor
        self._append(Kind.MARKET_SETTLED, TOTALS_BODY.pack(settling.version, bets, payout))

    def _settle(self, bet: bytes, record: bytes, payout: int) -> None:
        account = record[:16]
        stake = int.from_bytes(record[16:24])
        cash, repaid = self._pay(account, payout)
        number = self.state.reopened.get(bet, 0) + 1
        body = SETTLED_BODY.pack(self.settling.version, number, payout)
        self._append(
            Kind.BET_SETTLED, body, account, bet, cash=cash, stakes=-stake, house=stake - payout, receivable=repaid
        )
        self._tally(payout)

    def _resettle(self, cold: ColdBet, payout: int) -> None:
        account = cold.record[:16]
        change = payout - cold.payout_minor
        cash, receivable = self._pay(account, change) if change > 0 else self._take(account, -change)
        body = RESETTLED_BODY.pack(self.settling.version, cold.settlements + 1, cold.payout_minor, payout)
        self._append(Kind.BET_RESETTLED, body, account, cold.bet, cash=cash, house=-change, receivable=receivable)
        self._tally(payout)

    def _reopen(self, cold: ColdBet) -> None:
        account = cold.record[:16]
        stake = int.from_bytes(cold.record[16:24])
        cash, receivable = self._take(account, cold.payout_minor)
        body = SETTLED_BODY.pack(self.settling.version, cold.settlements, cold.payout_minor) + cold.record
        self._append(
            Kind.BET_REOPENED,
            body,
            account,
            cold.bet,
            cash=cash,
            stakes=stake,
            house=cold.payout_minor - stake,
            receivable=receivable,
        )
        self._tally(0)

    def _balance(self, account: bytes) -> list[int]:
        balance = self._balances.get(account)
        if balance is None:
            known = self.state.accounts[account]
            balance = self._balances[account] = [known.cash_minor, known.receivable_minor]
        return balance

    def _pay(self, account: bytes, amount: int) -> tuple[int, int]:
        """What goes to cash and what repays the receivable first."""
        balance = self._balance(account)
        repaid = min(amount, -balance[1])
        balance[0] += amount - repaid
        balance[1] += repaid
        return amount - repaid, repaid

    def _take(self, account: bytes, amount: int) -> tuple[int, int]:
        """Takes the cash there is and posts the rest to the receivable."""
        balance = self._balance(account)
        taken = min(amount, balance[0])
        balance[0] -= taken
        balance[1] -= amount - taken
        return -taken, taken - amount

    def _tally(self, payout: int) -> None:
        self.bets += 1
        self.payout_minor += payout

    def _append(
        self,
        kind: Kind,
        body: bytes,
        account: bytes | None = None,
        bet: bytes | None = None,
        *,
        cash: int = 0,
        stakes: int = 0,
        house: int = 0,
        receivable: int = 0,
    ) -> None:
        sequence = self.state.head + 1 + len(self.entries)
        self.entries.append(
            Entry(
                sequence, kind, FORMAT, self.now, account, bet, None, self.market,
                cash, stakes, house, 0, receivable, body,
            )
        )  # fmt: skip


def _conflict(reason: str, *, retry: bool = False) -> Decision:
    return Decision((), Conflict(reason, retry))
