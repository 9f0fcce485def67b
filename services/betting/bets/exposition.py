"""Prometheus metrics of the instance, computed at each scrape: the hot path maintains no second count."""

from __future__ import annotations

from collections.abc import Callable

from betting.bets.clock import monotonic_us
from betting.bets.followers import Followers
from betting.bets.instance import Instance
from betting.bets.shard import ShardPhase
from betting.runtime import metrics

# With their indexes, rounded up: 170 bytes were measured for an open bet of one leg.
OPEN_BET_BYTES = 400
ACCOUNT_BYTES = 600
RECENT_KEY_BYTES = 500


def explained_bytes(instance: Instance) -> int:
    """The memory that the shards in memory should need, in bytes."""
    states = [owned.state for owned in instance.shards.values()]
    return sum(
        OPEN_BET_BYTES * len(state.open_bets)
        + ACCOUNT_BYTES * len(state.accounts)
        + RECENT_KEY_BYTES * sum(len(bucket) for bucket in state.recent.values())
        for state in states
    )


def expose(instance: Instance, followers: Followers) -> None:
    """Call once per process. Sums over shards keep the number of series small; the health-monitor tells them apart."""
    shards = instance.shards

    def total(of: Callable[[int], int]) -> Callable[[], float]:
        return lambda: float(sum(of(shard) for shard in list(shards)))

    def committed(field: str) -> Callable[[], float]:
        return lambda: float(getattr(instance.committer.statistics(), field))

    gauges: dict[str, tuple[str, Callable[[], float]]] = {
        "betting_shards_owned": ("Shards in memory", lambda: float(len(shards))),
        "betting_shards_frozen": (
            "Shards that wait for a person",
            lambda: float(sum(owned.phase is ShardPhase.FROZEN for owned in list(shards.values()))),
        ),
        "betting_open_bets": ("Open bets in memory", total(lambda shard: len(shards[shard].state.open_bets))),
        "betting_accounts": ("Accounts in memory", total(lambda shard: len(shards[shard].state.accounts))),
        "betting_waiting_entries": ("Entries not durable yet", total(lambda shard: len(shards[shard].entries))),
        "betting_projector_lag_entries": (
            "Entries the read models have yet to take in",
            total(lambda shard: followers.lag(shards[shard]).projector_entries),
        ),
        "betting_outbox_lag_entries": (
            "Entries the streams have yet to carry",
            total(lambda shard: followers.lag(shards[shard]).outbox_entries),
        ),
        "betting_book_fresh": ("Whether bets may be taken", lambda: float(instance.book.is_fresh(monotonic_us()))),
        "betting_bets_accepted": ("Bets accepted by this process", lambda: float(instance.bets_accepted)),
        "betting_append_batches": ("Appends that were acknowledged", committed("batches")),
        "betting_append_entries": ("Entries made durable", committed("entries")),
        "betting_append_unknown_outcomes": ("Appends whose answer was lost", committed("unknown_outcomes")),
        "betting_shards_lost": ("Shards another instance took", committed("lost_shards")),
    }
    for name, (documentation, read) in gauges.items():
        metrics.gauge(name, documentation).set_function(read)
