"""A balance that somebody changed behind the platform's back: its shard stops, the others go on."""

from __future__ import annotations

from typing import Any

import pytest
from healing_waits import bettor_in, depositing, until
from owner_calls import Owners

from betting.journal import ownership
from betting_operator.healing.actions import Alert, Freeze
from betting_operator.healing.diagnoses import Certainty, Kind

pytestmark = pytest.mark.slow

SHARD, OTHER = 3, 12
STATE = "SELECT state FROM betting.shards WHERE shard_id = $1"
HAS_DEPOSITS = "SELECT count(*) > 0 FROM betting.ledger WHERE shard = $1"
CHANGE = """
UPDATE betting.balances SET cash_minor = cash_minor + $2
WHERE account IN (SELECT account FROM betting.accounts WHERE shard = $1)
"""


async def change_balances(running: Any, minor: int) -> None:
    """Of everybody in the shard."""
    await running.database.execute(CHANGE, SHARD, minor)


async def test_a_shard_whose_books_do_not_balance_is_frozen(start_platform: Any) -> None:
    """Found twice, then frozen with the reason; put right and unfrozen it is served again."""
    async with start_platform("bet-service", "healer") as running:
        dsn = running.platform.topology.postgres.dsn()
        owners = Owners(dsn)
        await owners.open()
        async with depositing(running, [SHARD]):

            async def has_deposits() -> bool:
                return bool(await running.database.fetchval(HAS_DEPOSITS, SHARD))

            await until(has_deposits, "a bettor at work")
            await change_balances(running, 5)

            async def is_in(state: str) -> bool:
                return bool(await running.database.fetchval(STATE, SHARD) == state)

            await until(lambda: is_in("frozen"), "frozen")
            secret = running.platform.topology.folder.internal_secret()
            assert (await owners.one(OTHER, bettor_in(OTHER, secret).deposit(100))).HasField("balance")
            await change_balances(running, -5)
            await ownership.unfreeze(running.database, SHARD)
            await until(lambda: is_in("owned"), "served again")
            assert (await owners.one(SHARD, bettor_in(SHARD, secret).deposit(100))).HasField("balance")
        await owners.close()
        [freeze] = running.done(Freeze)
        assert freeze.shard == SHARD
        assert "told" in freeze.reason
        found = [d.certainty for d in running.diagnoses(Kind.LEDGER_BROKEN)]
        assert found[0] is Certainty.SUSPECTED
        assert Certainty.CONFIRMED in found
        assert [a.target for a in running.done(Alert) if a.about == Kind.LEDGER_BROKEN] == [f"shard {SHARD}"]
