"""Logs stay bounded while a child keeps its file open."""

from __future__ import annotations

from pathlib import Path

from betting.supervision import logfile


def test_a_child_goes_on_in_the_truncated_file(tmp_path: Path) -> None:
    """After rotation the old lines are in .1, and what the open handle writes next begins the file anew."""
    path = tmp_path / "logs" / "service.log"
    with logfile.open_for_child(path) as child:
        child.write(b"old line\n" * 100)
        child.flush()
        assert logfile.rotate(path, max_bytes=100)
        child.write(b"new line\n")
        child.flush()
    assert path.read_bytes() == b"new line\n"
    assert (tmp_path / "logs" / "service.log.1").stat().st_size == 900


def test_only_two_old_files_are_kept(tmp_path: Path) -> None:
    """The third rotation drops the first content; a short file is left alone."""
    path = tmp_path / "service.log"
    for content in ("first", "second", "third"):
        path.write_text(content * 10)
        assert logfile.rotate(path, max_bytes=10)
    assert not logfile.rotate(path, max_bytes=10)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["service.log", "service.log.1", "service.log.2"]
    assert (tmp_path / "service.log.2").read_text().startswith("second")


def test_last_words_are_the_last_line_that_says_something(tmp_path: Path) -> None:
    """Blank lines at the end are passed over; no file is told apart from an empty one."""
    path = tmp_path / "service.log"
    assert logfile.last_words(path) == "it left no log"
    path.write_text("")
    assert logfile.last_words(path) == "its log is empty"
    path.write_text("starting\nport taken\n\n  \n")
    assert logfile.last_words(path) == "port taken"
