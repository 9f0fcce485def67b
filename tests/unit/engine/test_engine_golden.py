"""Journals of every released version replay to the state they led to when they were written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from reference.canonical import canonical, check_invariants, state_hash
from reference.lockstep import encode, load

from betting.engine.apply import apply
from betting.engine.entries import READABLE_FORMATS, Entry, Kind
from betting.engine.state import ShardState

GOLDEN = Path(__file__).parents[2] / "golden"
JOURNALS = sorted(GOLDEN.glob("*/*.jsonl"))
SHARD = 3
HEX = ("account", "bet", "request_key", "body")


def entries_of(path: Path) -> list[Entry]:
    """The journal's entries."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    absent: dict[str, Any] = dict.fromkeys((*HEX[:3], "market"))
    return [Entry(**absent | {n: bytes.fromhex(v) if n in HEX else v for n, v in row.items()}) for row in rows]


@pytest.mark.parametrize("path", JOURNALS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_replays_to_the_same_hash(path: Path) -> None:
    """Entry by entry, with a snapshot after each: the hash is the one that was recorded."""
    hashes = json.loads((path.parent / "hashes.json").read_text())
    state = ShardState(SHARD)
    for entry in entries_of(path):
        apply(state, entry)
        state = load(encode(state))
        check_invariants(state)
    assert state_hash(canonical(state)) == hashes[path.stem]


@pytest.mark.parametrize("path", JOURNALS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_snapshots_of_every_release_load(path: Path) -> None:
    """What a release wrote down of the same state is read by this one, and this one writes the very same bytes."""
    hashes = json.loads((path.parent / "hashes.json").read_text())
    written = path.with_suffix(".snapshot").read_bytes()
    state = load(written)
    assert state_hash(canonical(state)) == hashes[path.stem]
    assert encode(state) == written


@pytest.mark.parametrize("version", sorted({path.parent for path in JOURNALS}), ids=lambda path: path.name)
def test_journals_are_whole(version: Path) -> None:
    """Every version has a hash for each of its journals and no other; nothing was dropped."""
    names = {path.stem for path in version.glob("*.jsonl")}
    assert names == set(json.loads((version / "hashes.json").read_text()))


def test_every_kind_and_format_is_covered() -> None:
    """What can be in a journal is in a golden one."""
    met = {(entry.kind, entry.format) for path in JOURNALS for entry in entries_of(path)}
    assert met == {(kind, number) for kind in Kind for number in READABLE_FORMATS}
