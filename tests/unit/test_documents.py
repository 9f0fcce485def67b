"""Documents name what is there: links resolve, files exist, functions are in the files they are said to be in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The changelog tells of files that releases had, this one or not.
HISTORY = ROOT / "CHANGELOG.md"
FOLDERS = ("docs", "hack", "operator", "protos", "services", "tests")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
DOCUMENTS = [path for path in DOCUMENTS if "node_modules" not in path.parts]
# A path may be written from the root, or from the package that a page is about.
SOURCES = (ROOT / "services", ROOT / "operator")
PACKAGES = (ROOT, *SOURCES, ROOT / "services" / "betting", ROOT / "operator" / "betting_operator")
GENERATED = {Path("services/betting/v1"), Path("services/betting/internal")}
SECTIONS = ("Added", "Changed", "Renamed", "Fixed")
SUFFIXES = r"(?:csv|json|jsonl|md|mjs|proto|py|sql|toml)"

LINK = re.compile(r"\]\(([^)\s]+)\)")
# `gateway/fast_path.py`, `protos/betting/v1/`, and `bets/execution.py: Execution.execute`
FILE = re.compile(rf"`([\w.-]+(?:/[\w.-]+)+\.{SUFFIXES})(?:: ([\w.]+))?`")
# `janitor.py`: one of the package that the text is about
BARE_FILE = re.compile(r"`([\w-]+\.(?:py|proto|sql))`")
NAMES = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()}
FOLDER = re.compile(rf"`((?:{'|'.join(FOLDERS)})(?:/[\w.-]+)*/?)`")


def prose(document: Path) -> str:
    """A document's text without its blocks of code; a line break inside a code span is a space there."""
    text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"\s+", " ", text)


def anchors(document: Path) -> set[str]:
    """The fragments that GitHub gives a document's headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> Iterator[str]:
    """Relative links to files or headings that are not there."""
    for link in LINK.findall(prose(document)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists():
            yield f"{link}: no such file"
        elif fragment and fragment not in anchors(target):
            yield f"{link}: no such heading"


def missing_files(document: Path) -> Iterator[str]:
    """Files and folders that the text names and nobody has, and functions that are not in the file named with them."""
    text = prose(document)
    for name, definition in FILE.findall(text):
        found = next((base / name for base in (*PACKAGES, document.parent) if (base / name).is_file()), None)
        if found is None:
            yield f"{name}: no such file"
        elif definition and not defines(found.read_text("utf-8"), definition):
            yield f"{name} does not define {definition}"
    for name in BARE_FILE.findall(text):
        if name not in NAMES:
            yield f"{name}: no such file anywhere"
    for name in FOLDER.findall(text):
        if not (ROOT / name).exists():
            yield f"{name}: no such folder"


def defines(source: str, dotted: str) -> bool:
    """Whether a module has these definitions: a function, or a class and its method."""
    return all(re.search(rf"^\s*(?:async )?(?:def|class) {name}\b", source, re.MULTILINE) for name in dotted.split("."))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(document: Path) -> None:
    """Links to elsewhere are not followed."""
    assert list(broken_links(document)) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_folder_and_function_that_is_named_exists(document: Path) -> None:
    """Who moves a module moves it in the documents too."""
    if document != HISTORY:
        assert list(missing_files(document)) == []


def folders(path: Path) -> set[str]:
    """Names of the folders with source in them."""
    return {each.name for each in path.iterdir() if each.is_dir() and each.name[0] not in "._" and any(each.iterdir())}


def test_contributing_says_of_every_folder_what_it_holds() -> None:
    """Also of a new one. What is generated is not a place where anything lives."""
    told = {Path(name) for name in FOLDER.findall(prose(ROOT / "CONTRIBUTING.md"))}
    for parent in ("services/betting", "operator/betting_operator", "tests"):
        there = {Path(parent) / name for name in folders(ROOT / parent)} - GENERATED
        assert there - told == set()


@pytest.mark.parametrize("kind", ["unit", "integration"])
def test_tests_are_in_a_folder_named_after_their_package(kind: str) -> None:
    """Besides: the wheel and the locks, the platform as a whole, the cluster of hack/, and tests/e2e."""
    packages = folders(ROOT / "services" / "betting") | folders(ROOT / "operator" / "betting_operator")
    assert folders(ROOT / "tests" / kind) - packages <= {"packaging", "platform", "minicluster", "e2e"}


def test_each_release_in_the_changelog_has_each_section_once() -> None:
    """Merges like to leave a section twice."""
    text = HISTORY.read_text("utf-8")
    for release in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        sections = re.findall(r"^### (.+)$", release, re.MULTILINE)
        assert sections == [name for name in SECTIONS if name in sections]


def test_the_check_itself_finds_what_is_not_there(tmp_path: Path) -> None:
    """A page whose names are all wrong; a check that finds nothing there would find nothing anywhere."""
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n[one](gone.md) [two](#no-such-heading) [three](#a-page) `engine/placement.py`\n"
        "`bets/execution.py: Execution.undo` `gone.py` `services/local` `bets/execution.py: Execution.execute`\n"
    )
    assert list(broken_links(page)) == ["gone.md: no such file", "#no-such-heading: no such heading"]
    assert list(missing_files(page)) == [
        "engine/placement.py: no such file",
        "bets/execution.py does not define Execution.undo",
        "gone.py: no such file anywhere",
        "services/local: no such folder",
    ]
