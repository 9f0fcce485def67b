"""A shard on its way: who does not play his part loses it, or does not get it."""

from __future__ import annotations

from dataclasses import replace

from healing_scenes import Scenario, calm, certainty_of, life, no_beat, over

from betting.life import Life
from betting_operator.healing.actions import Alert, ForceRelease, Kill, MarkDead, Place
from betting_operator.healing.diagnoses import Certainty, Kind
from betting_operator.healing.signals import Database, Observation, Owner, Shard

ONE, TWO, THREE = life("bet-service-1"), life("bet-service-2"), life("bet-service-3")
REST = (Shard(1, ONE, 1, "owned", ONE), Shard(2, ONE, 1, "owned", ONE), Shard(3, TWO, 1, "owned", TWO))


def kept(seen: Observation) -> Observation:
    """Shard 0 is meant for bet-service-2; bet-service-1 keeps it."""
    return replace(seen, shards=(Shard(0, ONE, 1, "owned", TWO), *REST))


def untaken(seen: Observation, *owners: Life) -> Observation:
    """Shard 0 is free, meant for bet-service-2, which does not take it."""
    living = tuple(Owner(name, 200, draining=False, exited=False) for name in owners or (ONE, TWO))
    return replace(seen, owners=living, shards=(Shard(0, None, 7, "free", TWO), *REST))


def with_three(seen: Observation, *shards: Shard) -> Observation:
    """Exactly these shards, and three bet-services that could own them."""
    owners = tuple(Owner(name, 200, draining=False, exited=False) for name in (ONE, TWO, THREE))
    return replace(seen, owners=owners, shards=shards)


def placed(scenario: Scenario) -> list[tuple[int, Life]]:
    """Every shard that was placed, and on whom."""
    return [each for action in scenario.done(Place) if isinstance(action, Place) for each in action.wanted]


def test_a_shard_that_is_kept_for_five_seconds_is_released_by_force_at_its_epoch() -> None:
    """Not before; nobody is marked dead or killed for it; people hear of it once."""
    scenario = Scenario()
    scenario.live(*over(4_500, kept))
    assert scenario.actions == []
    tick = scenario.live(*over(500, kept, start_ms=5_000))
    assert ForceRelease(0, ONE, 1, 1) in tick.plan.actions
    assert [a.about for a in scenario.done(Alert) if isinstance(a, Alert)] == [Kind.HANDOVER_STUCK]
    assert not [*scenario.done(MarkDead), *scenario.done(Kill)]


def test_a_shard_that_is_not_taken_goes_to_another() -> None:
    """To the living one that has fewest; the one that waits is not asked again."""
    scenario = Scenario()
    tick = scenario.live(*over(5_000, lambda s: untaken(s, ONE, TWO, THREE)))
    assert Place(((0, THREE),), 1) in tick.plan.actions


def test_where_there_is_nobody_else_that_is_said() -> None:
    """Two, of which the other cannot own: nothing can be done, and there is a reason."""
    scenario = Scenario()
    tick = scenario.live(*over(5_500, lambda s: no_beat(untaken(s), 9_000, ONE)))
    assert not [*scenario.done(Place), *scenario.done(ForceRelease)]
    assert ("shard 0", "no other bet-service can own it") in [(d.target, d.reason) for d in tick.plan.declined]


def test_who_gives_or_takes_others_meanwhile_is_at_work() -> None:
    """One hand-over after the other takes its time."""

    def giving(seen: Observation) -> Observation:
        [first, second, *rest] = kept(seen).shards or ()
        second = replace(second, owner=TWO, epoch=2, desired_owner=TWO) if seen.at_ms >= 4_000 else second
        return replace(seen, shards=(first, second, *rest))

    scenario = Scenario()
    tick = scenario.live(*over(8_500, giving))
    assert certainty_of(tick, Kind.HANDOVER_STUCK, "shard 0") is None
    tick = scenario.live(*over(500, giving, start_ms=9_000))
    assert certainty_of(tick, Kind.HANDOVER_STUCK, "shard 0") is Certainty.CONFIRMED


def test_who_may_not_give_more_before_the_receiver_has_taken_is_not_stuck() -> None:
    """It serves its shard, and is not robbed of it for a receiver that stands still: it keeps the shard instead."""

    def blocked(seen: Observation) -> Observation:
        [first, second, *rest] = kept(seen).shards or ()
        to = THREE if seen.at_ms >= 5_500 else TWO
        second = replace(second, owner=None, state="free", desired_owner=to)
        return with_three(seen, first, second, *rest)

    scenario = Scenario()
    scenario.live(*over(4_500, blocked))
    assert (0, ONE) not in placed(scenario)
    scenario.live(*over(6_500, blocked, start_ms=5_000))
    assert not scenario.done(ForceRelease)
    assert (0, ONE) in placed(scenario)
    assert TWO not in [to for _shard, to in placed(scenario)]


def test_who_took_nothing_gets_nothing_for_half_a_minute() -> None:
    """What was released for it serves nobody; then it is tried again, at once if it takes something after all."""

    def back_with_another(seen: Observation) -> Observation:
        return with_three(seen, *(Shard(n, ONE, 2, "owned", ONE) for n in range(8)))

    scenario = Scenario()
    scenario.live(*over(5_000, lambda s: untaken(s, ONE, TWO, THREE)))
    scenario.live(*over(29_000, back_with_another, start_ms=5_500))
    assert TWO not in [to for _shard, to in placed(scenario)]
    scenario.live(*over(1_000, back_with_another, start_ms=35_000))
    assert TWO in [to for _shard, to in placed(scenario)]

    late = Scenario()
    late.live(*over(5_000, lambda s: untaken(s, ONE, TWO, THREE)))
    late.live(with_three(calm(5_500), *(Shard(n, TWO, 2, "owned", TWO) for n in range(2)), *REST))
    late.live(back_with_another(calm(6_000)))
    assert TWO in [to for _shard, to in placed(late)]


def test_shards_are_released_by_force_one_at_a_time_for_each_receiver() -> None:
    """Should the receiver be the one that hangs, its owner still serves the others."""

    def keeping(seen: Observation) -> Observation:
        return with_three(seen, *(Shard(n, ONE, 1, "owned", TWO if n < 4 else THREE) for n in range(8)))

    tick = Scenario().live(*over(5_000, keeping))
    forced = [action for action in tick.plan.actions if isinstance(action, ForceRelease)]
    assert [action.shard for action in forced] == [0, 4]


def test_the_clock_starts_anew_after_a_gap_and_with_another_epoch() -> None:
    """Postgres away, a healer that was late, a shard that changed hands: five whole seconds again."""
    for gap in (
        lambda s: replace(s, database=Database.AWAY, shards=None, owners=None),
        lambda s: replace(kept(s), late_ms=5_000),
        lambda s: replace(s, shards=(replace((kept(s).shards or ())[0], epoch=2), *(s.shards or ())[1:])),
    ):
        scenario = Scenario()
        scenario.live(*over(4_500, kept))
        scenario.live(gap(calm(5_000)))
        scenario.live(*over(4_000, kept, start_ms=5_500))
        assert not scenario.done(ForceRelease)


def test_shards_of_the_dead_are_placed_and_not_handed_over() -> None:
    """An owner that has ended gives nothing: its shards are free for the taking."""
    dead = (Owner(ONE, 200, draining=False, exited=True), Owner(TWO, 200, draining=False, exited=False))
    scenario = Scenario()
    tick = scenario.live(*over(9_000, lambda s: replace(kept(s), owners=dead)))
    assert certainty_of(tick, Kind.HANDOVER_STUCK, "shard 0") is None
    assert not scenario.done(ForceRelease)
