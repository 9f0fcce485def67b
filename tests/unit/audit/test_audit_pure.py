"""What needs no database: the file of acknowledgements, the catalogue, batches, findings, the report."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from rich.console import Console

from betting.audit import rendering
from betting.audit.acknowledgements import CODES, AcknowledgementFile, parse
from betting.audit.catalogue import TABLES, Scope, checks, derived
from betting.audit.findings import MAX_EXAMPLES, Findings
from betting.audit.overview import Overview
from betting.audit.report import AcknowledgementsRead, CannotAudit, CheckResult, Problem, Report, ShardLag
from betting.audit.session import Batch, place_of
from betting.v1 import common_pb2

BET: dict[str, Any] = {
    "kind": "bet",
    "request_key": "0199c82c-c000-7000-8000-000000000001",
    "user_id": "0199c82c-c000-7000-8000-000000000002",
    "currency": "GBP",
    "bet_id": None,
    "stake_minor": 100,
    "legs": [[11, 1, 9, 2]],
}
PROBLEM = Problem(3, 7, UUID(int=1), None, "cash", "0", "1")


def test_a_bet_is_packed_as_in_its_record() -> None:
    """Legs become the bytes of a bet record, without the event."""
    found = parse(1, BET)
    assert found.legs == struct.pack(">qHII", 11, 1, 9, 2)
    assert found.copy_line().split("\t")[-2:] == ["\\\\x000000000000000b00010000000900000002", "\\N\n"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "cashout"}, "kind is 'cashout'"),
        ({"request_key": "17"}, "request_key is '17'"),
        ({"user_id": None}, "user_id is None"),
        ({"currency": "pounds"}, "currency is 'pounds'"),
        ({"currency": "G\tP"}, "currency is"),
        ({"stake_minor": 0}, "stake_minor is 0"),
        ({"stake_minor": "100"}, "stake_minor is '100'"),
        ({"stake_minor": 2**63}, "stake_minor is 9223372036854775808"),
        ({"bet_id": 5}, "bet_id is 5"),
        ({"legs": []}, "at least one leg"),
        ({"legs": [[11, 1, 9]]}, r"legs\[0\] is \[11, 1, 9\]"),
        ({"legs": [[11, 1, 9, 2], [11, 70_000, 9, 2]]}, r"legs\[1\]"),
        ({"legs": [11]}, r"legs\[0\] is 11"),
        ({"kind": "refusal", "code": "BORED"}, "code is 'BORED'"),
        ({"kind": "refusal", "code": True}, "code is True"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], message: str) -> None:
    """A line with one wrong field says which."""
    with pytest.raises(ValueError, match=message):
        parse(1, BET | change)


def test_a_line_is_an_object() -> None:
    """Other JSON is no acknowledgement."""
    with pytest.raises(ValueError, match="JSON object"):
        parse(1, ["bet"])


@pytest.mark.parametrize("code", ["PRICE_MOVED", "REFUSAL_CODE_PRICE_MOVED", 15])
def test_refusals_by_name_and_number(code: object) -> None:
    """A refusal's code may be written either way."""
    assert parse(1, {**BET, "kind": "refusal", "code": code}).code == 15


def test_codes_are_those_of_the_contract() -> None:
    """The audit's own list of refusals is the public one."""
    public = {name.removeprefix("REFUSAL_CODE_"): number for name, number in common_pb2.RefusalCode.items() if number}
    assert public == CODES


def test_file_counts_and_forgives_only_the_end(tmp_path: Path) -> None:
    """Lines are counted by kind, blank ones skipped, an incomplete last one told."""
    path = tmp_path / "acks"
    path.write_text(
        json.dumps(BET) + "\n\n" + json.dumps({"kind": "refusal", "code": 41}) + "\n" + json.dumps(BET)[:40]
    )
    file = AcknowledgementFile(path)
    assert [found.line for found in file] == [1, 3]
    assert file.read == AcknowledgementsRead(str(path), bets=1, refusals=1, cut_off=True)
    assert file.offset == file.size


def test_whole_last_line_without_newline_counts(tmp_path: Path) -> None:
    """A last line that only lacks its newline is complete."""
    path = tmp_path / "acks"
    path.write_text(json.dumps(BET))
    file = AcknowledgementFile(path)
    assert len(list(file)) == 1
    assert not file.read.cut_off


def test_line_numbers_in_errors(tmp_path: Path) -> None:
    """A malformed line is named by file and number."""
    path = tmp_path / "acks"
    path.write_text(json.dumps(BET) + "\n" + json.dumps(BET | {"stake_minor": -1}) + "\n")
    with pytest.raises(CannotAudit, match="acks, line 2: stake_minor is -1"):
        list(AcknowledgementFile(path))


def test_checks_are_well_formed() -> None:
    """Names are unique and grouped, meanings are sentences."""
    names = [check.name for check in checks()]
    assert len(set(names)) == len(names)
    assert all(check.means.endswith(".") and "." in check.name for check in checks())
    assert {check.scope for check in checks()} == set(Scope)


@pytest.mark.parametrize("text", [*(check.sql for check in checks()), *(derived(table) for table in TABLES)])
def test_sql_only_reads(text: str) -> None:
    """Checks and derived tables are queries: nothing in them writes."""
    words = {
        word.strip("(),;").upper() for line in text.splitlines() if not line.startswith("--") for word in line.split()
    }
    assert not words & {"INSERT", "UPDATE", "DELETE", "TRUNCATE", "DROP", "ALTER", "CREATE", "COPY", "GRANT"}


def test_batches_keep_shards_whole() -> None:
    """Shards are grouped up to the size; one that is longer stands alone; none is lost."""
    lags = tuple(ShardLag(shard, head, 0) for shard, head in enumerate((40, 50, 30, 500, 0, 10)))
    overview = Overview(lags, 6)
    assert [batch.shards for batch in overview.batches(100)] == [(0, 1), (2,), (3,), (4, 5)]
    assert overview.entries == 630


def test_numbers_are_put_into_sql() -> None:
    """Shards and their count, and nothing else, are replaced."""
    assert (
        Batch((1, 2), 16).fill("shard = ANY (:shards) AND x % :shard_count")
        == "shard = ANY (ARRAY[1, 2]::int[]) AND x % 16"
    )


def test_findings_keep_the_first_examples() -> None:
    """Over all batches: counts add up, the earliest few problems stay."""
    check = checks()[0]
    findings = Findings()
    for sequence in range(20, 0, -1):
        findings.add(check, 100, 2, (Problem(1, sequence, None, None, "s", "e", "f"),))
    (result,) = findings.results((check,))
    assert (result.examined, result.problems) == (2_000, 40)
    assert [problem.sequence for problem in result.examples] == list(range(1, MAX_EXAMPLES + 1))


def _report(*checked: CheckResult) -> Report:
    lags = (ShardLag(0, 10, 10), ShardLag(1, 20, 15), ShardLag(2, 0, 3))
    return Report(checked, 30, lags, AcknowledgementsRead("acks", bets=2, cut_off=True), 1.5)


def test_report_says_what_failed_and_what_lags() -> None:
    """A person reads the verdict, the place, the lag and the cut-off line."""
    report = _report(CheckResult("a.b", "Is true.", 7, 0), CheckResult("c.d", "Is [too].", 9, 3, (PROBLEM,)))
    console = Console(file=io.StringIO(), width=160)
    rendering.show(report, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert not report.holds
    assert report.lag_entries == 5
    for part in (
        "1 of 2 checks FAILED",
        "shard 3, sequence 7, account 0000",
        "expected 0; found 1",
        "Is [too].",
        "cut off",
        "worst: shard 1, 5",
    ):
        assert part in text
    assert json.loads(rendering.as_json(report))["checks"][1]["examples"][0]["sequence"] == 7


def test_report_that_holds() -> None:
    """All checks hold: so does the report."""
    report = _report(CheckResult("a.b", "Is true.", 7, 0))
    assert report.holds
    assert rendering.verdict(report).startswith("Everything holds: 1 checks over 30 entries in 3 shards")


@pytest.mark.parametrize(
    ("dsn", "place"),
    [
        ("postgresql://u:secret@db.example:6000/betting", "db.example:6000/betting"),
        ("host=db.example password=secret dbname=betting", "db.example:5432/betting"),
        ("postgresql:///betting", "the local socket:5432/betting"),
        ("nonsense secret", "the database"),
    ],
)
def test_databases_are_named_without_passwords(dsn: str, place: str) -> None:
    """What is shown of a DSN."""
    assert place_of(dsn) == place
