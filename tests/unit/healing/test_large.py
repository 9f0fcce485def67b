"""A platform of hundreds of bet-services: what one tick costs grows with their number, not with its square."""

from __future__ import annotations

import pytest

from betting.life import Life
from betting_operator.healing.actions import MarkDead, Place
from betting_operator.healing.brain import decide
from betting_operator.healing.memory import Memory
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import (
    Answer,
    Capability,
    Consumer,
    Database,
    Exit,
    Observation,
    Owner,
    Phase,
    Probe,
    Process,
    Report,
    Shard,
    Size,
)

GATEWAYS = ("api-gateway-1", "api-gateway-2")
SHARDS_EACH = 4


def life(number: int) -> Life:
    """Made anew each time, as every source names lives by itself."""
    return Life("bet-service", f"bet-service-{number}", f"boot-{number}")


def platform(at_ms: int, count: int, dead: int = 0) -> Observation:
    """So many bet-services on a node each, of which the first have ended just now."""
    alive = range(dead, count)
    shards = range(count * SHARDS_EACH)
    return Observation(
        at_ms=at_ms,
        term=1,
        capabilities=tuple(Capability),
        processes=tuple(
            Process("bet-service", f"bet-service-{n}", "", Phase.DOWN, 0, node=f"node-{n}")
            if n < dead
            else Process("bet-service", f"bet-service-{n}", f"boot-{n}", Phase.RUNNING, 0, node=f"node-{n}")
            for n in range(count)
        ),
        exits=tuple(Exit(life(n), at_ms, "killed by SIGKILL") for n in range(dead)),
        probes=tuple(Probe(life(n), Answer.SERVING, 0) for n in alive),
        reports=tuple(Report(caller, life(n), 0, 0, 100, 40, 0, 4_000) for caller in GATEWAYS for n in alive),
        sizes=tuple(Size(life(n), 200 << 20, 160 << 20) for n in alive),
        database=Database.OK,
        owners=tuple(Owner(life(n), 300, draining=False, exited=False, age_ms=60_000) for n in range(count)),
        shards=tuple(Shard(s, life(s % count), 1, "owned", life(s % count)) for s in shards),
        consumers=tuple(Consumer("projector", s, 7, 7, life(s % count)) for s in shards),
    )


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One item for each comparison of two lives."""
    found: list[None] = []
    equal = Life.__eq__

    def counted(self: Life, other: object) -> bool:
        found.append(None)
        return equal(self, other)

    monkeypatch.setattr(Life, "__eq__", counted)
    return found


def comparisons(compared: list[None], count: int) -> int:
    """Of one tick at rest, and of one in which a quarter ends at once."""
    memory = Memory()
    for at_ms in (1_000, 2_000):
        memory = decide(memory, platform(at_ms, count), Policy()).memory
    compared.clear()
    storm = decide(
        decide(memory, platform(3_000, count), Policy()).memory, platform(3_400, count, count // 4), Policy()
    )
    number = len(compared)
    actions = storm.plan.actions
    assert [type(each) for each in actions] == [MarkDead] * (count // 4) + [Place]
    return number


def test_lives_are_looked_up_and_not_searched_for(compared: list[None]) -> None:
    """Four times as many bet-services compare about four times as many lives, also when a quarter of them ends."""
    few, many = comparisons(compared, 20), comparisons(compared, 80)
    assert few > 0
    assert many < 6 * few
