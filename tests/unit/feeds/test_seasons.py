"""Season files: the shipped one, the quirks of real ones, and every kind of broken one with its line."""

from __future__ import annotations

import time
from importlib import resources

import pytest

from betting.feeds.decimals import Odds
from betting.feeds.seasons import Season, SeasonError, identity, lap, load_season, read_season, shipped_seasons
from betting.feeds.seasons.content import MAX_FILE_BYTES
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
    ("content", "line", "complaint"),
    [
        (b"", 1, "the file is empty"),
        (b"\xef\xbb\xbf", 1, "the file is empty"),
        (b"\n\n", 1, "the file is empty"),
        (b"PK\x03\x04\x00\x00", 1, "Excel workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", 1, "Excel workbook"),
        (b"\x1f\x8b\x08\x00", 1, "gzip"),
        (b"%PDF-1.7", 1, "PDF"),
        (b'{"error": "rate limited"}', 1, "JSON"),
        (b"<!DOCTYPE html>\n<title>503 Service Unavailable</title>", 1, "a web page ('503 Service Unavailable')"),
        (("\ufeff" + season(ROW)).encode("utf-16-le"), 1, "UTF-16"),
        (season(ROW).encode("utf-16-be"), 1, "UTF-16"),
        (season(ROW).encode() + b"\x00", 3, "zero byte"),
        (b"hello,world\n1,2\n", 1, "header lacks Div, Date"),
        (b"Country,League,Season,Date\n", 1, "extra-league"),
        (b"Country;League;Season;Date\n", 1, "extra-league"),
        (season().encode(), 1, "a header and no match"),
        (season(ROW, header=FULL + ",B365H").encode(), 1, "more than once"),
        (season("E0,16/08/2024,A,B,1,0,H,,,", header=SHORT).encode(), 1, "no match has usable prices"),
        (season(ROW, ROW.replace("E0", "E1").replace("Fulham", "Leeds")).encode(), 3, "one division per file"),
        (season(ROW.replace("2024", "2023"), ROW, ROW.replace("2024", "2025")).encode(), 1, "only 1 of 3 lines"),
        (b"x" * (MAX_FILE_BYTES + 1), 1, "bytes"),
    ],
)
def test_files_that_are_no_season_are_refused(content: bytes, line: int, complaint: str) -> None:
    """One sentence says what the file is, with the line."""
    with pytest.raises(SeasonError) as caught:
        read(content)
    assert caught.value.problems[0].line == line
    assert complaint in caught.value.problems[0].message


def test_two_seasons_in_one_file_are_refused() -> None:
    """Each alone is near enough to the middle; together they are longer than a season can be."""
    rows = [ROW.replace("16/08/2024", f"{day:02d}/{month:02d}/{year}") for year, month, day in SEASONS]
    with pytest.raises(SeasonError, match="one season per file"):
        read(season(*rows))


SEASONS = [(2023, 11, 4), (2024, 3, 9), (2024, 8, 17), (2024, 9, 1), (2024, 12, 1), (2025, 3, 8)]


SHIPPED = resources.files("betting.feeds.seasons").joinpath("E0-2024-25.csv").read_bytes().rstrip()


def cut_off_after(ending: bytes) -> Season:
    """The shipped season without what follows `ending` in its last line, and without its line end."""
    start, found, _ = SHIPPED.rpartition(ending)
    assert found
    assert (start + ending).count(b"\n") == 380
    return read(start + ending)


@pytest.mark.parametrize(
    ("ending", "column", "bookmakers"),
    [
        (b",A,2.7,3", "B365D", []),
        (b",A,2.7,3.7,2", "B365A", []),
        (b",A,2.7,3.7,", "B365A", []),
        (b",2.45,2.74,3.83,2", "PSA", ["B365"]),
        (b",1.53,2", "B365<2.5", ["B365"]),
        (b",1.53,2.5,0,2.03,1", "B365AHA", ["B365", "B365"]),
        (b",2.63,0.25,1", "B365CAHH", ["B365", "B365", "B365"]),
    ],
)
def test_a_file_cut_off_in_its_last_line_does_not_use_the_cut_cell(
    ending: bytes, column: str, bookmakers: list[str]
) -> None:
    """2.45 cut to 2 would be a price: one warning with line and column, and the cells before it count."""
    found = cut_off_after(ending)
    assert len(found.matches) == 380
    last = next(match for match in found.matches if match.line == 381)
    assert [market.bookmaker for market in last.markets] == bookmakers
    [warning] = found.warnings
    assert (warning.line, warning.column) == (381, column)
    assert "seems cut off" in warning.message
    assert "download the file again" in warning.message


@pytest.mark.parametrize("ending", [b"Brentford,1,1", b"Brentford,1", b"Wolves,Brent", b",16:00,Wol", b"\nE"])
def test_a_line_cut_off_before_its_score_is_left_out(ending: bytes) -> None:
    """The goals could be 1 of 10, the name half of a club's."""
    found = cut_off_after(ending)
    assert len(found.matches) == 379
    assert any("seems cut off" in warning.message for warning in found.warnings)


def test_a_whole_last_line_without_a_line_end_is_no_oddity() -> None:
    """Nor is one as short as all others are; with a line end a short line is as its author wrote it."""
    assert read(SHIPPED).warnings == ()
    lines = SHIPPED.decode("utf-8-sig").splitlines()
    short = [line.rpartition(",")[0] for line in lines[1:]]
    assert read("\n".join([lines[0], *short])).warnings == ()
    assert read("\n".join([*lines[:-1], short[-1], ""])).warnings == ()


def test_missing_and_unreadable_files_are_season_errors(tmp_path: object) -> None:
    """A path that is not there or is a folder is told with what to do; there is no line to name."""
    for path in (f"{tmp_path}/none.csv", str(tmp_path), "bad\x00path"):
        with pytest.raises(SeasonError, match="give the path of a season file") as caught:
            load_season(path)
        assert str(caught.value).startswith(f"{path}: cannot be opened (")


def test_a_season_loads_fast() -> None:
    """A second is the budget; a twentieth of it is used. Counted in processor time, three times over."""
    load_season("E0-2024-25")
    began_s = time.process_time()
    for _ in range(3):
        load_season("E0-2024-25")
    assert time.process_time() - began_s < 3.0
