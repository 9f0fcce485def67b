"""What has become of a bet, as messages: each is one entry of the journal, with the place it has there. Pure."""

from __future__ import annotations

import uuid
from typing import Any

from betting.engine.entries import Entry, Kind
from betting.engine.records import RESETTLED_BODY, SETTLED_BODY, unpack_placed
from betting.gateway.live import frames
from betting.gateway.live.frames import Outgoing

PLACED = "bet:placed"
SETTLED = "bet:settled"
REOPENED = "bet:reopened"


def message_of(shard: int, entry: Entry) -> Outgoing | None:
    """What to tell whoever follows the bet; None: nothing. int64 is text, as in JSON of protobuf.

    Raises struct.error for a body that is not of its kind.
    """
    if entry.bet is None:
        return None
    match entry.kind:
        case Kind.BET_PLACED:
            return _event(PLACED, shard, entry, _placed(entry))
        case Kind.BET_SETTLED:
            version, number, payout = SETTLED_BODY.unpack(entry.body)
            return _event(SETTLED, shard, entry, _settled(version, number, payout, corrects=None))
        case Kind.BET_RESETTLED:
            version, number, before, after = RESETTLED_BODY.unpack(entry.body)
            return _event(SETTLED, shard, entry, _settled(version, number, after, corrects=before))
        case Kind.BET_REOPENED:
            version, number, _payout = SETTLED_BODY.unpack_from(entry.body)
            return _event(REOPENED, shard, entry, {"settlement": number, "resultVersion": version})
        case _:
            return None


def _event(name: str, shard: int, entry: Entry, more: dict[str, Any]) -> Outgoing:
    assert entry.bet is not None
    data = {
        "betId": str(uuid.UUID(bytes=entry.bet)),
        "shard": shard,
        "sequence": str(entry.sequence),
        "atUs": str(entry.at_us),
        **more,
    }
    return frames.event(name, data)


def _placed(entry: Entry) -> dict[str, Any]:
    placed = unpack_placed(entry.body)
    legs = [
        {
            "marketId": str(leg.market),
            "selectionId": leg.selection,
            "price": {"numerator": leg.numerator, "denominator": leg.denominator},
        }
        for leg in placed.record.legs
    ]
    return {
        "stakeMinor": str(placed.record.stake_minor),
        "potentialPayoutMinor": str(placed.potential_payout_minor),
        "legs": legs,
    }


def _settled(version: int, number: int, payout_minor: int, *, corrects: int | None) -> dict[str, Any]:
    told: dict[str, Any] = {"settlement": number, "resultVersion": version, "payoutMinor": str(payout_minor)}
    if corrects is not None:
        told["correctedPayoutMinor"] = str(corrects)
    return told
