"""Writes golden journals: `python hack/golden.py v0.2` records stories into tests/golden/v0.2 (`--again`: once more).

Journals of a released version are never edited or written again: they stand for the entries that are in people's
databases. A change of format is a new format number, a new folder, and `apply` goes on reading the old ones.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from betting.engine.commands import Deposit, MarketStatus, PlaceBet, Quote, ResultMarket, Withdraw
from betting.engine.entries import Entry
from betting.engine.prices import Limits
from betting.engine.records import SeenLeg

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))

from reference import Lockstep
from reference.canonical import canonical, state_hash

FOLDER = Path(__file__).parent.parent / "tests" / "golden"
START_US = 1_800_000_000_000_000
SECOND_US = 1_000_000
USERS = [bytes.fromhex(f"0190000000007000800000000000000{number}") for number in (1, 2, 3)]
WON, LOST, VOID, HALF_WON, HALF_LOST = 5, 1, 3, 4, 2
LIMITS = Limits(min_stake_minor=10, max_stake_minor=100_000, max_payout_minor=10_000_000)


class Story:
    """A shard's life, second by second. Nothing here is random: the same code writes the same bytes."""

    def __init__(self) -> None:
        self.twins = Lockstep(3, LIMITS)
        self.now_us = START_US
        self.made = 0

    def _key(self, age_ms: int) -> bytes:
        self.made += 1
        return (self.now_us // 1000 - age_ms).to_bytes(6) + b"\x70\x00\x80" + self.made.to_bytes(7)

    def deposit(self, user: int, amount: int, currency: bytes = b"GBP", age_ms: int = 0) -> None:
        self._run(Deposit(self._key(age_ms), USERS[user], currency, amount))

    def withdraw(self, user: int, amount: int) -> None:
        self._run(Withdraw(self._key(0), USERS[user], b"GBP", amount))

    def bet(
        self,
        user: int,
        stake: int,
        *legs: tuple[int, int, int, int],
        policy: int = 0,
        now: tuple[int, int] | None = None,
    ) -> None:
        """Legs are (market, selection, numerator, denominator); `now` is the price there is of the first one."""
        prices = [now or legs[0][2:], *(leg[2:] for leg in legs[1:])]
        quotes = tuple(
            Quote(leg[0] // 100, *price, 1, MarketStatus.OPEN, START_US + 86_400 * SECOND_US, 120)
            for leg, price in zip(legs, prices, strict=True)
        )
        seen = tuple(SeenLeg(*leg) for leg in legs)
        self._run(PlaceBet(self._key(0), USERS[user], b"GBP", stake, seen, policy, quotes))

    def settle(self, market: int, version: int, *outcomes: int) -> None:
        command = ResultMarket(market, version, {selection + 1: outcome for selection, outcome in enumerate(outcomes)})
        reply = self.twins.settle_all(command, 2, 2, self.now_us)
        assert getattr(reply, "done", False), reply
        self.now_us += SECOND_US

    def _run(self, command: PlaceBet | Deposit | Withdraw) -> None:
        self.twins.execute(command, self.now_us)
        self.now_us += SECOND_US


def cash(story: Story) -> None:
    """Accounts in two currencies, deposits, withdrawals, refusals, an old request key."""
    story.deposit(0, 100_000)
    story.deposit(0, 5_000, b"EUR")
    story.deposit(1, 1, age_ms=3_600_000)
    story.withdraw(0, 40_000)
    story.withdraw(0, 60_001)
    story.withdraw(2, 1)
    story.deposit(2, 2 * 10**15)


def bets(story: Story) -> None:
    """Singles and accumulators up to 20 legs, all price policies, extreme prices, refusals."""
    story.deposit(0, 100_000)
    story.deposit(1, 50_000)
    story.bet(0, 1_000, (101, 1, 9, 2))
    story.bet(0, 1_000, (101, 2, 91, 100), policy=1, now=(92, 100))
    story.bet(1, 1_000, (101, 3, 3, 1), policy=2, now=(5, 2))
    story.bet(1, 1_000, (101, 3, 3, 1), now=(5, 2))
    story.bet(1, 10, (201, 1, 999_999, 1))
    story.bet(1, 10_000, (201, 2, 1, 1_000_000))
    story.bet(1, 11, (301, 1, 1_000_000, 1))
    story.bet(0, 500, *((100 * n + 1, 1, 1, 3) for n in range(1, 21)))
    story.bet(0, 500, (401, 1, 1, 2), (402, 1, 1, 2))
    story.bet(2, 500, (401, 1, 1, 2))
    story.bet(1, 5, (401, 1, 1, 2))


def settlements(story: Story) -> None:
    """All outcomes, accumulators over several markets, corrections, a debt, reopened bets, a void market."""
    for user in range(3):
        story.deposit(user, 10_000)
        story.bet(user, 100 + user, (101, 1 + user, 7, 5))
        story.bet(user, 100, (101, 1, 1, 1), (201, 1, 1, 3), (301, 2, 91, 100))
        story.bet(user, 50, (201, 1 + user % 2, 5, 4))
        story.bet(user, 30, (301, 1, 19, 20), (401, 1, 11, 8))
    story.settle(101, 1, WON, LOST, LOST)
    story.settle(201, 1, LOST, WON)
    story.withdraw(0, 9_959)
    story.settle(101, 2, LOST, WON, LOST)
    story.settle(201, 2, HALF_WON, HALF_LOST)
    story.settle(101, 3, VOID, VOID, VOID)
    story.settle(301, 1, HALF_LOST, HALF_WON)
    story.settle(501, 1, WON, LOST)
    story.settle(401, 1, WON, LOST)
    story.deposit(0, 20_000)
    story.bet(0, 100, (101, 1, 1, 1))


STORIES: tuple[Callable[[Story], None], ...] = (cash, bets, settlements)


def main(version: str, again: bool) -> None:
    """Writes one journal and one hash per story. Touches a version that is there only when told to."""
    folder = FOLDER / version
    if any(folder.glob("*.jsonl")):
        print(f"WARNING: {folder} is written. Journals of a released version are never edited.", file=sys.stderr)
        if not again:
            sys.exit("Name the next version, or say --again if this one was never released.")
    folder.mkdir(parents=True, exist_ok=True)
    hashes = {}
    for tell in STORIES:
        story = Story()
        tell(story)
        lines = [json.dumps(plain(entry)) for entry in story.twins.entries]
        (folder / f"{tell.__name__}.jsonl").write_text("\n".join(lines) + "\n")
        hashes[tell.__name__] = state_hash(canonical(story.twins.state))
    (folder / "hashes.json").write_text(json.dumps(hashes, indent=2) + "\n")
    print(f"{folder}: {', '.join(hashes)}. Once released, never edited.")


def plain(entry: Entry) -> dict[str, object]:
    """Numbers as numbers, bytes as hex; what is absent is left out."""
    values = {name: value for name, value in entry._asdict().items() if value is not None}
    return {name: value.hex() if isinstance(value, bytes) else int(value) for name, value in values.items()}


if __name__ == "__main__":
    named = [argument for argument in sys.argv[1:] if argument != "--again"]
    if len(named) != 1:
        sys.exit("say for which version: python hack/golden.py v0.2")
    main(named[0], again="--again" in sys.argv)
