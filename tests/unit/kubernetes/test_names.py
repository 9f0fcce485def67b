"""When the operator says that the cluster's DNS does not answer."""

from __future__ import annotations

import asyncio

from betting_operator.kubernetes import names
from betting_operator.kubernetes.names import Names


class Dns:
    """Answers, refuses, or says nothing; and the time."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.error: OSError | None = None
        self.asked = 0
        self.silent: asyncio.Future[None] | None = None

    async def look(self) -> None:
        self.asked += 1
        if self.silent is not None:
            await self.silent
        if self.error is not None:
            raise self.error


async def _told(found: Names) -> str:
    """What it says once the look-up that it begins has ended, or has not."""
    found.problem()
    for _ in range(3):
        await asyncio.sleep(0)
    return found.problem()


async def test_it_is_said_once_the_name_was_not_resolved_for_ten_seconds_and_until_it_is() -> None:
    """One look-up may be lost."""
    dns = Dns()
    found = Names(dns.look, lambda: dns.now_s)
    assert await _told(found) == ""
    dns.error = OSError("Temporary failure in name resolution")
    dns.now_s += names.AWAY_AFTER_S - 1
    assert await _told(found) == ""
    dns.now_s += names.AWAY_AFTER_S
    assert await _told(found) == "kubernetes.default.svc is not resolved: Temporary failure in name resolution"
    dns.error = None
    await _told(found)
    assert await _told(found) == ""
    dns.now_s += names.AWAY_AFTER_S - 1
    dns.error = OSError("again")
    assert await _told(found) == ""


async def test_where_nobody_answers_one_look_up_is_under_way_and_it_is_not_waited_for() -> None:
    """Each look-up would keep threads for seconds; waiting for it would delay the round that starts the healer."""
    dns = Dns()
    dns.silent = asyncio.get_running_loop().create_future()
    found = Names(dns.look, lambda: dns.now_s)
    for _ in range(3):
        dns.now_s += 4
        told = await _told(found)
    assert (told, dns.asked) == ("kubernetes.default.svc is not resolved: no answer", 1)
    dns.silent.set_result(None)
    assert await _told(found) == ""
