"""What the demo asks the journal afterwards."""

from __future__ import annotations

import uuid
from typing import Any

import asyncpg
import pytest

from betting.drills import demo
from betting.supervision.errors import PlatformError

_APPEND = """
INSERT INTO betting.journal VALUES (0, $1, $2, 1, 1, NULL, NULL, $3, NULL, 0, 0, 0, 0, 0, '')
"""


async def test_what_the_journal_lacks_is_missing(database: Any) -> None:
    """A key without an entry is named; bets settled are counted."""
    there, lost = uuid.uuid4(), uuid.uuid4()
    connection = await asyncpg.connect(database.dsn)
    await connection.execute(_APPEND, 1, 10, there)
    await connection.execute(_APPEND, 2, 21, None)
    await connection.close()
    found = await demo.gather_evidence(database.dsn, [str(there), str(lost)])
    assert found == demo.Evidence(frozenset({str(lost)}), bets_settled=1, events_settled=0)


async def test_a_database_that_is_away_is_said_in_one_line(unused_tcp_port: int) -> None:
    """No traceback at the end of a demo."""
    with pytest.raises(PlatformError, match="The journal could not be read after the demo"):
        await demo.gather_evidence(f"postgresql://nobody@127.0.0.1:{unused_tcp_port}/x", [])
