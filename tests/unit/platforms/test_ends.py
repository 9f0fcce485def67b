"""Which ends of pods are news, and when they were by the healer's own clock."""

from __future__ import annotations

from dataclasses import replace

from kubelet import Json, container, on_node, pod, reported, running, terminated

from betting_operator.platforms import pods
from betting_operator.platforms.kubernetes import ENDS_KNOWN, Ends
from betting_operator.platforms.pods import Pod

NAME = "demo-redis-0"
WALL_S = 1_796_000_000.0
FIRST, SECOND = "0f3c9a8b7c6d5e4f", "8a7b6c5d4e3f2a1b"


def redis(state: Json, last: Json | None = None, uid: str = "u1") -> Pod:
    found = pods.read(reported(on_node(pod("redis", NAME), uid=uid), container("redis", state, last)))
    assert found is not None
    return found


def ended_at(found: Pod, at_s: float) -> Pod:
    """By the clock of its node."""
    return replace(found, ended=tuple(replace(each, at_s=at_s) for each in found.ended))


def test_an_end_is_news_once_for_each_life_however_often_it_is_shown() -> None:
    """As the end of what runs now, then as that of what ran before, then beside a second one of the same pod."""
    ends = Ends()
    just_ended = redis(terminated(FIRST))
    restarted = redis(running(), terminated(FIRST))
    again = redis(terminated(SECOND), terminated(FIRST))
    shown = [ends.news(found, 10.0, WALL_S) for found in (redis(running()), just_ended, restarted, restarted, again)]
    assert [[each.life.boot_id for each in news] for news in shown] == [[], [FIRST], [], [], [SECOND]]


def test_an_end_that_a_new_healer_finds_is_as_old_as_its_node_says() -> None:
    """It happened before the healer began: it must not count as one of this minute."""
    found = ended_at(redis(running(), terminated(FIRST)), WALL_S - 240.0)
    [news] = Ends().news(found, 1_000.0, WALL_S)
    assert news.at_ms == 760_000


def test_a_nodes_clock_moves_no_end_before_its_container_was_seen_running_nor_after_now() -> None:
    """Ten minutes off, either way: with the node's word alone it would be forgotten, or counted for too long."""
    for offset_s, at_ms in ((-600.0, 995_000), (600.0, 1_000_000)):
        ends = Ends()
        assert ends.news(redis(running()), 995.0, WALL_S - 5.0) == []
        [news] = ends.news(ended_at(redis(terminated(FIRST)), WALL_S + offset_s), 1_000.0, WALL_S)
        assert news.at_ms == at_ms


def test_what_is_remembered_is_bounded_and_what_is_still_shown_stays_known() -> None:
    """A crash loop of weeks does not fill the memory, and no end that pods still show is told twice."""
    ends = Ends()
    kept = redis(terminated(FIRST))
    assert len(ends.news(kept, 0.0, WALL_S)) == 1
    for number in range(2 * ENDS_KNOWN):
        assert len(ends.news(redis(terminated(f"boot-{number}")), 0.0, WALL_S)) == 1
        if not number % 1_000:
            assert ends.news(kept, 0.0, WALL_S) == []
    assert ends.news(kept, 0.0, WALL_S) == []
