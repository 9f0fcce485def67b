"""A season downloaded again: which match of the file is which, and what waits for a person."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from betting.feeds.replay.reconcile import Offered, Reconciled, reconcile
from betting.feeds.replay.schedule import Stage
from betting.feeds.seasons import Match, Season, identity, read_season

HEADER = "Div,Date,HomeTeam,AwayTeam,FTHG,FTAG,FTR,B365H,B365D,B365A"
CLUBS = ("Alpha", "Beta", "Gamma", "Delta")
PAIRS = [(home, away) for home in CLUBS for away in CLUBS if home != away]
ROWS = [f"E1,{4 + 2 * index:02d}/08/2018,{home},{away},2,0,H,2.1,3.4,3.6" for index, (home, away) in enumerate(PAIRS)]
HALF = ROWS[:7]


def read(rows: list[str]) -> Season:
    return read_season("\n".join([HEADER, *rows]).encode(), "test.csv")


def offered(season: Season, stage: Stage = Stage.OFFERED) -> dict[int, Offered]:
    return {match.event_id: Offered(match, stage) for match in season.matches}


def by_id(season: Season) -> dict[int, Match]:
    return {match.event_id: match for match in season.matches}


def check(found: Reconciled, before: Mapping[int, Offered]) -> None:
    """What holds whatever the new file is."""
    ids = [match.event_id for match in found.season.matches]
    assert len(set(ids)) == len(ids)
    played = by_id(found.season)
    for event_id, (match, stage) in before.items():
        assert match is not None
        if event_id not in played:
            assert stage is Stage.SETTLED or event_id in found.attention
            continue
        now = played[event_id]
        assert (now.home, now.away, now.kick_off_us, now.markets) == (
            match.home,
            match.away,
            match.kick_off_us,
            match.markets,
        )
        if stage >= Stage.FINISHED:
            assert now == match


def test_more_rows_join_and_nothing_is_said() -> None:
    """The half season's matches are as they were; the others come in."""
    before = offered(read(HALF))
    found = reconcile(read(ROWS), before)
    check(found, before)
    assert found.season.matches == read(ROWS).matches
    assert (found.keep, found.attention, found.renamed) == ((), {}, ())


def test_a_renamed_club_keeps_its_bets() -> None:
    """What was offered is played under its old name and id; what comes has the new one."""
    before = offered(read(HALF))
    found = reconcile(read([row.replace("Gamma", "Gamma Town") for row in ROWS]), before)
    check(found, before)
    assert (found.attention, found.renamed) == ({}, (("Gamma", "Gamma Town"),))
    names = [(match.home, match.away) for match in found.season.matches]
    assert names[:7] == PAIRS[:7]
    assert ("Gamma Town", "Beta") in names[7:]
    assert len(names) == 12


def test_two_renamed_clubs_are_told_apart() -> None:
    """Also where they met each other."""
    before = offered(read(ROWS))
    found = reconcile(read([row.replace("Gamma", "G").replace("Delta", "D") for row in ROWS]), before)
    check(found, before)
    assert (found.attention, sorted(found.renamed)) == ({}, [("Delta", "D"), ("Gamma", "G")])
    assert len(found.season.matches) == 12


def test_another_opponent_is_no_renaming() -> None:
    """Gamma still plays in other lines: the match with it is gone, and waits."""
    before = offered(read(HALF))
    found = reconcile(read([*ROWS[:1], ROWS[1].replace("Gamma", "Omega"), *ROWS[2:]]), before)
    check(found, before)
    assert (list(found.attention), found.renamed) == ([read(HALF).matches[1].event_id], ())


@pytest.mark.parametrize("stage", [Stage.OFFERED, Stage.STARTED])
def test_a_score_corrected_in_time_counts(stage: Stage) -> None:
    """Nothing has been settled by the old one; the new one is stored, so that every step uses the same."""
    before = offered(read(HALF), stage)
    found = reconcile(read([ROWS[0], ROWS[1].replace("2,0,H", "0,3,A"), *ROWS[2:]]), before)
    check(found, before)
    second = read(HALF).matches[1].event_id
    assert (by_id(found.season)[second].home_goals, by_id(found.season)[second].away_goals) == (0, 3)
    assert [match.event_id for match in found.keep] == [second]
    assert found.attention == {}


@pytest.mark.parametrize("stage", [Stage.FINISHED, Stage.SETTLED])
def test_a_score_corrected_later_is_said_and_not_settled_anew(stage: Stage) -> None:
    """The old score stays; the file's is kept beside it for the day a person has settled it anew."""
    before = offered(read(HALF), stage)
    found = reconcile(read([ROWS[0], ROWS[1].replace("2,0,H", "0,3,A"), *ROWS[2:]]), before)
    check(found, before)
    second = read(HALF).matches[1].event_id
    assert list(found.attention) == [second]
    assert "2-0, the season file says 0-3 now" in found.attention[second]
    assert found.keep == ()
    assert (found.rescored[second].home_goals, found.rescored[second].away_goals) == (0, 3)


def test_a_fixture_that_is_gone_waits_and_is_not_played() -> None:
    """Until a person acts, or the file has it again; the season goes on without it."""
    before = offered(read(HALF))
    found = reconcile(read([*ROWS[:5], *ROWS[6:]]), before)
    check(found, before)
    gone = read(HALF).matches[5].event_id
    assert list(found.attention) == [gone]
    assert "Beta v Delta was offered and is not in the season file any more" in found.attention[gone]
    assert len(found.season.matches) == 11
    assert reconcile(read(ROWS), before).attention == {}


def test_what_had_no_bets_or_is_settled_does_not_wait() -> None:
    """Nobody's money hangs on it."""
    settled = offered(read(HALF), Stage.SETTLED)
    assert reconcile(read(ROWS[1:]), settled).attention == {}
    bare = read([HALF[0].replace("2,0,H", "2,0,D"), *HALF[1:]])
    assert bare.matches[0].markets == ()
    assert reconcile(read(ROWS[1:]), offered(bare)).attention == {}


def test_a_file_that_contradicts_itself_later_waits() -> None:
    """Its bets were taken; they are not settled by a score in doubt."""
    before = offered(read(HALF))
    found = reconcile(read([ROWS[0].replace("2,0,H", "2,0,D"), *ROWS[1:]]), before)
    check(found, before)
    assert list(found.attention) == [read(HALF).matches[0].event_id]
    assert "contradicts itself" in found.attention[read(HALF).matches[0].event_id]


def test_a_match_that_was_put_off_is_the_same_match() -> None:
    """It is played when it was offered to be played: bets were taken until then."""
    before = offered(read(HALF))
    found = reconcile(read([*ROWS[:6], ROWS[6].replace("16/08", "30/11"), *ROWS[7:]]), before)
    check(found, before)
    assert found.attention == {}
    assert len(found.season.matches) == 12


def test_an_earlier_meeting_that_appears_does_not_take_the_later_one_s_bets() -> None:
    """Ids count meetings: the later match was offered as the first, and keeps its score."""
    later, earlier = "SC0,05/03/2019,Alpha,Beta,2,0,H,2.1,3.4,3.6", "SC0,03/08/2018,Alpha,Beta,0,1,A,2.1,3.4,3.6"
    other = "SC0,14/08/2018,Gamma,Delta,1,1,D,2.1,3.4,3.6"
    before = offered(read([later, other]))
    found = reconcile(read([earlier, later, other]), before)
    check(found, before)
    first = identity.event_id("SC0", "2018-19", "Alpha", "Beta")
    assert (by_id(found.season)[first].home_goals, by_id(found.season)[first].away_goals) == (2, 0)
    assert len(found.season.matches) == 3
    gone = reconcile(read([earlier, other, other.replace("14/08/2018", "15/02/2019")]), before)
    check(gone, before)
    assert first in gone.attention


def test_matches_of_an_earlier_version_are_taken_from_the_file() -> None:
    """It stored only ids; one that the file does not have is named by its id."""
    season = read(HALF)
    before = {match.event_id: Offered(None, Stage.OFFERED) for match in season.matches}
    found = reconcile(season, before)
    assert (found.season, found.keep, found.attention) == (season, season.matches, {})
    unknown = reconcile(season, before | {77: Offered(None, Stage.STARTED), 78: Offered(None, Stage.SETTLED)})
    assert list(unknown.attention) == [77]
    assert "event 77" in unknown.attention[77]


EDITS = st.lists(
    st.tuples(
        st.integers(0, 11),
        st.sampled_from(
            [
                ("2,0,H", "0,3,A"),
                ("2,0,H", "2,0,D"),
                ("Gamma", "Gamma Town"),
                ("Gamma", "Delta City"),
                ("Beta", "Alpha B"),
                ("/08/2018", "/11/2018"),
                ("E1", ""),
            ]
        ),
    ),
    max_size=6,
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([Stage.OFFERED, Stage.STARTED, Stage.FINISHED, Stage.SETTLED]), min_size=7, max_size=7),
    EDITS,
    st.sets(st.integers(0, 11), max_size=4),
    st.sampled_from([None, ("Gamma", "Gamma Town"), ("Alpha", "Omega")]),
)
def test_whatever_the_new_file_is_no_bet_is_forgotten(
    stages: list[Stage], edits: list[tuple[int, tuple[str, str]]], gone: set[int], rename: tuple[str, str] | None
) -> None:
    """Every offered match is played as offered, or is settled, or waits; ids are unique; no settled score changes."""
    season = read(HALF)
    before = {match.event_id: Offered(match, stage) for match, stage in zip(season.matches, stages, strict=True)}
    rows = list(ROWS)
    for index, (old, new) in edits:
        rows[index] = rows[index].replace(old, new, 1)
    if rename:
        rows = [row.replace(*rename) for row in rows]
    found = reconcile(read([row for index, row in enumerate(rows) if index not in gone]), before)
    check(found, before)
    after = {match.event_id: Offered(match, Stage.OFFERED) for match in found.season.matches}
    assert reconcile(found.season, after).season == found.season
