"""What the projector keeps of the entries, in memory: settled bets, request keys, totals per market version."""

from __future__ import annotations

from dataclasses import dataclass, field

from betting.engine.commands import ColdBet, ColdPage, PriorAnswer
from betting.engine.entries import Entry, Kind
from betting.engine.records import LEG_SIZE, RECORD_HEAD, RESETTLED_BODY, SETTLED_BODY, markets_of

_SETTLING_KINDS = frozenset({Kind.BET_SETTLED, Kind.BET_RESETTLED, Kind.BET_REOPENED})


def record_of(placed_body: bytes) -> bytes:
    """The bet record at the head of a BET_PLACED body."""
    return placed_body[: RECORD_HEAD + LEG_SIZE * placed_body[32]]


@dataclass
class ReadModel:
    """Follows the journal of one shard without lag."""

    records: dict[bytes, bytes] = field(default_factory=dict)
    settled: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # bet -> settlements, payout
    totals: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)  # market, version -> bets, payouts
    requests: dict[bytes, list[PriorAnswer]] = field(default_factory=dict)  # key -> each user's answer

    def note(self, entry: Entry) -> None:
        """Takes in the next entry."""
        if entry.request_key is not None:
            self.requests.setdefault(entry.request_key, []).append(PriorAnswer(entry.kind, entry.body))
        if entry.kind == Kind.BET_PLACED:
            assert entry.bet is not None
            self.records[entry.bet] = record_of(entry.body)
        if entry.kind in _SETTLING_KINDS:
            self._note_settlement(entry)

    def _note_settlement(self, entry: Entry) -> None:
        assert entry.bet is not None
        assert entry.market is not None
        payout = 0
        if entry.kind == Kind.BET_REOPENED:
            version, _number, _before = SETTLED_BODY.unpack_from(entry.body)
            del self.settled[entry.bet]
        else:
            body = SETTLED_BODY if entry.kind == Kind.BET_SETTLED else RESETTLED_BODY
            version, number, *_before, payout = body.unpack(entry.body)
            self.settled[entry.bet] = (number, payout)
        bets, paid = self.totals.get((entry.market, version), (0, 0))
        self.totals[entry.market, version] = (bets + 1, paid + payout)

    def page(self, market: int, version: int, after: bytes, size: int) -> ColdPage:
        """Up to `size` settled bets on the market with ids above `after`; totals are those of the version before."""
        found = sorted(bet for bet in self.settled if bet > after and market in markets_of(self.records[bet]))
        bets = tuple(ColdBet(bet, self.records[bet], *self.settled[bet]) for bet in found[:size])
        before = self.totals.get((market, version - 1), (0, 0))
        return ColdPage(after, bets, len(found) <= size, *before)
