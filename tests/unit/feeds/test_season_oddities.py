"""Odd cells of real season files: each costs as little as it can, and is one warning with its line and column."""

from __future__ import annotations

from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from betting.feeds.decimals import Odds
from betting.feeds.seasons import Match, Season, SeasonError, identity, load_season, read_season
from betting.v1 import event_pb2

RESULT = event_pb2.MARKET_KIND_MATCH_RESULT
TOTAL = event_pb2.MARKET_KIND_OVER_UNDER
HANDICAP = event_pb2.MARKET_KIND_ASIAN_HANDICAP

HEADER = (
    "Div,Date,HomeTeam,AwayTeam,FTHG,FTAG,FTR,HTHG,HTAG,HTR,B365H,B365D,B365A,PSH,PSD,PSA,"
    "BbAv>2.5,BbAv<2.5,BbAHh,BbAvAHH,BbAvAHA"
)
CLUBS = ("Alpha", "Beta", "Gamma", "Delta")
PAIRS = [(home, away) for home in CLUBS for away in CLUBS if home != away]
PRICES = "2.1,3.4,3.6,2.12,3.45,3.7,1.91,1.93,-0.25,1.95,1.97"
ROWS = [
    f"E1,{4 + 2 * index:02d}/08/2018,{home},{away},2,0,H,1,0,H,{PRICES}" for index, (home, away) in enumerate(PAIRS)
]
ODD_LINE = 6  # the fifth match
SHIPPED = resources.files("betting.feeds.seasons").joinpath("E0-2024-25.csv").read_bytes()


def read(text: str | bytes, *, trust_goals: bool = False) -> Season:
    content = text if isinstance(text, bytes) else text.encode()
    return read_season(content, "test.csv", trust_goals=trust_goals)


def file(rows: list[str] | None = None, header: str = HEADER) -> str:
    return "\r\n".join([header, *(rows or ROWS)]) + "\r\n"


def odd(old: str, new: str) -> str:
    """The file with one cell of its fifth match changed."""
    assert old in ROWS[ODD_LINE - 2]
    return file([*ROWS[: ODD_LINE - 2], ROWS[ODD_LINE - 2].replace(old, new, 1), *ROWS[ODD_LINE - 1 :]])


def places(season: Season) -> list[tuple[int, str]]:
    return [(warning.line, warning.column) for warning in season.warnings]


def odd_match(season: Season) -> Match:
    return next(match for match in season.matches if match.line == ODD_LINE)


def offered(match: Match) -> dict[int, str]:
    return {market.kind: market.bookmaker for market in match.markets}


@pytest.mark.parametrize("price", ["0", "1", "0.87", "-0.5", "-2", "c", "1,95", "99999", "2.1.1", "∞", "1e3", "9.1"])
def test_an_impossible_price_passes_its_bookmaker_over(price: str) -> None:
    """The next complete bookmaker is taken, for that kind of market of that match only; 9.1 makes it a sure win."""
    season = read(odd("2.1,3.4,3.6", f'2.1,"{price}",{"9.6" if price == "9.1" else "3.6"}'))
    assert len(season.matches) == 12
    assert offered(odd_match(season)) == {RESULT: "PS", TOTAL: "BbAv", HANDICAP: "BbAv"}
    assert places(season) == [(ODD_LINE, "B365H" if price == "9.1" else "B365D")]
    assert season.bookmakers == {"BbAv": 24, "B365": 11, "PS": 1}


def test_without_another_bookmaker_the_market_is_missing() -> None:
    """And the others of the match stay."""
    season = read(odd("1.95,1.97", "1.95,c"))
    assert offered(odd_match(season)) == {RESULT: "B365", TOTAL: "BbAv"}
    assert places(season) == [(ODD_LINE, "BbAvAHA")]


@pytest.mark.parametrize("line", ["-1.2", "0.758", "-225", "-0.175", "-1,-1.2", "-1,-2", "0.25,0.75", "x", "21"])
def test_a_line_that_is_none_means_no_handicap(line: str) -> None:
    """Averages, missing points, letters: the handicap goes, the other markets of the match stay."""
    season = read(odd("-0.25", f'"{line}"'))
    assert offered(odd_match(season)) == {RESULT: "B365", TOTAL: "BbAv"}
    assert places(season) == [(ODD_LINE, "BbAHh")]


@pytest.mark.parametrize(("line", "quarters"), [("-1,-1.5", -5), ("0,-0.5", -1), ("0/0.5", 1), ("+0.5, +1", 3)])
def test_a_split_line_is_the_one_between(line: str, quarters: int) -> None:
    """Half the stake on each of two lines is a bet on the quarter line; the warning says how it was read."""
    season = read(odd("-0.25", f'"{line}"'))
    assert [m.line_quarters for m in odd_match(season).markets if m.kind == HANDICAP] == [quarters]
    assert places(season) == [(ODD_LINE, "BbAHh")]


@pytest.mark.parametrize(
    ("price", "odds"),
    [
        ("1.836666667", Odds(418333, 500000)),
        ("1.9100000000", Odds(91, 100)),
        ("12.345678901", Odds(113456, 10000)),
        ("2.0000000001", Odds(1, 1)),
    ],
)
def test_long_decimals_are_cut_down_to_a_price(price: str, odds: Odds) -> None:
    """Never rounded up; both parts fit a price."""
    season = read(odd("1.91,1.93", f"{price},1.05"))
    found = next(m for m in odd_match(season).markets if m.kind == TOTAL).selections[0].opening
    assert found.numerator * odds.denominator == odds.numerator * found.denominator
    assert max(found) <= 1_000_000
    assert places(season) == [(ODD_LINE, "BbAv>2.5")]


@pytest.mark.parametrize(
    ("old", "new", "column"),
    [
        (",2,0,H,1,0", ",2,0,D,1,0", "FTR"),
        (",2,0,H,1,0", ",2,0,X,1,0", "FTR"),
        (",2,0,H,1,0", ",2,0,H,3,0", "HTHG"),
        (",2,0,H,1,0", ",2,0,H,1,1", "HTAG"),
    ],
)
def test_a_contradicted_score_has_no_bets_unless_goals_are_trusted(old: str, new: str, column: str) -> None:
    """Neither the goals nor what contradicts them is taken silently; the user may say that goals count."""
    text = odd(old, new)
    doubtful, trusted = read(text), read(text, trust_goals=True)
    assert (len(doubtful.matches), odd_match(doubtful).certain, odd_match(doubtful).markets) == (12, False, ())
    assert "plays without bets" in doubtful.warnings[0].message
    assert (odd_match(trusted).certain, len(odd_match(trusted).markets)) == (True, 3)
    assert "plays by its goals" in trusted.warnings[0].message
    for season in (doubtful, trusted):
        assert places(season) == [(ODD_LINE, column)]
        assert (odd_match(season).home_goals, odd_match(season).away_goals) == (2, 0)


def test_a_half_time_result_is_named_and_costs_nothing() -> None:
    """No market depends on it."""
    season = read(odd("H,1,0,H", "H,1,0,A"))
    assert places(season) == [(ODD_LINE, "HTR")]
    assert len(odd_match(season).markets) == 3


def test_whole_goals_of_data_frames_and_small_letters_are_read() -> None:
    """2.0 goals and a small h are no oddity."""
    season = read(odd(",2,0,H,1,0,H", ",2.0,0.0,h,1.0,,h"))
    assert season.warnings == ()
    assert len(odd_match(season).markets) == 3


@pytest.mark.parametrize(
    ("old", "new", "column", "complaint"),
    [
        (",2,0,H", ",-2,0,H", "FTHG", "not a number of goals"),
        (",2,0,H", ",99,0,H", "FTHG", "not a number of goals"),
        (",2,0,H", ",,0,H", "FTHG", "is blank"),
        (",2,0,H", ",2,٣,H", "FTAG", "not a number of goals"),
        ("Beta,Gamma", "Gamma,Gamma", "AwayTeam", "cannot play itself"),
        ("Beta,Gamma", ",Gamma", "HomeTeam", "is blank"),
        ("Beta,Gamma", f"Beta,{'x' * 61}", "AwayTeam", "1 to 60"),
        ("Beta,Gamma", "Beta,Gam\x07ma", "AwayTeam", "printable"),
        ("12/08/2018", "31/02/2018", "Date", "not a date"),
        ("12/08/2018", "", "Date", "is blank"),
        ("12/08/2018", "12/08/2081", "Date", "days from the season's middle"),
        ("12/08/2018", "08/14/2018", "Date", "not a date"),
        ("Beta,Gamma,2", 'Beta,"Gamma,2', "", "check the quotes"),
    ],
)
def test_a_line_that_is_no_match_is_left_out(old: str, new: str, column: str, complaint: str) -> None:
    """One line, not the file: what cannot be played is named and the others play."""
    season = read(odd(old, new))
    assert [match.line for match in season.matches] == [line for line in range(2, 14) if line != ODD_LINE]
    assert places(season) == [(ODD_LINE, column)]
    assert complaint in season.warnings[0].message
    assert "left out" in season.warnings[0].message


def test_a_match_named_twice_plays_once() -> None:
    """With the same score as if once; with another it has no bets, also when goals are trusted."""
    same = read(file([*ROWS, ROWS[4]]))
    assert (len(same.matches), len(odd_match(same).markets), places(same)) == (12, 3, [(14, "")])
    for trust_goals in (False, True):
        other = read(
            file([*ROWS, ROWS[4].replace(",2,0,H", ",0,2,A").replace("1,0,H", "0,0,D")]), trust_goals=trust_goals
        )
        assert (len(other.matches), odd_match(other).markets, odd_match(other).certain) == (12, (), False)
        assert "another score" in other.warnings[0].message


def test_a_second_meeting_is_named_where_clubs_meet_once() -> None:
    """It may be a match that was put off, under both its days; where many meet twice it is how the league plays."""
    text = SHIPPED.decode("utf-8-sig")
    first = text.splitlines()[1]
    season = read(text + first.replace("16/08/2024", "18/08/2024") + "\n")
    assert (len(season.matches), places(season)) == (381, [(382, "Date")])
    assert read(file([*ROWS, ROWS[0].replace("04/08", "30/09")])).warnings == ()


def test_a_wrong_or_missing_division_costs_its_line_at_most() -> None:
    """A mistyped one is left out, in a short file too; a blank one is the file's."""
    text = SHIPPED.decode("utf-8-sig").replace("\nE0,17/08/2024", "\nE9,17/08/2024", 1)
    season = read(text)
    assert (len(season.matches), len(season.warnings)) == (379, 1)
    assert season.warnings[0].column == "Div"
    short = read(odd("E1,", "E0,"))
    assert (len(short.matches), short.division, places(short)) == (11, "E1", [(ODD_LINE, "Div")])
    assert "'E0' is not the file's division E1; the line is left out" in short.warnings[0].message
    blank = read(file([ROWS[0], ROWS[1].replace("E1,", ","), *ROWS[2:]]))
    assert (len(blank.matches), places(blank)) == (12, [(3, "Div")])


@pytest.mark.parametrize(("others", "of", "left_out"), [(1, 4, True), (3, 12, True), (4, 12, False), (1, 2, False)])
def test_a_few_lines_of_other_divisions_are_left_out_and_many_refuse_the_file(
    others: int, of: int, left_out: bool
) -> None:
    """A clear minority is a mistake; a file of several divisions is refused in one sentence that counts them."""
    text = file([row.replace("E1,", "E0,") if index < others else row for index, row in enumerate(ROWS[:of])])
    if left_out:
        season = read(text)
        assert (season.division, len(season.matches)) == ("E1", of - others)
        assert places(season) == [(2 + index, "Div") for index in range(others)]
        return
    with pytest.raises(SeasonError) as caught:
        read(text)
    [problem] = caught.value.problems
    assert "the lines are of 2 divisions" in problem.message
    assert f"'E0': {others}" in problem.message
    assert problem.message.endswith(": give one division per file")


def test_a_mistyped_date_does_not_rename_the_season() -> None:
    """Ids and the folder's season hang on the name."""
    assert read(odd("12/08/2018", "12/05/2018")).name == "E1-2018-19"


def test_a_time_that_is_none_is_the_usual_one() -> None:
    """The match plays at 15:00."""
    rows = [f"{row[:13]},{'8pm' if index == 4 else '19:30'},{row[14:]}" for index, row in enumerate(ROWS)]
    season = read(file(rows, HEADER.replace("Date,", "Date,Time,")))
    assert places(season) == [(ODD_LINE, "Time")]
    assert odd_match(season).kick_off_us % 86_400_000_000 == 15 * 3600 * 1_000_000


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "windows-1252"])
def test_encodings_of_real_files(encoding: str) -> None:
    """One club whatever the encoding, with the same id: its apostrophe and umlaut are read as meant."""
    text = file().replace("Alpha", "Nott’m Forest").replace("Beta", "Köln")
    season = read(text.encode(encoding))
    assert season.warnings == ()
    assert {match.home for match in season.matches} == {"Nott’m Forest", "Köln", "Gamma", "Delta"}
    assert season.matches[0].event_id == identity.event_id("E1", "2018-19", "Nott’m Forest", "Köln")


def test_a_file_of_two_encodings_is_read_line_by_line() -> None:
    """As when old and new rows were pasted together."""
    lines = file().replace("Beta", "Köln").encode().split(b"\r\n")
    mixed = b"\r\n".join(
        line.decode().encode("windows-1252") if index % 2 else line for index, line in enumerate(lines)
    )
    assert {match.home for match in read(mixed).matches} == {"Alpha", "Köln", "Gamma", "Delta"}


@pytest.mark.parametrize("space", ["\u00a0", "  ", "\u202f", " \u200b", "\t"])
def test_every_kind_of_space_is_a_space(space: str) -> None:
    """Half of the lines write it so: one club is one club."""
    rows = [row.replace("Alpha", f"Man{space}United " if index % 2 else "Man United") for index, row in enumerate(ROWS)]
    season = read(file(rows))
    assert {match.home for match in season.matches} == {"Man United", "Beta", "Gamma", "Delta"}
    assert season.warnings == ()


def test_spellings_of_one_club_become_one() -> None:
    """Case, accents and apostrophes apart they are the same; the commonest counts, and each other is said once."""
    rows = [row.replace("Alpha", "Nott'm Forest").replace("Beta", "Köln") for row in ROWS]
    rows[0] = rows[0].replace("Nott'm Forest", "NOTT’M FOREST").replace("Köln", "Koln")
    season = read(file(rows))
    assert {match.home for match in season.matches} == {"Nott'm Forest", "Köln", "Gamma", "Delta"}
    assert places(season) == [(2, "AwayTeam"), (2, "HomeTeam")]


def dated(*texts: str) -> str:
    return file([ROWS[index].replace(ROWS[index][3:13], text) for index, text in enumerate(texts)])


@pytest.mark.parametrize(
    "texts",
    [
        ("04/08/2018", "14/08/2018"),
        ("4/8/18", "14/8/18"),
        ("04.08.2018", "14.08.2018"),
        ("2018-08-04", "2018-08-14"),
        ("2018-08-04 00:00:00", "2018-08-14 00:00:00"),
        ("2018-08-04", "14/08/2018"),
        ("04/08/2018",),
        ("04/08/2018", "05/08/2018", "11/08/2018", "12/08/2018"),  # a first week: two digits, day first
    ],
)
def test_dates_that_are_read(texts: tuple[str, ...]) -> None:
    """Day first or year first."""
    season = read(dated(*texts))
    assert season.matches[0].kick_off_us == 1_533_394_800_000_000  # 4 August 2018, 15:00
    assert len(season.matches) == len(texts)
    assert len(season.warnings) == any(text.startswith("2018") for text in texts)


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (("8/4/2018", "8/6/2018", "8/14/2018"), "month first (8/14/2018)"),
        (("08/04/2018", "08/14/2018"), "month first"),
        (("8/4/2018", "8/14/2018", "14/8/2018", "15/8/2018"), "some month first"),
        (("8/4/2018", "8/6/2018", "8/8/2018"), "read day first and month first"),
        (("08/04/2018", "08/06/2018", "08/11/2018"), "read day first and month first"),
    ],
)
def test_dates_that_are_not_guessed(texts: tuple[str, ...], complaint: str) -> None:
    """How dates are written is decided for the file: one sentence, never half of the lines."""
    with pytest.raises(SeasonError) as caught:
        read(dated(*texts))
    assert caught.value.total == 1
    assert caught.value.problems[0].column == "Date"
    assert complaint in caught.value.problems[0].message
    assert "dd/mm/yyyy" in caught.value.problems[0].message


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_are_read_with_their_decimal_commas(separator: str) -> None:
    """As a spreadsheet of continental Europe saves it: the same season, and one warning."""
    text = "\n".join(line.replace(",", separator).replace(".", ",") for line in file().splitlines())
    season = read(text)
    assert season == read(file())
    assert places(season) == [(1, "")]


def test_cells_beyond_the_header_are_named() -> None:
    """Blank ones are no oddity."""
    assert read(file([row + ",,," for row in ROWS])).warnings == ()
    assert places(read(odd("1.97", "1.97,5,6"))) == [(ODD_LINE, "")]


def check_outcome(content: bytes) -> None:
    """A season, or a SeasonError whose sentence names the file: nothing else."""
    refused: SeasonError | None = None
    try:
        season = read_season(content, "test.csv")
    except SeasonError as error:
        refused = error
    if refused is not None:
        assert refused.problems
        assert refused.total >= len(refused.problems)
        assert all(problem.message for problem in refused.problems)
        assert str(refused).startswith("test.csv: ")
        return
    ids = [id_ for match in season.matches for id_ in (match.event_id, *(m.market_id for m in match.markets))]
    assert len(set(ids)) == len(ids)
    assert season.warnings_total >= len(season.warnings)
    assert all(match.certain or not match.markets for match in season.matches)


@given(st.binary(max_size=400))
def test_no_bytes_crash_the_reader(content: bytes) -> None:
    """Any bytes, alone, after a proper header, and after proper rows."""
    for prefix in (b"", HEADER.encode() + b"\n", file().encode()):
        check_outcome(prefix + content)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, len(SHIPPED)), st.integers(0, len(SHIPPED)))
def test_no_piece_of_a_real_file_crashes_the_reader(start: int, end: int) -> None:
    """A download that broke off, or began in the middle."""
    check_outcome(SHIPPED[:end])
    check_outcome(SHIPPED[:200] + SHIPPED[start:end])


CELLS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", "0", "-1", "1", "NaN", "inf", "1e9", "#REF!", '"', "31/12/1999", "8/14/2018", "٣", "\x00", "9" * 30, "é"]
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 20), CELLS), max_size=20))
def test_no_cell_crashes_the_reader(changes: list[tuple[int, int, str]]) -> None:
    """Cells of a good file overwritten at random, the header's too."""
    lines = [line.split(",") for line in file().split("\r\n")[:13]]
    for line, column, text in changes:
        lines[line][column] = text
    check_outcome("\n".join(",".join(line) for line in lines).encode("utf-8", "surrogatepass"))


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 379), st.sampled_from(["B365H", "B365>2.5", "AHh", "FTR", "FTHG", "Date", "HomeTeam", "HTHG"]), CELLS
)
def test_one_cell_never_costs_the_season(line: int, column: str, text: str) -> None:
    """Whatever one cell of the shipped season holds, at least all other matches play."""
    lines = [row.split(",") for row in SHIPPED.decode("utf-8-sig").splitlines()]
    lines[line][lines[0].index(column)] = text.replace("\x00", "").replace("\r", " ").replace("\n", " ")
    season = read_season("\n".join(",".join(row) for row in lines).encode("utf-8", "replace"), "test.csv")
    assert len(season.matches) >= 379
    known = {match.event_id for match in load_season("E0-2024-25").matches}
    assert len(known & {match.event_id for match in season.matches}) >= 379
