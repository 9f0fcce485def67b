"""When the operator says that the cluster's DNS does not answer."""

from __future__ import annotations

import asyncio

import pytest

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


async def test_it_is_said_once_the_name_was_not_resolved_for_ten_seconds_and_until_it_is() -> None:
    """One look-up may be lost."""
    dns = Dns()
    found = Names(dns.look, lambda: dns.now_s)
    assert await found.problem() == ""
    dns.error = OSError("Temporary failure in name resolution")
    dns.now_s += names.AWAY_AFTER_S - 1
    assert await found.problem() == ""
    dns.now_s += 1
    assert await found.problem() == "kubernetes.default.svc is not resolved: Temporary failure in name resolution"
    dns.error = None
    assert await found.problem() == ""
    dns.now_s += names.AWAY_AFTER_S - 1
    dns.error = OSError("again")
    assert await found.problem() == ""


async def test_where_nobody_answers_one_look_up_is_under_way_and_it_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each would keep a thread for half a minute."""
    monkeypatch.setattr(names, "ANSWERS_WITHIN_S", 0.01)
    dns = Dns()
    dns.silent = asyncio.get_running_loop().create_future()
    found = Names(dns.look, lambda: dns.now_s)
    for _ in range(3):
        dns.now_s += 4
        told = await found.problem()
    assert (told, dns.asked) == ("kubernetes.default.svc is not resolved: no answer", 1)
    dns.silent.set_result(None)
    assert (await found.problem(), dns.asked) == ("", 1)
