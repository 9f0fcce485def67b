"""What clients were told against the journal: lost, changed and invented acknowledgements."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from betting.audit import CannotAudit, audit
from betting.audit.catalogue import checks

FOUND, CONTENT, REFUSALS = "acknowledgements.found", "acknowledgements.content", "acknowledgements.refusals"


def _first(told: list[dict[str, Any]], kind: str, legs: int = 0) -> dict[str, Any]:
    return next(t for t in told if t["kind"] == kind and len(t.get("legs", ())) >= legs)


def _swap_legs(told: list[dict[str, Any]]) -> None:
    _first(told, "bet", legs=2)["legs"].reverse()


def _change(told_kind: str, **changes: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda told: _first(told, told_kind).update(changes)


CANARIES: list[tuple[str, set[str], Callable[[list[dict[str, Any]]], None]]] = [
    ("a lost bet", {FOUND}, lambda told: _first(told, "bet").update(request_key=str(uuid4()), bet_id=None)),
    ("a lost deposit", {FOUND}, _change("deposit", request_key=str(uuid4()))),
    ("a lost withdrawal", {FOUND}, _change("withdrawal", request_key=str(uuid4()))),
    ("a bet of another user", {FOUND, CONTENT}, _change("bet", user_id="0199c82c-c000-7000-8000-000000000001")),
    ("another stake", {CONTENT}, _change("bet", stake_minor=999)),
    ("another bet id", {CONTENT}, _change("bet", bet_id=str(uuid4()))),
    ("another currency", {CONTENT}, _change("bet", currency="EUR")),
    ("another price", {CONTENT}, lambda told: _first(told, "bet")["legs"].__setitem__(0, [11, 1, 9, 1])),
    ("legs in another order", {CONTENT}, _swap_legs),
    ("a leg left out", {CONTENT}, lambda told: _first(told, "bet", legs=2)["legs"].pop()),
    ("another amount", {CONTENT}, _change("deposit", amount_minor=1)),
    ("a withdrawal told as a deposit", {CONTENT}, _change("withdrawal", kind="deposit")),
    ("a refusal told as a withdrawal", {CONTENT}, _change("refusal", kind="withdrawal", amount_minor=10**6)),
    ("another reason", {REFUSALS}, _change("refusal", code="OWES_RECEIVABLE")),
    ("a lost refusal", {REFUSALS}, _change("refusal", request_key=str(uuid4()))),
    ("a bet told as refused", {REFUSALS}, _change("bet", kind="refusal", code=11)),
]


@pytest.mark.parametrize(
    ("name", "fails", "spoil"), CANARIES, ids=[name.replace(" ", "-") for name, _f, _s in CANARIES]
)
async def test_caught(
    audited: Any, season: Any, tmp_path: Path, name: str, fails: set[str], spoil: Callable[[list[dict[str, Any]]], None]
) -> None:
    """One acknowledgement that the journal does not bear out fails the right check."""
    audited.write(season)
    spoil(season.told)
    failed = await audited.failed(season.write_acknowledgements(tmp_path / "acks"))
    # A user of another shard is simply not found there.
    assert set(failed) in ([fails] if len(fails) == 1 else [{check} for check in fails]), name
    assert all(check.problems == 1 for check in failed.values())


async def test_repeats_and_transient_refusals(audited: Any, season: Any, tmp_path: Path) -> None:
    """The same acknowledgement twice is one answer repeated; a transient refusal has nothing to be found."""
    audited.write(season)
    season.told += [dict(season.told[0]), {"kind": "refusal", "code": "BOOK_STALE"}, {"kind": "refusal", "code": 41}]
    report = await audit(audited.dsn, season.write_acknowledgements(tmp_path / "acks"))
    assert report.holds
    assert report.acknowledgements is not None
    assert report.acknowledgements.refusals == 3
    assert report.acknowledgements.lines == len(season.told)


async def test_cut_off_last_line(audited: Any, season: Any, tmp_path: Path) -> None:
    """A writer killed in the middle of a line: the rest is checked, and the report says so."""
    audited.write(season)
    path = season.write_acknowledgements(tmp_path / "acks")
    path.write_bytes(path.read_bytes()[:-30])
    report = await audit(audited.dsn, path)
    assert report.holds
    assert report.acknowledgements is not None
    assert report.acknowledgements.cut_off
    assert report.acknowledgements.lines == len(season.told) - 1


async def test_malformed_line(audited: Any, season: Any, tmp_path: Path) -> None:
    """Anything else that is no acknowledgement stops the audit and names the line."""
    audited.write(season)
    path = tmp_path / "acks"
    path.write_text(json.dumps(season.told[0]) + "\n" + '{"kind": "bet", "stake\n' + json.dumps(season.told[1]) + "\n")
    with pytest.raises(CannotAudit, match="acks, line 2: not JSON"):
        await audit(audited.dsn, path)


async def test_no_file(audited: Any, season: Any, tmp_path: Path) -> None:
    """A file that is not there is one clear line."""
    audited.write(season)
    with pytest.raises(CannotAudit, match="nowhere cannot be read: No such file"):
        await audit(audited.dsn, tmp_path / "nowhere")


def test_every_check_has_a_canary() -> None:
    """No check is without something that makes it fail: these files' expectations name every one."""
    journal, rules = (_load(f"test_audit_canaries_{name}.py") for name in ("journal", "rules"))
    expected = [canary.fails for canary in (*journal.CANARIES, *journal.READ_MODEL_CANARIES, *rules.FORGERIES)]
    expected += [fails for _name, fails, _spoil in CANARIES]
    assert {check.name for check in checks()} == set().union(*expected)


def _load(file_name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"canaries_of_{file_name}", Path(__file__).with_name(file_name))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
