"""Engine, reference and read model side by side: one command at a time, everything that can be seen compared."""

from __future__ import annotations

from collections.abc import Iterable

from betting.engine import snapshots
from betting.engine.apply import apply
from betting.engine.commands import (
    ColdPage,
    Command,
    Conflict,
    Decision,
    PriorAnswer,
    Progress,
    Reply,
    ResultMarket,
    SettleChunk,
)
from betting.engine.decide import decide, needs_lookup
from betting.engine.entries import Entry
from betting.engine.prices import Limits
from betting.engine.state import ShardState
from reference.books import Happened
from reference.canonical import Canonical, canonical, check_invariants, state_hash
from reference.cold import ReadModel
from reference.ledger import Move
from reference.shard import Reference

_COLUMNS = ("cash", "stakes", "house", "clearing", "receivable")


class Disagreement(AssertionError):
    """Engine and reference differ, or the engine broke one of its promises."""


class Lockstep:
    """Runs commands through both implementations. `state` is always the engine's, also after a restart."""

    def __init__(self, shard: int, limits: Limits) -> None:
        self.limits = limits.check()
        self.state = ShardState(shard)
        self.reference = Reference(shard)
        self.read_model = ReadModel()
        self.entries: list[Entry] = []
        self._form = canonical(self.state)

    def execute(self, command: Command, now_us: int) -> Reply:
        """The engine's reply. Raises Disagreement, BrokenInvariant."""
        prior = self._prior(command, now_us)
        decision = self._decide(command, now_us, prior)
        for entry in decision.entries:
            require(_total(entry) == 0, f"an entry does not balance: {entry}")
            apply(self.state, entry)
            self.read_model.note(entry)
            self.entries.append(entry)
        slow = self.reference.execute(command, now_us, self.limits, prior)
        self._compare(command, decision, slow)
        return decision.reply

    def settle(self, market: int, version: int, limit: int, page_size: int, now_us: int) -> Reply:
        """One more chunk of a settlement, with a page of settled bets where one is due."""
        return self.execute(SettleChunk(market, version, limit, self.page(market, page_size)), now_us)

    def settle_all(self, command: ResultMarket, limit: int, page_size: int, now_us: int) -> Reply:
        """Puts a result into force and settles until it is done or there is a conflict."""
        reply = self.execute(command, now_us)
        while isinstance(reply, Progress) and not reply.done:
            head = self.state.head
            reply = self.settle(command.market, command.version, limit, page_size, now_us)
            require(self.state.head > head, "a chunk made no progress")
        return reply

    def page(self, market: int, size: int) -> ColdPage | None:
        """The page of settled bets that the shell would read now."""
        under_way = self.state.settling.get(market)
        if under_way is None or under_way.unvisited or under_way.version == 1:
            return None
        return self.read_model.page(market, under_way.version, under_way.cursor, size)

    def restart(self, snapshot_at: int) -> None:
        """Goes on with a state replayed up to an entry, written as a snapshot, loaded, and brought up to the head."""
        half_way = replay(ShardState(self.state.shard), self.entries[:snapshot_at])
        loaded = load(encode(half_way))
        require(everything(loaded) == everything(half_way), "a snapshot does not load as what was captured")
        self._replace(replay(loaded, self.entries[snapshot_at:]))

    def _replace(self, state: ShardState) -> None:
        require(everything(state) == everything(self.state), "replay leads to another state than the live one")
        self.state = state

    def _prior(self, command: Command, now_us: int) -> PriorAnswer | None:
        if isinstance(command, ResultMarket | SettleChunk):
            return None
        asked = needs_lookup(command.key, max(now_us, self.state.now_us))
        found = self.read_model.requests.get(command.key, []) if asked else []
        return self.state.own_answer(command.user, command.currency, found)

    def _decide(self, command: Command, now_us: int, prior: PriorAnswer | None) -> Decision:
        told = repr(command)
        decision = decide(self.state, command, now_us, self.limits, prior)
        require(canonical(self.state) == self._form, f"decide changed the state for {told}")
        require(repr(command) == told, f"decide changed the command {told}")
        require(decide(self.state, command, now_us, self.limits, prior) == decision, f"decide wavers over {told}")
        return decision

    def _compare(self, command: Command, decision: Decision, slow: Reply) -> None:
        fast = decision.reply
        if isinstance(fast, Conflict) and isinstance(slow, Conflict):
            require(fast.retry == slow.retry, f"{command}: {fast} / {slow}")
        else:
            require(fast == slow, f"{command}: engine {fast}, reference {slow}")
        self._form, other = canonical(self.state), self.reference.canonical()
        require(state_hash(self._form) == state_hash(other), f"{command}: {difference(self._form, other)}")
        happened = self.reference.books.happened[len(self.reference.books.happened) - len(decision.entries) :]
        for entry, fact in zip(decision.entries, happened, strict=True):
            require(_seen(entry) == _told(fact), f"{command}: engine {_seen(entry)}, reference {_told(fact)}")
        require(self.state.bets_accepted == len(self.reference.books.bets), "accepted bets are counted wrongly")
        check_invariants(self.state)


def require(holds: bool, otherwise: str) -> None:
    """Raises Disagreement unless it holds."""
    if not holds:
        raise Disagreement(otherwise)


def replay(state: ShardState, entries: Iterable[Entry]) -> ShardState:
    """Applies entries; returns the same state."""
    for entry in entries:
        apply(state, entry)
    return state


def encode(state: ShardState) -> bytes:
    """The whole snapshot of a state."""
    return b"".join(snapshots.encode(snapshots.capture(state)))


def load(data: bytes) -> ShardState:
    """The state in a snapshot, in one go. Raises BadSnapshot."""
    work = snapshots.load(data)
    while True:
        try:
            next(work)
        except StopIteration as done:
            state: ShardState = done.value
            return state


def everything(state: ShardState) -> tuple[object, ...]:
    """All of a state, also what the canonical form leaves out: orders, indexes, cursors."""
    settling = [
        (market, s.version, s.before, s.cursor, s.bets, s.payout_minor, list(s.unvisited))
        for market, s in state.settling.items()
    ]
    return (
        canonical(state), state.bets_accepted, list(state.open_bets), state.accounts, state.account_ids,
        {market: list(bets) for market, bets in state.by_market.items()}, state.results, settling, state.recent,
    )  # fmt: skip


def difference(fast: Canonical, slow: Canonical) -> str:
    """The first field in which two canonical forms differ."""
    for name, here, there in zip(Canonical._fields, fast, slow, strict=True):
        if here != there:
            return f"{name}: engine {here}, reference {there}"
    return "no difference"


def _total(entry: Entry) -> int:
    return entry.cash_minor + entry.stakes_minor + entry.house_minor + entry.clearing_minor + entry.receivable_minor


def _seen(entry: Entry) -> tuple[object, ...]:
    amounts = (
        entry.cash_minor, entry.stakes_minor, entry.house_minor, entry.clearing_minor, entry.receivable_minor,
    )  # fmt: skip
    return (entry.kind, entry.at_us, entry.account, entry.bet, entry.request_key, entry.market, amounts)


def _told(fact: Happened) -> tuple[object, ...]:
    return (fact.kind, fact.at_us, fact.account, fact.bet, fact.key, fact.market, _amounts(fact.moves))


def _amounts(moves: Iterable[Move]) -> tuple[int, ...]:
    change = dict.fromkeys(_COLUMNS, 0)
    for source, target, amount in moves:
        change[source.purpose] -= amount
        change[target.purpose] += amount
    return tuple(change.values())
