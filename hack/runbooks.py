"""Writes docs/runbooks from the table of diagnoses: the index and every page's head. --check: are they current?"""

from __future__ import annotations

import sys
from pathlib import Path

from betting_operator.healing.diagnoses import TABLE, Entry, Kind, Severity

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "runbooks"
HUMAN = "## What you should do"
ALERTED = {
    None: "nobody: it is in the record",
    Severity.NOTE: "a person, for information",
    Severity.WARN: "a person, to look at it today",
    Severity.PAGE: "a person, at once",
}


def head(kind: Kind) -> str:
    """What the table says of a diagnosis."""
    entry = TABLE[kind]
    return (
        f"# {kind.value}\n\n**It means** {entry.means}.\n\n**Concluded when** {entry.needs}.\n\n"
        f"**Not concluded from time in which** {uncounted(entry)}.\n\n"
        f"**What was done**: {entry.heals}.\n\n"
        f"**Who is alerted**: {ALERTED[entry.severity]}.\n\n"
    )


def uncounted(entry: Entry) -> str:
    """Which time does not count: a full window starts again after it."""
    return "; ".join(entry.voids) or "— (it rests on a fact, not on time)"


def index() -> str:
    """All of them in one table."""
    rows = [
        f"| [{kind.value}]({kind.value}.md) | {e.means} | {e.needs} | {uncounted(e)} | {e.heals} "
        f"| {e.severity or '—'} |"
        for kind, e in TABLE.items()
    ]
    return (
        "# Runbooks\n\nOne for each diagnosis of the healer; `betting heal log` names them. Made from\n"
        "`betting_operator/healing/diagnoses.py` by `make gen`.\n\n"
        "| diagnosis | means | evidence it needs | time that does not count | what heals it | alert |\n"
        "| --- | --- | --- | --- | --- | --- |\n" + "\n".join(rows) + "\n"
    )


def page(kind: Kind, old: str) -> str:
    """The page with a current head; what people wrote below it stays."""
    _, found, below = old.partition(HUMAN)
    return head(kind) + (HUMAN + below if found else HUMAN + "\n")


def main() -> int:
    """Exit code 1 with --check when a page is missing, empty for people, or not current."""
    check = "--check" in sys.argv[1:]
    wanted = {FOLDER / "README.md": index()}
    for kind in Kind:
        path = FOLDER / f"{kind.value}.md"
        wanted[path] = page(kind, path.read_text("utf-8") if path.exists() else "")
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    empty = [path for path, text in wanted.items() if text.rstrip().endswith(HUMAN)]
    if check:
        for path in sorted({*stale, *empty}):
            print(f"{path.name}: not current, or says nothing to people: run make gen and write what to do")
        return 1 if stale or empty else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in wanted.items():
        path.write_text(text, "utf-8")
    print(f"wrote {len(wanted)} pages to docs/runbooks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
