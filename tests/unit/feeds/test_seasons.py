"""Season files: the shipped one, the quirks of real ones, and every kind of broken one with its line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from betting.feeds.decimals import Odds
from betting.feeds.seasons import Season, SeasonError, identity, lap, load_season, read_season, shipped_seasons
from betting.feeds.seasons.rows import MAX_FILE_BYTES, MAX_PROBLEMS
from betting.v1 import event_pb2

RESULT = event_pb2.MARKET_KIND_MATCH_RESULT
TOTAL = event_pb2.MARKET_KIND_OVER_UNDER
HANDICAP = event_pb2.MARKET_KIND_ASIAN_HANDICAP

FULL = (
    "Div,Date,Time,HomeTeam,AwayTeam,FTHG,FTAG,FTR,B365H,B365D,B365A,PSH,PSD,PSA,B365>2.5,B365<2.5,AHh,B365AHH,B365AHA,"
    "B365CH,B365CD,B365CA,B365C>2.5,B365C<2.5,AHCh,B365CAHH,B365CAHA"
)
ROW = (
    "E0,16/08/2024,20:00,Man United,Fulham,1,0,H,1.6,4.2,5.25,"
    "1.63,4.38,5.3,1.53,2.5,-1,2.05,1.88,1.67,4.1,5,1.62,2.3,-1,1.9,2"
)
SHORT = "Div,Date,HomeTeam,AwayTeam,FTHG,FTAG,FTR,B365H,B365D,B365A"


def season(*rows: str, header: str = FULL, newline: str = "\n") -> str:
    return newline.join((header, *rows)) + newline


def read(text: str | bytes) -> Season:
    return read_season(text if isinstance(text, bytes) else text.encode(), "test.csv")


def problems(text: str | bytes) -> list[tuple[int, str, str]]:
    with pytest.raises(SeasonError) as caught:
        read(text)
    return [(problem.line, problem.column, problem.message) for problem in caught.value.problems]


def test_the_shipped_season_is_whole() -> None:
    """The Premier League 2024-25: 380 matches of 20 teams, all priced, 161 handicaps that closed on another line."""
    found = load_season("E0-2024-25")
    assert shipped_seasons() == ["E0-2024-25"]
    assert (found.name, len(found.matches), len({match.home for match in found.matches})) == ("E0-2024-25", 380, 20)
    kinds = [market.kind for match in found.matches for market in match.markets]
    assert (kinds.count(RESULT), kinds.count(TOTAL), kinds.count(HANDICAP)) == (380, 380, 541)
    first = found.matches[0]
    assert (first.home, first.away, first.kick_off_us) == ("Man United", "Fulham", 1_723_838_400_000_000)
    home = first.markets[0].selections[0]
    assert (home.selection_id, home.opening, home.closing) == (1, Odds(3, 5), Odds(67, 100))


def test_ids_are_stable_and_distinct() -> None:
    """Ids of the shipped season as released: bets hang on them. All differ and fit 52 bits."""
    found = load_season("E0-2024-25")
    ids = [match.event_id for match in found.matches]
    ids += [market.market_id for match in found.matches for market in match.markets]
    assert len(set(ids)) == len(ids)
    assert all(0 < id_ < 2**52 for id_ in ids)
    assert identity.event_id("E0", "2024-25", "Man United", "Fulham") == 2159488907247268 == found.matches[0].event_id
    assert identity.market_id(2159488907247268, HANDICAP, -4) == 3384149610711386


def test_a_moved_handicap_is_a_second_market() -> None:
    """The opening line keeps its opening prices, the closing line has its closing prices; an unmoved one walks."""
    moved = read(season(ROW.replace("2.3,-1,1.9,2", "2.3,-0.75,1.86,2.07")))
    lines = {m.line_quarters: m.selections for m in moved.matches[0].markets if m.kind == HANDICAP}
    assert {line: (s[0].opening, s[0].closing) for line, s in lines.items()} == {
        -4: (Odds(21, 20), Odds(21, 20)),
        -3: (Odds(43, 50), Odds(43, 50)),
    }
    stayed = read(season(ROW)).matches[0].markets[2].selections[0]
    assert (stayed.opening, stayed.closing) == (Odds(21, 20), Odds(9, 10))


def test_the_next_bookmaker_is_asked_when_one_is_incomplete() -> None:
    """A blank in Bet365's prices takes Pinnacle's for that market only."""
    found = read(season(ROW.replace("1.6,4.2,5.25,1.63", "1.6,,5.25,1.63").replace("1.67,4.1,5,", ",,,")))
    markets = found.matches[0].markets
    assert [market.bookmaker for market in markets] == ["PS", "B365", "B365"]
    assert markets[0].selections[1].opening == Odds(169, 50)
    assert found.bookmakers == {"B365": 2, "PS": 1}


def test_old_files_are_read() -> None:
    """No times, two-digit years, no closing columns, lines in the house's own column, latin-1, BOM, blank tails."""
    header = "Div,Date,HomeTeam,AwayTeam,FTHG,FTAG,FTR,HTHG,BbAvH,BbAvD,BbAvA,BbAv>2.5,BbAv<2.5,BbAHh,BbAvAHH,BbAvAHA,,"
    rows = ("SP1,17/08/08,Málaga,La Coruña,2,2,D,1,2.1,3.3,3.4,1.9,1.9,-0.25,1.95,1.93,,,,", ",,,,,,,,,,,,", "")
    found = read(season(*rows, header=header, newline="\r\n").encode("latin-1"))
    match = found.matches[0]
    assert (match.home, match.away, found.name) == ("Málaga", "La Coruña", "SP1-2008-09")
    assert match.kick_off_us == 1_218_985_200_000_000  # 2008-08-17 15:00
    assert [(m.kind, m.line_quarters, m.bookmaker) for m in match.markets] == [
        (RESULT, 0, "BbAv"),
        (TOTAL, 10, "BbAv"),
        (HANDICAP, -1, "BbAv"),
    ]
    assert all(s.opening == s.closing for m in match.markets for s in m.selections)
    own_line = "Div,Date,HomeTeam,AwayTeam,FTHG,FTAG,B365AH,B365AHH,B365AHA"
    old = read(b"\xef\xbb\xbf" + season("E1,05/08/2006,A,B,0,0,0.25,1.9,1.95", header=own_line).encode())
    assert [(m.kind, m.line_quarters) for m in old.matches[0].markets] == [(HANDICAP, 1)]


def test_the_same_fixture_twice_in_a_season_gets_two_ids() -> None:
    """Scottish sides meet at home more than once; the first meeting's id does not change when the second is added."""
    header = "Div,Date,HomeTeam,AwayTeam,FTHG,FTAG,B365H,B365D,B365A"
    first, second = "SC0,03/08/2024,Celtic,Hibs,3,1,1.2,7,15", "SC0,05/03/2025,Celtic,Hibs,0,0,1.3,6,12"
    both = read(season(second, first, header=header))
    alone = read(season(first, header=header))
    assert both.matches[0].event_id == alone.matches[0].event_id
    assert len({match.event_id for match in both.matches}) == 2


def test_a_lap_has_other_ids_and_the_same_matches() -> None:
    """A season replayed again differs in every id and in nothing else; its first lap is itself."""
    found = load_season("E0-2024-25")
    again = lap(found, 2)
    assert lap(found, 1) is found
    assert again.name == "E0-2024-25.2"
    before = {id_ for match in found.matches for id_ in (match.event_id, *(m.market_id for m in match.markets))}
    after = {id_ for match in again.matches for id_ in (match.event_id, *(m.market_id for m in match.markets))}
    assert not before & after
    assert len(before) == len(after)
    names = [{(match.home, match.away, match.kick_off_us) for match in each.matches} for each in (found, again)]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("old", "new", "column", "complaint"),
    [
        ("16/08/2024", "2024-08-16", "Date", "expected dd/mm/yyyy"),
        ("16/08/2024", "31/02/2024", "Date", "not a date"),
        ("16/08/2024", "", "Date", "not a date"),
        ("20:00", "8pm", "Time", "expected hh:mm"),
        ("Man United", "", "HomeTeam", "is blank"),
        ("Man United", "x" * 61, "HomeTeam", "1 to 60"),
        ("Man United", "Fulham", "AwayTeam", "cannot play itself"),
        ("E0,", ",", "Div", "is blank"),
        ("Fulham,1,", "Fulham,,", "FTHG", "is blank"),
        ("Fulham,1,", "Fulham,-1,", "FTHG", "number of goals"),
        ("Fulham,1,", "Fulham,99,", "FTHG", "number of goals"),
        (",H,", ",A,", "FTR", "contradicts the score 1-0"),
        (",4.2,", ",4;2,", "B365D", "not decimal odds"),
        (",4.2,", ",1.0,", "B365D", "no profit"),
        ("2.5,-1,", "2.5,-1.1,", "AHh", "quarter goals"),
        ("2.3,-1,", "2.3,50,", "AHCh", "absurd"),
    ],
)
def test_a_broken_cell_is_named(old: str, new: str, column: str, complaint: str) -> None:
    """Line, column, what is wrong; the good line before it is not blamed."""
    assert old in ROW
    good = ROW.replace("Man United", "Leeds")
    found = problems(season(good, ROW.replace(old, new, 1)))
    assert [(line, where) for line, where, _ in found] == [(3, column)]
    assert complaint in found[0][2]


def test_all_problems_are_collected_but_not_without_end() -> None:
    """Several in one line and in many lines; the list is cut at its bound and says how many there were."""
    bad = ROW.replace("16/08/2024", "x").replace(",1,0,H,", ",a,b,H,")
    assert [(line, column) for line, column, _ in problems(season(ROW, bad))] == [(3, "Date"), (3, "FTAG"), (3, "FTHG")]
    with pytest.raises(SeasonError) as caught:
        read(season(*[bad] * 100))
    assert (len(caught.value.problems), caught.value.total) == (MAX_PROBLEMS, 300)
    assert "and 250 more" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "line", "complaint"),
    [
        (b"", 1, "header lacks"),
        (b"\n\n", 1, "header lacks"),
        (b"PK\x03\x04\x00\x00", 1, "not a text file"),
        (b"hello,world\n1,2\n", 1, "header lacks Div, Date"),
        (b"Country,League,Season,Date\n", 1, "extra-league"),
        (season().encode(), 1, "no match"),
        (season(header=FULL + ",B365H").encode(), 1, "more than once"),
        (season("E0,16/08/2024,A,B,1,0,H,,,", header=SHORT).encode(), 1, "no match has prices"),
        (season(ROW, ROW).encode(), 3, "already stands in line 2"),
        (season(ROW, ROW.replace("E0", "E1").replace("Fulham", "Leeds")).encode(), 3, "one division per file"),
        (
            season(ROW, ROW.replace("2024", "2034").replace("Fulham", "Leeds")).encode(),
            3,
            "days from the season's middle",
        ),
        (b'Div,Date,HomeTeam,AwayTeam,FTHG,FTAG\nE0,"' + b"x" * 200_000, 2, "not readable as CSV"),
        (b"x" * (MAX_FILE_BYTES + 1), 1, "bytes"),
    ],
)
def test_files_that_are_no_season_are_refused(content: bytes, line: int, complaint: str) -> None:
    """Whatever is wrong with the file as a whole is said once, with the line."""
    found = problems(content)
    assert found[0][0] == line
    assert complaint in found[0][2]


def test_missing_and_unreadable_files_are_season_errors(tmp_path: object) -> None:
    """A path that is not there or is a folder is told with what to do."""
    for path in (f"{tmp_path}/none.csv", str(tmp_path), "bad\x00path"):
        with pytest.raises(SeasonError, match="give the path of a season file"):
            load_season(path)


@given(st.binary(max_size=400))
def test_no_bytes_crash_the_reader(content: bytes) -> None:
    """Any bytes, alone or after a proper header, are a season or a SeasonError."""
    for prefix in (b"", (FULL + "\n").encode()):
        with pytest.raises(SeasonError):
            read(prefix + content)
