"""What one bet-service process is: its name, the shards it owns, and the parts they share."""

from __future__ import annotations

from dataclasses import dataclass, field

from betting.bets.book import PriceBook
from betting.bets.clock import DatabaseClock
from betting.bets.committer import Committer
from betting.bets.refusals import RefusalLimit
from betting.bets.shard import OwnedShard
from betting.engine.prices import Limits


@dataclass(slots=True)
class Instance:
    """`name` is instance name and boot id: a restart never inherits an epoch."""

    name: str
    address: str
    shard_count: int
    clock: DatabaseClock
    book: PriceBook
    limits: Limits
    committer: Committer
    refusal_limit: RefusalLimit = field(default_factory=RefusalLimit)
    shards: dict[int, OwnedShard] = field(default_factory=dict)
    bets_accepted: int = 0
    draining: bool = False
