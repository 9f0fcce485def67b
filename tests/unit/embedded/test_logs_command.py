"""`betting logs ID`: what all services logged about one request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from betting.cli import main
from betting.supervision import logfile
from betting.supervision.errors import PlatformError

ID = "8f0c-1a"


def written(folder: Path, name: str, *lines: dict[str, Any] | str) -> Path:
    """A log of a process of this data folder."""
    file = folder / "logs" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return file


def line(second: int, event: str, correlation: str = ID, **more: Any) -> dict[str, Any]:
    """A line as services write them."""
    said = {"workload": "s", "instance": "s-1", "boot_id": "b", "event": event, "level": "warning"}
    return said | {"timestamp": f"2026-03-01T10:00:{second:02}.500000Z", "correlation_id": correlation} | more


def run(folder: Path, *arguments: str) -> Any:
    """Runs the command on a folder."""
    given = ["logs", *arguments, "--data", str(folder)]
    return CliRunner().invoke(main.build(given), given)


def test_lines_of_all_services_in_order_of_time(tmp_path: Path) -> None:
    """Also from rotated files; with the process's name, the level and the fields."""
    written(tmp_path, "api-gateway-1.log", line(9, "call failed", code="UNAVAILABLE", message="try again later"))
    written(
        tmp_path, "event-service.log", line(8, "request", method="/betting.v1.EventService/GetEvent"), line(1, "x", "7")
    )
    written(tmp_path, "event-service.log.1", line(3, "second"))
    written(tmp_path, "event-service.log.2", line(2, "first"))
    shown = run(tmp_path, ID)
    assert shown.exit_code == 0, shown.output
    lines = [each.split() for each in shown.stdout.splitlines()]
    assert [each[3] for each in lines] == ["first", "second", "request", "call"]
    assert [each[1] for each in lines] == ["event-service", "event-service", "event-service", "api-gateway-1"]
    assert lines[0][:3] == ["2026-03-01T10:00:02.500Z", "event-service", "warning"]
    assert 'code=UNAVAILABLE  message="try again later"' in shown.stdout
    assert "method=/betting.v1.EventService/GetEvent" in shown.stdout


def test_only_lines_of_this_very_id(tmp_path: Path) -> None:
    """Not those of an id that begins or ends like it, nor those that only mention it in another field."""
    others = [line(1, "other", each) for each in (f"{ID}b", f"9{ID}", f"{ID}.1", f"x:{ID}")]
    written(tmp_path, "a.log", *others, line(2, "mention", "7", message=f"like {ID}"), line(3, "mine"))
    shown = run(tmp_path, ID, "--json")
    assert [json.loads(each)["event"] for each in shown.stdout.splitlines()] == ["mine"]


def test_a_line_about_many_requests_is_found_by_each(tmp_path: Path) -> None:
    """A call that was turned down as a whole is one line; the other callers' ids are not shown."""
    both = {"event": "commands refused", "correlation_ids": ["other-1", ID], "timestamp": "2026-03-01T10:00:00Z"}
    written(tmp_path, "bet-service-1.log", both)
    shown = run(tmp_path, ID)
    assert "commands refused  requests=2" in shown.stdout
    assert "other-1" not in shown.stdout


def test_plain_text_has_its_place_in_time(tmp_path: Path) -> None:
    """A line that is no JSON is of the time it begins with, or of the line before it."""
    written(tmp_path, "a.log", line(1, "before"), line(5, "start", "7"), f"Traceback of {ID}", line(9, "after"))
    written(tmp_path, "postgres.log", f"2026-03-01 10:00:03.000 UTC [77] ERROR: statement of {ID} was ended")
    shown = run(tmp_path, ID)
    words = ("before", "statement", "Traceback", "after")
    places = [shown.stdout.index(each) for each in words]
    assert places == sorted(places)


def test_tracebacks_stand_below_their_line(tmp_path: Path) -> None:
    """Readable, indented."""
    written(tmp_path, "a.log", line(1, "unexpected error", exception="Traceback:\n  File x\nKeyError: 'k'"))
    assert "\n    Traceback:\n      File x\n    KeyError: 'k'\n" in run(tmp_path, ID).stdout


def test_a_log_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    """What callers sent is in the logs: escape sequences and line breaks in it are shown, not obeyed."""
    written(tmp_path, "a.log", line(1, "bad\x1b[2J", message="two\nlines \x1b]0;x\x07"), f"raw \x1b[31m {ID}")
    out = run(tmp_path, ID).stdout
    assert "\x1b" not in out
    assert "\x07" not in out
    assert len(out.splitlines()) == 2


def test_what_is_rotated_meanwhile_comes_once(tmp_path: Path) -> None:
    """Rotation copies, then truncates: for a moment a line is in both files."""
    file = written(tmp_path, "a.log", line(1, "once"))
    (tmp_path / "logs" / "a.log.1").write_bytes(file.read_bytes())
    assert len(run(tmp_path, ID).stdout.splitlines()) == 1
    file.write_bytes(file.read_bytes())
    assert logfile.rotate(file, max_bytes=10)
    assert len(run(tmp_path, ID).stdout.splitlines()) == 1


def test_as_json_every_line_names_its_file(tmp_path: Path) -> None:
    """All the fields, for programs."""
    written(tmp_path, "a.log.1", line(1, "x", stake_minor=5))
    [said] = [json.loads(each) for each in run(tmp_path, ID, "--json").stdout.splitlines()]
    assert (said["process"], said["file"], said["stake_minor"], said["correlation_id"]) == ("a", "a.log.1", 5, ID)


def test_damaged_lines_and_files_are_no_trouble(tmp_path: Path) -> None:
    """Half a line, bytes that are no text, an empty file, a folder with a log's name, another program's file."""
    written(tmp_path, "a.log", f'{{"event": "cut off", "correlation_id": "{ID}', line(2, "whole"))
    (tmp_path / "logs" / "b.log").write_bytes(b"\xff\xfe " + ID.encode() + b"\n")
    written(tmp_path, "c.log")
    (tmp_path / "logs" / "d.log").mkdir()
    written(tmp_path, "e.log.gz", line(1, "foreign"))
    shown = run(tmp_path, ID)
    assert shown.exit_code == 0
    assert "whole" in shown.stdout
    assert "cut off" in shown.stdout
    assert "foreign" not in shown.stdout


@pytest.mark.parametrize("identifier", ["a b", "", "x" * 65, "é", "../../etc"])
def test_what_is_no_id_is_refused(tmp_path: Path, identifier: str) -> None:
    """With what an id looks like."""
    shown = run(tmp_path, identifier)
    assert isinstance(shown.exception, PlatformError)
    assert "is no correlation id: give the 1 to 64" in str(shown.exception)


def test_nothing_found_says_where_it_looked(tmp_path: Path) -> None:
    """Exit code 1 and the folder, whatever is missing: folder, logs, or lines."""
    absent = run(tmp_path / "absent", ID)
    assert f"There is no data folder {tmp_path}/absent" in str(absent.exception)
    (tmp_path / "logs").mkdir()
    assert f"There are no logs in {tmp_path}/logs" in str(run(tmp_path, ID).exception)
    written(tmp_path, "a.log", line(1, "x", "7"))
    nothing = run(tmp_path, ID)
    assert nothing.exit_code == 1
    assert f"No line about {ID} in the 1 files of {tmp_path}/logs" in str(nothing.exception)
