"""A state as sorted plain values, and its hash: two ways of computing a state agree when their hashes do."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from betting.engine.records import markets_of
from betting.engine.state import ShardState


class Canonical(NamedTuple):
    """Every field sorted; amounts in minor units. The engine and its slow reference must produce the same one."""

    head: int
    now_us: int
    house_minor: int
    clearing_minor: int
    # account, user, currency, cash, open stakes, receivable, sorted ids of open bets
    accounts: tuple[tuple[bytes, bytes, bytes, int, int, int, tuple[bytes, ...]], ...]
    open_bets: tuple[tuple[bytes, bytes], ...]
    # market, version, sorted outcomes, done, bets, payouts
    results: tuple[tuple[int, int, tuple[tuple[int, int], ...], bool, int, int], ...]
    # market, version, cursor, bets, payouts, sorted unvisited ids
    settling: tuple[tuple[int, int, bytes, int, int, tuple[bytes, ...]], ...]
    reopened: tuple[tuple[bytes, int], ...]
    # key, kind, body of the first answer
    recent: tuple[tuple[bytes, int, bytes], ...]


def canonical(state: ShardState) -> Canonical:
    """The canonical form of an engine state. Slow: for tests and audits."""
    return Canonical(
        head=state.head,
        now_us=state.now_us,
        house_minor=state.house_minor,
        clearing_minor=state.clearing_minor,
        accounts=tuple(
            sorted(
                (
                    account, a.user, a.currency, a.cash_minor, a.open_stakes_minor, a.receivable_minor,
                    tuple(sorted(a.open_bets)),
                )
                for account, a in state.accounts.items()
            )
        ),
        open_bets=tuple(sorted(state.open_bets.items())),
        results=tuple(
            sorted(
                (market, r.version, tuple(sorted(r.outcomes.items())), r.done, r.bets, r.payout_minor)
                for market, r in state.results.items()
            )
        ),
        settling=tuple(
            sorted(
                (market, s.version, s.cursor, s.bets, s.payout_minor, tuple(sorted(s.unvisited)))
                for market, s in state.settling.items()
            )
        ),
        reopened=tuple(sorted(state.reopened.items())),
        recent=tuple(
            sorted((slot[16:], a[0], a[1:]) for bucket in state.recent.values() for slot, a in bucket.items())
        ),
    )  # fmt: skip


def state_hash(form: Canonical) -> str:
    """SHA-256 over the canonical form, as hex. IntEnum members hash as their numbers."""
    return hashlib.sha256(repr(_plain(form)).encode()).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return tuple(_plain(part) for part in value)
    if isinstance(value, bool):
        return value
    return int(value) if isinstance(value, int) else value


class BrokenInvariant(AssertionError):
    """A state that must never be: money is wrong. Freeze the shard and call a human."""


def check_invariants(state: ShardState) -> None:
    """Everything that is always true of a shard. O(state): for tests and after recovery. Raises BrokenInvariant."""
    total = state.house_minor + state.clearing_minor
    stakes_by_account: dict[bytes, int] = {}
    for record in state.open_bets.values():
        account = record[:16]
        stakes_by_account[account] = stakes_by_account.get(account, 0) + int.from_bytes(record[16:24])
    listed = 0
    for account, a in state.accounts.items():
        total += a.cash_minor + a.open_stakes_minor + a.receivable_minor
        _require(a.cash_minor >= 0, f"account {account.hex()} has cash {a.cash_minor}")
        _require(a.receivable_minor <= 0, f"account {account.hex()} has receivable {a.receivable_minor}")
        _require(
            a.receivable_minor == 0 or a.cash_minor == 0, f"account {account.hex()} owes money and has cash at once"
        )
        stakes = stakes_by_account.get(account, 0)
        _require(
            a.open_stakes_minor == stakes,
            f"account {account.hex()} has open stakes {a.open_stakes_minor}, its bets {stakes}",
        )
        _require(state.account_ids.get(a.user + a.currency) == account, f"account {account.hex()} is not found by user")
        _require(all(bet in state.open_bets for bet in a.open_bets), f"account {account.hex()} lists a bet not open")
        listed += len(a.open_bets)
    _require(total == 0, f"the sum of all accounts is {total}")
    _require(listed == len(state.open_bets), f"{listed} bets are listed by accounts, {len(state.open_bets)} are open")
    _check_indexes(state)


def _check_indexes(state: ShardState) -> None:
    """What is kept beside the open bets is about the open bets."""
    by_market: dict[int, set[bytes]] = {}
    for bet, record in state.open_bets.items():
        for market in markets_of(record):
            by_market.setdefault(market, set()).add(bet)
    indexed = {market: set(bets) for market, bets in state.by_market.items()}
    _require(indexed == by_market, "the index by market is not that of the open bets")
    _require(state.reopened.keys() <= state.open_bets.keys(), "a reopened bet is not open")
    for market, settling in state.settling.items():
        waiting = settling.unvisited.keys()
        _require(waiting <= by_market.get(market, set()), f"market {market} waits for a bet that is not open on it")
        result = state.results.get(market)
        in_force = result is not None and not result.done and result.version == settling.version
        _require(in_force, f"market {market} settles version {settling.version}, which is not in force")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise BrokenInvariant(otherwise)
