"""A fault that the healer is measured with: what is done, within which time what must be so, and how that is known."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import NamedTuple

from heal_actions import Answer
from heal_targets import Injected
from scene import Scene


class Measure(StrEnum):
    """What is measured from the fault on, in seconds."""

    BETS = "until bets on the worst shard"
    SLOWEST_BET = "the slowest bet"
    REDIS = "until writes to Redis"
    MOVED = "until nothing of it is left there"
    ROLLED_BACK = "until rolled back"
    WALLET = "until balances are told"
    FEED = "until the feed is heard"
    CONSUMER = "until notifications go on"
    SAID = "until it was said"
    ANSWERED = "until the healer has repaired it"


class Fault(NamedTuple):
    """One row of the table.

    inject: injects it on entering and undoes it on leaving. refuses: whether bets may be refused meanwhile; they are
    never lost. core: part of the ten-minute core. once: it is injected in the first of the rounds only, and once in a
    soak. alone: whether it is injected without the healer too. same_alone: the name of the fault that it is the same as
    then, which is injected in its place. felt_s: a run in which less was measured hit nobody: it has failed. answer:
    what the healer has to do about it. never: actions that it must not take meanwhile.
    """

    name: str
    budget_s: float
    inject: Callable[[Scene], AbstractContextManager[Injected]]
    measure: Measure = Measure.BETS
    refuses: bool = True
    core: bool = False
    once: bool = False
    alone: bool = True
    same_alone: str = ""
    felt_s: float = 0.0
    answer: Answer | None = None
    never: frozenset[str] = frozenset()

    @property
    def summary(self) -> str:
        """What it is, in one line."""
        return (self.inject.__doc__ or "").splitlines()[0].rstrip(".")
