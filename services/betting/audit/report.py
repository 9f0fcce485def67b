"""What an audit found. Values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID


class CannotAudit(Exception):
    """The audit could not run; the message is one line that says why and what to do."""


@dataclass(frozen=True)
class Progress:
    """How far an audit is: `done` of `total` steps, and what it is doing."""

    done: int
    total: int
    doing: str


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Problem:
    """One row that breaks a check: where it is, what it should say and what it says."""

    shard: int | None
    sequence: int | None
    account: UUID | None
    bet: UUID | None
    subject: str
    expected: str
    found: str

    @property
    def where(self) -> str:
        """The place in words: shard, sequence, account, bet, as far as they apply."""
        parts = {"shard": self.shard, "sequence": self.sequence, "account": self.account, "bet": self.bet}
        return (
            ", ".join(f"{name} {value}" for name, value in parts.items() if value is not None) or "the whole platform"
        )

    @property
    def order(self) -> tuple[int, int]:
        """By shard, then by sequence; what has none comes last."""
        last = 2**63
        return (last if self.shard is None else self.shard, last if self.sequence is None else self.sequence)


@dataclass(frozen=True)
class CheckResult:
    """One check over the whole journal. `examples` are the first few of its problems."""

    name: str
    meaning: str
    examined: int
    problems: int
    examples: tuple[Problem, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether no row broke it."""
        return self.problems == 0


@dataclass(frozen=True)
class ShardLag:
    """How far a shard's read models are behind its journal."""

    shard: int
    head: int
    watermark: int

    @property
    def entries(self) -> int:
        """Entries the projector has not turned into rows yet."""
        return max(0, self.head - self.watermark)


@dataclass(frozen=True)
class AcknowledgementsRead:
    """What a file of acknowledgements held. `cut_off`: its last line was incomplete and was left out."""

    path: str
    bets: int = 0
    deposits: int = 0
    withdrawals: int = 0
    refusals: int = 0
    cut_off: bool = False

    @property
    def lines(self) -> int:
        """Complete lines."""
        return self.bets + self.deposits + self.withdrawals + self.refusals


@dataclass(frozen=True)
class Report:
    """What an audit found."""

    checks: tuple[CheckResult, ...]
    entries: int
    lags: tuple[ShardLag, ...]
    acknowledgements: AcknowledgementsRead | None
    took_s: float
    failed: tuple[CheckResult, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "failed", tuple(check for check in self.checks if not check.holds))

    @property
    def holds(self) -> bool:
        """Whether every check holds."""
        return not self.failed

    @property
    def lag_entries(self) -> int:
        """Entries the read models are behind, over all shards; those rows were not compared."""
        return sum(lag.entries for lag in self.lags)
