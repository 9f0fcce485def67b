"""What the selections of a market are called. Pure."""

from __future__ import annotations

from betting.v1 import event_pb2


def names(home: str, away: str, kind: int, line_quarters: int) -> list[str]:
    """A market's selections, in the order of their ids. `kind` is a betting.v1.MarketKind."""
    if kind == event_pb2.MARKET_KIND_MATCH_RESULT:
        return [home, "Draw", away]
    if kind == event_pb2.MARKET_KIND_OVER_UNDER:
        total = _goals(line_quarters)
        return [f"Over {total}", f"Under {total}"]
    return [f"{home} {_handicap(line_quarters)}", f"{away} {_handicap(-line_quarters)}"]


def _goals(quarters: int) -> str:
    whole, rest = divmod(abs(quarters), 4)
    return f"{whole}{('', '.25', '.5', '.75')[rest]}"


def _handicap(quarters: int) -> str:
    sign = "+" if quarters > 0 else "−" if quarters < 0 else ""
    return sign + _goals(quarters)
