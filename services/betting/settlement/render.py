"""Rows as protobuf."""

from __future__ import annotations

from collections.abc import Mapping

from betting.settlement.store import SettlementRow, WaitingRow
from betting.v1 import settlement_pb2


def settlement(row: SettlementRow) -> settlement_pb2.Settlement:
    """The totals are of the shards that are done."""
    return settlement_pb2.Settlement(
        market_id=row.market_id,
        version=row.version,
        status=settlement_pb2.SettlementStatus.Name(row.status),
        outcomes=_outcomes(row.outcomes),
        shards_total=row.shards_total,
        shards_done=len(row.shards),
        settled_bets=sum(shard.settled_bets for shard in row.shards),
        payout_minor=sum(shard.payout_minor for shard in row.shards),
        requested_at_us=row.requested_at_us,
        finished_at_us=row.finished_at_us,
        problem=row.problem,
        shards=[
            settlement_pb2.ShardProgress(
                shard_id=shard.shard_id,
                done=True,
                settled_bets=shard.settled_bets,
                payout_minor=shard.payout_minor,
            )
            for shard in row.shards
        ],
    )


def waiting(row: WaitingRow) -> settlement_pb2.WaitingMarket:
    """A market that waits for an operator."""
    return settlement_pb2.WaitingMarket(
        market_id=row.market_id,
        event_id=row.event_id,
        version=row.version,
        outcomes=_outcomes(row.outcomes),
        problem=row.problem,
        since_us=row.since_us,
    )


def _outcomes(outcomes: Mapping[int, int]) -> list[settlement_pb2.SelectionOutcome]:
    return [
        settlement_pb2.SelectionOutcome(
            selection_id=selection, outcome=settlement_pb2.Outcome.Name(outcomes[selection])
        )
        for selection in sorted(outcomes)
    ]
