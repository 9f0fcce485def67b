"""How many bets were ever accepted: a count of the read model now and then, and what owners counted since. Pure.

Owners count from their start, so their counters alone forget; counting millions of rows every second would be no
watching. A new owner's counter starts at nothing, one that is gone keeps what it last said until the next count.
"""

from __future__ import annotations

from collections.abc import Mapping


class AcceptedBets:
    """Never runs backwards: a count lags behind the owners by what the projector has yet to take in."""

    def __init__(self) -> None:
        self._counted = 0
        self._at_count: dict[str, int] = {}
        self._now: dict[str, int] = {}
        self._alive: set[str] = set()
        self._shown = 0

    def owners_say(self, counters: Mapping[str, int]) -> None:
        """Takes in the counter of each owner that answers, by instance and boot id."""
        for owner, counted in counters.items():
            self._now[owner] = max(counted, self._now.get(owner, 0))
        self._alive = set(counters)

    def counted(self, bets: int) -> None:
        """Takes in a count of all bets: it includes what owners said before, so those that are gone are forgotten."""
        self._shown = self.total
        self._counted = bets
        self._now = {owner: counted for owner, counted in self._now.items() if owner in self._alive}
        self._at_count = dict(self._now)

    @property
    def total(self) -> int:
        """All accepted bets known of."""
        since = sum(now - self._at_count.get(owner, 0) for owner, now in self._now.items())
        return max(self._shown, self._counted + since)
