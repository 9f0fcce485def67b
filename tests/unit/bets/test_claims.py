"""Which shards an instance takes and hands on, as a function of the directory and the beats."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from betting.bets.claims import GROUP_ENTRIES_MAX, GROUP_SHARDS_MAX, ClaimInputs, HandOver, plan
from betting.journal.directory import InstanceRow, ShardRow

ORPHANED_AFTER_S = 10.0


def inputs(
    me: str,
    owners: list[str | None],
    ages: dict[str, float],
    *,
    healer: float | None = None,
    desired: dict[int, str] | None = None,
    lost: set[int] | None = None,
    exited: tuple[str, ...] = (),
    draining: tuple[str, ...] = (),
    states: dict[int, str] | None = None,
    newest: tuple[int, ...] = (),
) -> ClaimInputs:
    """A small world; shard numbers are the positions in `owners`."""
    wanted, special = desired or {}, states or {}
    return ClaimInputs(
        me=me,
        shards=[
            ShardRow(i, owner, owner, 1, special.get(i, "owned" if owner else "free"), wanted.get(i), "")
            for i, owner in enumerate(owners)
        ],
        instances=[InstanceRow(n, n, (1,), age, n in draining, n in exited) for n, age in ages.items()],
        healer_beat_age_s=healer,
        lost_recently=lost or set(),
        draining=me in draining,
        newest=newest,
    )


def test_a_lone_instance_claims_every_free_shard() -> None:
    """At installation nobody owns anything."""
    todo = plan(inputs("a", [None] * 4, {"a": 0.1}), ORPHANED_AFTER_S)
    assert [row.shard for row in todo.claim] == [0, 1, 2, 3]
    assert not todo.steal
    assert not todo.hand_over


def test_two_instances_share_free_shards_without_overlap() -> None:
    """Both compute the same placement and claim only their own part."""
    ages = {"a": 0.1, "b": 0.1}
    claims_a = {row.shard for row in plan(inputs("a", [None] * 4, ages), ORPHANED_AFTER_S).claim}
    claims_b = {row.shard for row in plan(inputs("b", [None] * 4, ages), ORPHANED_AFTER_S).claim}
    assert claims_a | claims_b == {0, 1, 2, 3}
    assert not claims_a & claims_b
    assert len(claims_a) == 2


def test_orphans_are_stolen_after_ten_seconds_without_a_beat_and_not_before() -> None:
    """The orphan rule's patience."""
    early = plan(inputs("b", ["a", "a"], {"a": 9.9, "b": 0.1}), ORPHANED_AFTER_S)
    late = plan(inputs("b", ["a", "a"], {"a": 10.1, "b": 0.1}), ORPHANED_AFTER_S)
    assert not early.steal
    assert [row.shard for row in late.steal] == [0, 1]


def test_a_seen_exit_is_stolen_from_at_once() -> None:
    """Proof of death needs no patience."""
    todo = plan(inputs("b", ["a", "a"], {"a": 0.2, "b": 0.1}, exited=("a",)), ORPHANED_AFTER_S)
    assert [row.shard for row in todo.steal] == [0, 1]


def test_an_owner_nobody_knows_is_dead() -> None:
    """A boot id that left no row cannot beat."""
    assert plan(inputs("b", ["ghost"], {"b": 0.1}), ORPHANED_AFTER_S).steal


def test_a_shard_lost_recently_is_not_stolen_back() -> None:
    """A frozen owner that wakes up must not fight for what was taken from it."""
    ages = {"a": 0.1, "b": 11.0, "c": 0.1}
    todo = plan(inputs("a", ["b", "b", "c", "c"], ages, lost={1}), ORPHANED_AFTER_S)
    assert [row.shard for row in todo.steal] == [0]


def test_a_shard_lost_recently_is_stolen_back_when_nobody_else_is_alive() -> None:
    """Its new owner died as well: patience would leave the shard with nobody for half a minute."""
    todo = plan(inputs("a", ["b", "b"], {"a": 0.1, "b": 11.0}, lost={0, 1}), ORPHANED_AFTER_S)
    assert [row.shard for row in todo.steal] == [0, 1]


def test_a_shard_lost_recently_is_taken_when_it_is_handed_back() -> None:
    """Who was only slow for a moment gets its share again; refusing would leave the shard with nobody."""
    todo = plan(inputs("a", [None, "b"], {"a": 0.1, "b": 0.1}, lost={0, 1}), ORPHANED_AFTER_S)
    assert [row.shard for row in todo.claim] == [0]


def test_who_holds_too_much_hands_on_to_a_newcomer() -> None:
    """After a restart the survivor gives back what exceeds its share."""
    todo = plan(inputs("a", ["a"] * 4, {"a": 0.1, "b": 0.1}), ORPHANED_AFTER_S)
    assert len(todo.hand_over) == 2
    assert {move.to for move in todo.hand_over} == {"b"}


def test_a_shard_that_was_handed_over_goes_to_whom_it_was_meant_for() -> None:
    """Not back to the one that placement would name, who just gave it away."""
    owners: list[str | None] = [None, "a", "b", "b"]
    ages = {"a": 0.1, "b": 0.1}
    assert not plan(inputs("a", owners, ages, desired={0: "b"}), ORPHANED_AFTER_S).claim
    assert [row.shard for row in plan(inputs("b", owners, ages, desired={0: "b"}), ORPHANED_AFTER_S).claim] == [0]
    gone = inputs("a", owners, ages, desired={0: "ghost"})
    assert [row.shard for row in plan(gone, ORPHANED_AFTER_S).claim] == [0]


def test_who_was_handed_one_too_many_hands_on_another() -> None:
    """The newest stays, or a planned move would undo itself."""
    todo = plan(inputs("b", ["a", "b", "b", "b"], {"a": 0.1, "b": 0.1}, newest=(3, 2, 1)), ORPHANED_AFTER_S)
    assert todo.hand_over == (HandOver(1, "a"),)


def test_a_draining_instance_hands_everything_on_and_claims_nothing() -> None:
    """SIGTERM."""
    todo = plan(inputs("a", ["a", "b", None], {"a": 0.1, "b": 0.1}, draining=("a",)), ORPHANED_AFTER_S)
    assert todo.hand_over == (HandOver(0, "b"),)
    assert not todo.claim


def test_the_last_instance_draining_has_nobody_to_hand_to() -> None:
    """Its shards become free once it has to go."""
    todo = plan(inputs("a", ["a"], {"a": 0.1}, draining=("a",)), ORPHANED_AFTER_S)
    assert todo.hand_over == (HandOver(0, None),)


def test_a_group_is_as_large_as_its_receiver_can_take_at_once() -> None:
    """By number, and by what has to be loaded; a shard that is too large by itself goes alone."""
    seen = inputs("a", ["a"] * 200, {"a": 0.1, "b": 0.1}, draining=("a",))
    assert len(plan(seen, ORPHANED_AFTER_S).hand_over) == GROUP_SHARDS_MAX
    heavy = seen._replace(entries=dict.fromkeys(range(200), GROUP_ENTRIES_MAX // 4))
    assert len(plan(heavy, ORPHANED_AFTER_S).hand_over) == 4
    huge = seen._replace(entries=dict.fromkeys(range(200), 10 * GROUP_ENTRIES_MAX))
    assert len(plan(huge, ORPHANED_AFTER_S).hand_over) == 1


def test_the_next_group_waits_until_the_one_before_was_taken() -> None:
    """Or callers of many shards would wait for one receiver; another one's group does not."""
    owners: list[str | None] = [None, *("a",) * 100]
    seen = inputs("a", owners, {"a": 0.1, "b": 0.1, "c": 0.1}, desired={0: "b"}, draining=("a",))
    assert {move.to for move in plan(seen, ORPHANED_AFTER_S).hand_over} == {"c"}


def test_who_does_not_take_what_it_was_given_gets_nothing_more() -> None:
    """The giver serves on, whatever the healer or the placement want; on trial it gets one shard."""
    ages = {"a": 0.1, "b": 0.1}
    for healer in (None, 1.0):
        seen = inputs("a", ["a"] * 100, ages, healer=healer, desired=dict.fromkeys(range(100), "b"))
        assert len(plan(seen, ORPHANED_AFTER_S).hand_over) == GROUP_SHARDS_MAX
        assert not plan(seen._replace(limits={"b": 0}), ORPHANED_AFTER_S).hand_over
        assert [move.to for move in plan(seen._replace(limits={"b": 1}), ORPHANED_AFTER_S).hand_over] == ["b"]


def test_who_drains_gives_to_those_that_take() -> None:
    """Where there are none it keeps its shards as long as it can."""
    ages = {"a": 0.1, "b": 0.1, "c": 0.1}
    desired = dict.fromkeys(range(8), "b")
    for healer in (None, 1.0):
        seen = inputs("a", ["a"] * 8, ages, healer=healer, desired=desired, draining=("a",))._replace(limits={"b": 0})
        assert {move.to for move in plan(seen, ORPHANED_AFTER_S).hand_over} == {"c"}
        alone = seen._replace(limits={"b": 0, "c": 0})
        assert {move.to for move in plan(alone, ORPHANED_AFTER_S).hand_over} == {None}


def test_without_a_healer_others_claim_what_is_not_taken() -> None:
    """It would wait for as long as its receiver beats."""
    owners: list[str | None] = [None, None, "a", "b"]
    seen = inputs("a", owners, {"a": 0.1, "b": 0.1}, desired={0: "b", 1: "b"})
    assert not plan(seen, ORPHANED_AFTER_S).claim
    assert [row.shard for row in plan(seen._replace(limits={"b": 0}), ORPHANED_AFTER_S).claim] == [0, 1]
    mine = inputs("b", owners, {"a": 0.1, "b": 0.1}, desired={0: "b", 1: "b"})._replace(limits={"b": 0})
    assert [row.shard for row in plan(mine, ORPHANED_AFTER_S).claim] == [0, 1]


def test_givers_share_what_a_receiver_can_take_at_once() -> None:
    """Four of them hand over to a newcomer at the same time, as much together as one alone would."""
    owners: list[str | None] = [name for name in "abcd" for _ in range(200)]
    ages = dict.fromkeys("abcde", 0.1)
    groups = [plan(inputs(name, owners, ages), ORPHANED_AFTER_S).hand_over for name in "abcd"]
    assert {move.to for group in groups for move in group} == {"e"}
    assert [len(group) for group in groups] == [GROUP_SHARDS_MAX // 4] * 4


def test_who_has_hardly_any_time_left_gives_everything_up_at_once() -> None:
    """Free, others take it at a look; left behind, they would first have to find out that its owner is gone."""
    seen = inputs("a", [None, *("a",) * 200], {"a": 0.1, "b": 0.1}, desired={0: "b"}, draining=("a",))
    assert len(plan(seen._replace(late=True), ORPHANED_AFTER_S).hand_over) == 200


def test_a_new_generation_gets_what_the_old_one_gives_up() -> None:
    """And until one of the old ones drains, nothing moves."""
    owners: list[str | None] = ["a", "a", "b", "b"]
    ages = {"a": 0.1, "b": 0.1, "new": 0.1}
    before = inputs("a", owners, ages)
    instances = [each._replace(generation=int(each.life == "new"), age_s=3.0) for each in before.instances]
    assert not plan(before._replace(instances=instances), ORPHANED_AFTER_S).hand_over
    draining = [each._replace(draining=each.life == "a") for each in instances]
    todo = plan(before._replace(instances=draining, draining=True), ORPHANED_AFTER_S)
    assert todo.hand_over == (HandOver(0, "new"), HandOver(1, "new"))


def test_frozen_and_quarantined_shards_stay_where_they_are() -> None:
    """They wait for a human."""
    todo = plan(inputs("a", [None, None], {"a": 0.1}, states={0: "frozen", 1: "quarantined"}), ORPHANED_AFTER_S)
    assert not todo.claim
    assert not todo.steal


def test_while_the_healer_beats_only_desired_owner_counts() -> None:
    """The placement function is for when nobody else decides."""
    todo = plan(inputs("a", [None, "a"], {"a": 0.1, "b": 0.1}, healer=1.0, desired={1: "b"}), ORPHANED_AFTER_S)
    assert not todo.claim
    assert todo.hand_over == (HandOver(1, "b"),)


@given(
    owners=st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=24),
    ages=st.fixed_dictionaries(
        {"a": st.sampled_from([0.1, 11.0]), "b": st.sampled_from([0.1, 11.0]), "c": st.just(0.1)}
    ),
)
def test_nobody_ends_up_over_the_fair_share(owners: list[str | None], ages: dict[str, float]) -> None:
    """Whatever the start, carrying out everybody's plan once leaves each live instance within its share."""
    live = [name for name, age in ages.items() if age < ORPHANED_AFTER_S]
    after: dict[int, str | None] = dict(enumerate(owners))
    for me in live:
        todo = plan(inputs(me, owners, ages), ORPHANED_AFTER_S)
        for row in (*todo.claim, *todo.steal):
            after[row.shard] = me
        for move in todo.hand_over:
            after[move.shard] = move.to
    for me in live:
        assert sum(1 for owner in after.values() if owner == me) <= -(-len(owners) // len(live))
    assert all(owner in live for owner in after.values())


def test_after_an_outage_of_the_directory_nobody_is_robbed_for_beats_that_could_not_arrive() -> None:
    """Everybody's beat is old then, the healer's too; only a seen exit is proof."""
    ages = {"a": 0.1, "b": 60.0, "c": 60.0}
    seen = inputs("a", ["b", "c", "a"], ages, exited=("c",), healer=60.0)._replace(beats_void=True)
    todo = plan(seen, ORPHANED_AFTER_S)
    assert "b" not in {row.owner for row in todo.steal}
    assert not todo.hand_over


def test_who_could_not_beat_itself_steals_from_nobody() -> None:
    """Its own beat is the proof that beats arrive."""
    assert not plan(inputs("a", ["b", "b"], {"a": 11.0, "b": 11.0}), ORPHANED_AFTER_S).steal


def test_sigterm_hands_on_also_what_the_healer_wants_here() -> None:
    """It does not wait for the healer; where the healer says where, there."""
    ages = {"a": 0.1, "b": 0.1, "c": 0.1}
    desired = {0: "a", 1: "c", 2: "a"}
    todo = plan(inputs("a", ["a", "a", "a"], ages, healer=1.0, desired=desired, draining=("a",)), ORPHANED_AFTER_S)
    assert [move.shard for move in todo.hand_over] == [0, 1, 2]
    assert todo.hand_over[1].to == "c"
    assert all(move.to in ("b", "c") for move in todo.hand_over)


def test_nothing_is_handed_to_the_dead_the_draining_or_the_unknown() -> None:
    """Served here is better than owned by nobody."""
    ages = {"a": 0.1, "b": 11.0, "c": 0.1}
    desired = {0: "b", 1: "c", 2: "ghost"}
    seen = inputs("a", ["a"] * 3, ages, healer=1.0, desired=desired, draining=("c",))
    assert not plan(seen, ORPHANED_AFTER_S).hand_over


def test_the_healers_word_overrides_the_patience_after_a_loss() -> None:
    """It knows why it wants the shard here."""
    ages = {"a": 0.1, "b": 0.1, "c": 0.1}
    seen = inputs("a", ["b"], ages, healer=1.0, desired={0: "a"}, lost={0}, exited=("b",))
    assert plan(seen, ORPHANED_AFTER_S).steal
