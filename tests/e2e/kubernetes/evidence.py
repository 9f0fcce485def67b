"""What the journal says afterwards about everything that bettors were told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from platform_under_test import Installed
from tools import Failed, python, run, say

from betting.journal import requests

BETS_MIN = 10_000
AUDIT_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Evidence:
    """acknowledged: bets looked up by their request keys. lost: those that are not in the journal, in all and by
    scenario. audit: its own verdict, "" when every promise about money holds."""

    acknowledged: int
    lost: int
    lost_by_scenario: Mapping[str, int]
    audit: str
    audit_checks: int


def gather(platform: Installed, keys: set[str], by_scenario: Mapping[str, frozenset[str]], acks: Path) -> Evidence:
    """Looks up every acknowledged bet, and runs `betting audit --acks` over the database.

    by_scenario: the request keys of each.
    """

    async def ask(connection: asyncpg.Connection) -> frozenset[str]:
        return await requests.missing(connection, sorted(keys))

    say(f"looking up {len(keys):,} acknowledged bets in the journal")
    missing = platform.ask(ask)
    say(f"{len(missing)} of them are not there; auditing the database")
    verdict, checks = _audited(platform, acks)
    say(f"audit: {verdict or f'{checks} checks hold'}")
    lost = {name: len(found & missing) for name, found in by_scenario.items()}
    return Evidence(len(keys), len(missing), lost, verdict, checks)


def _audited(platform: Installed, acks: Path) -> tuple[str, int]:
    with platform.database() as dsn:
        command = (python(), "-c", "from betting.cli.main import main; main()", "audit", f"--dsn={dsn}")
        try:
            shown = run(*command, f"--acks={acks}", "--json", timeout_s=AUDIT_TIMEOUT_S)
        except Failed as error:
            return str(error).replace(dsn, "the database")[-1500:], 0
    report = json.loads(shown)
    return "", len(report["checks"])
