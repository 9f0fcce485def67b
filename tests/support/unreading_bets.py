"""bet-service of a version that cannot apply deposits that it finds in a journal: run as a process of its own."""

from __future__ import annotations

from betting.bets import takeover
from betting.bets.main import compose
from betting.bets.settings import BetSettings
from betting.engine.apply import CannotApply
from betting.engine.entries import Entry, Kind
from betting.engine.state import ShardState
from betting.runtime.service import run_service

_apply_all = takeover._apply_all


def _apply_no_deposits(state: ShardState, entries: list[Entry]) -> None:
    if any(entry.kind == Kind.DEPOSITED for entry in entries):
        raise CannotApply(f"shard {state.shard}: this version cannot apply deposits")
    _apply_all(state, entries)


if __name__ == "__main__":
    takeover._apply_all = _apply_no_deposits
    run_service("bet-service", compose, BetSettings)
