"""Which instance should own which shard where generations differ: in a rolling update each shard moves once.

Among equals: tests/unit/engine/test_engine_placement.py.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from betting.placement import Candidate, place, rolling
from betting.placement.shards import ROLL_LASTS_S

LONG_AGO_S = 86_400.0


def instances(count: int, generation: int = 0, age_s: float = LONG_AGO_S) -> list[Candidate]:
    return [Candidate(f"g{generation}-{number:03}", generation, age_s) for number in range(count)]


candidates = st.lists(
    st.builds(
        Candidate,
        st.sampled_from("abcdefgh"),
        st.integers(0, 3),
        st.sampled_from([0.0, ROLL_LASTS_S - 1, ROLL_LASTS_S, LONG_AGO_S]),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda each: each.name,
)
owners = st.dictionaries(st.integers(0, 63), st.sampled_from([*"abcdefgh", "gone"]))


def share(shard_count: int, count: int) -> int:
    return -(-shard_count // count)


@given(candidates, owners, st.integers(1, 64))
def test_every_shard_has_an_owner_who_can_own_it(who: list[Candidate], now: dict[int, str], shard_count: int) -> None:
    """Whatever the generations."""
    wanted = place(shard_count, who, now)
    assert set(wanted) == set(range(shard_count))
    assert set(wanted.values()) <= {each.name for each in who}


@given(candidates, owners, st.integers(1, 64))
def test_nobody_is_over_the_fair_share_but_who_is_already(
    who: list[Candidate], now: dict[int, str], shard_count: int
) -> None:
    """Nor then, unless a roll is under way, in which nothing moves that needs not."""
    load = Counter(place(shard_count, who, now).values())
    held = Counter(now.get(shard) for shard in range(shard_count))
    most = share(shard_count, len(who))
    for each in who:
        assert load[each.name] <= (max(most, held[each.name]) if rolling(who) else most)


@given(candidates, owners, st.integers(1, 64))
def test_what_was_placed_is_placed(who: list[Candidate], now: dict[int, str], shard_count: int) -> None:
    """Carried out, a plan leaves nothing to do."""
    wanted = place(shard_count, who, now)
    assert place(shard_count, who, wanted) == wanted


@given(candidates, owners, st.integers(1, 64))
def test_what_has_no_owner_goes_to_the_newest_generation_while_it_has_room(
    who: list[Candidate], now: dict[int, str], shard_count: int
) -> None:
    """An older instance gets something only once each of the newest has its share."""
    newest = max(each.generation for each in who)
    wanted = place(shard_count, who, now)
    load = Counter(wanted.values())
    given_to = {wanted[s] for s in range(shard_count) if now.get(s) not in {each.name for each in who}}
    if given_to & {each.name for each in who if each.generation < newest}:
        assert all(load[each.name] >= shard_count // len(who) for each in who if each.generation == newest)


def test_a_roll_is_under_way_from_the_first_of_a_new_generation_until_its_last_has_been_there_for_a_while() -> None:
    """And never among equals, however new they are."""
    old, new = instances(3), Candidate("new", 1, 0.0)
    assert not rolling(instances(3, age_s=0.0))
    assert rolling([*old, new])
    assert not rolling([*old, new._replace(age_s=ROLL_LASTS_S)])
    assert rolling([*old, new._replace(age_s=ROLL_LASTS_S), new._replace(name="next")])
    assert not rolling([new])


class Roll:
    """A rolling update with one more pod than usual at most, which counts how often each shard moves."""

    def __init__(self, pods: int, shard_count: int, dice: random.Random) -> None:
        self.shard_count = shard_count
        self.dice = dice
        self.able = instances(pods)
        self.owners = place(shard_count, self.able, {})
        self.moves: Counter[int] = Counter()
        self.most = 0

    def move(self, share_done: float = 1.0) -> None:
        """Hand-overs, or only the first of them."""
        wanted = place(self.shard_count, self.able, self.owners)
        moving = [shard for shard in range(self.shard_count) if wanted[shard] != self.owners[shard]]
        for shard in moving[: round(len(moving) * share_done)]:
            self.moves[shard] += 1
            self.owners[shard] = wanted[shard]
        self.most = max(self.most, *Counter(self.owners.values()).values())

    def run(self) -> None:
        """One new pod after the other; the pod that it replaces drains, sometimes not at an end when the next comes."""
        old = list(self.able)
        self.dice.shuffle(old)
        for new, leaving in zip(instances(len(old), 1, age_s=1.0), old, strict=True):
            self.able.append(new)
            self.move()
            self.able.remove(leaving)
            self.move(self.dice.choice([0.0, 0.3, 1.0]))
        self.move()


@pytest.mark.parametrize("pods", [1, 2, 3, 5, 7, 20])
@pytest.mark.parametrize("shard_count", [16, 2_048])
def test_in_a_rolling_update_every_shard_moves_once(pods: int, shard_count: int) -> None:
    """The table in docs/architecture/money-core.md; whichever pod goes next, and with nobody over the fair share."""
    for seed in range(10):
        roll = Roll(pods, shard_count, random.Random(seed))
        roll.run()
        assert set(roll.moves.values()) == {1}
        assert len(roll.moves) == shard_count
        assert roll.most <= share(shard_count, pods) + 1
        shares = Counter(roll.owners.values())
        assert len(shares) == min(pods, shard_count)
        assert max(shares.values()) - min(shares.values()) <= 1


@pytest.mark.parametrize(("pods", "moved"), [(1, 1_024), (2, 682), (3, 512), (20, 97)])
def test_scaling_out_and_in_moves_one_share(pods: int, moved: int) -> None:
    """To the pod that comes, and from it when it goes: 2,048 shards."""
    few, more = instances(pods), instances(pods + 1)
    before = place(2_048, few, {})
    wide = place(2_048, more, before)
    assert sum(wide[shard] != before[shard] for shard in before) == moved
    back = place(2_048, few, wide)
    assert sum(back[shard] != wide[shard] for shard in before) == moved
