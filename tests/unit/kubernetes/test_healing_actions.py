"""HealingActions and the status of healing, as values: names, bounds, what is kept, what a new leader goes on from."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from betting_operator.healer.history import Entry, Lasting, Number, Outcome, Present
from betting_operator.healer.report_file import ReportFile
from betting_operator.healing.causes import Target
from betting_operator.healing.diagnoses import Certainty, Kind
from betting_operator.healing.repairs import Episode, Failover
from betting_operator.kubernetes import crd_healing_actions as crd
from betting_operator.kubernetes import healing_actions, healing_report
from betting_operator.kubernetes.healing_report import ACTIVE_MAX, FAILOVERS_MAX, Told

NOW_US = 1_700_000_000_000_000
PLATFORM = {"metadata": {"name": "demo", "namespace": "betting", "uid": "1"}}


def kept(age: timedelta, name: str) -> dict[str, Any]:
    made = datetime.fromtimestamp(NOW_US / 1e6, UTC) - age
    return {"metadata": {"name": name, "creationTimestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ")}}


def test_names_are_in_the_order_of_time() -> None:
    """kubectl lists by name. A second has many flight records, a record many actions."""
    numbers = [(NOW_US + us, place) for us in (0, 9, 10, 999_999, 1_000_000, 86_400_000_000) for place in (0, 9, 10)]
    names = [healing_actions.name_of("demo", *number) for number in numbers]
    assert names == sorted(names)
    assert names[0] == "demo-20231114-221320-000000-000"


def test_the_newest_200_are_kept_and_nothing_for_longer_than_seven_days() -> None:
    """Whichever leaves less; in whatever order they are listed."""
    young = [
        kept(timedelta(minutes=n), healing_actions.name_of("demo", NOW_US - n * 60_000_000, 0)) for n in range(250)
    ]
    random.Random(1).shuffle(young)
    gone = healing_actions.expired(young, NOW_US)
    assert len(gone) == 50
    assert max(each["metadata"]["name"] for each in gone) < min(
        each["metadata"]["name"] for each in young if each not in gone
    )
    old = [kept(timedelta(days=7, seconds=1), "demo-1"), kept(timedelta(days=6, hours=23), "demo-2")]
    assert [each["metadata"]["name"] for each in healing_actions.expired(old, NOW_US)] == ["demo-1"]


@pytest.mark.parametrize(
    ("us", "text"),
    [
        *((0, "0ms"), (35_400, "35ms"), (999_999, "999ms"), (1_240_000, "1.2s"), (99_900_000, "99.9s")),
        *((100_000_000, "1m40s"), (250_000_000, "4m10s"), (7_260_000_000, "2h1m")),
    ],
)
def test_a_duration_reads_like_one(us: int, text: str) -> None:
    assert healing_actions.duration(us) == text


def test_whatever_the_healer_says_fits_into_the_object_and_what_is_empty_is_left_out() -> None:
    spec = {"evidence": ["x" * 5_000] * 100, "target": {"name": "shards", "instance": "", "shards": list(range(2_048))}}
    found = healing_actions.manifest(PLATFORM, "demo-1", {**spec, "about": "", "term": 0}, {"message": "y" * 5_000})
    assert [len(each) for each in found["spec"]["evidence"]] == [crd.TEXT_LENGTH_MAX] * crd.EVIDENCE_MAX
    assert found["spec"]["target"] == {"name": "shards", "shards": list(range(crd.SHARDS_MAX))}
    assert found["spec"]["platform"] == "demo"
    assert found["spec"]["term"] == 0
    assert "about" not in found["spec"]
    assert len(found["status"]["message"]) == crd.TEXT_LENGTH_MAX
    assert found["metadata"]["ownerReferences"][0]["uid"] == "1"


def episode(kind: Kind, target: str = "x", **more: Any) -> Episode:
    return Episode(kind, target, Certainty.CONFIRMED, ("seen",), 0, 0, confirmed=True, **more)


def report(folder: Path, *ticks: Present) -> healing_report.Report:
    """What the operator reads after these ticks."""
    path = folder / healing_report.FILE
    file = ReportFile(path, lambda number: f"demo-{number.wall_us}")
    for each in ticks:
        file.present(each)
    found = healing_report.parse(path.read_text())
    assert found is not None
    return found


def acted(outcome: Outcome = Outcome.DONE) -> Entry:
    about = ("bet-service-1", Certainty.CONFIRMED, ("seen",), NOW_US)
    target = Target("bet-service-1", "bet-service", "bet-service-1", "1")
    return Entry(
        Number(7, 0), 1, Kind.PROCESS_HUNG, *about, target, "Kill", "kill it", "", outcome, "done", NOW_US, NOW_US
    )


def test_the_most_urgent_diagnoses_come_first_and_only_so_many(tmp_path: Path) -> None:
    lasting = [Lasting(episode(Kind.PROCESS_DIED, f"p{n}"), NOW_US + n) for n in range(ACTIVE_MAX)]
    lasting += [Lasting(episode(Kind.OVERLOADED), NOW_US), Lasting(episode(Kind.DATABASE_AWAY), NOW_US + 5)]
    found = report(tmp_path, Present(1, 0, tuple(lasting)))["activeDiagnoses"]
    assert [each["kind"] for each in found[:3]] == ["database-away", "overloaded", "process-died"]
    assert len(found) == ACTIVE_MAX
    assert found[0] == {
        "kind": "database-away",
        "target": "x",
        "certainty": "confirmed",
        "severity": "page",
        "since": "2023-11-14T22:13:20Z",
        "message": "Postgres does not answer, is in recovery, takes no writes or has no free connections (seen)",
    }


def test_repairs_failovers_and_the_last_action_are_told(tmp_path: Path) -> None:
    over = [episode(Kind.OWNER_DIED, gone_ms=ms) for ms in (700, 1_700)]
    found = report(
        tmp_path,
        Present(3, NOW_US, over=(over[0],)),
        Present(3, NOW_US, over=(over[1],), failover=Failover("redis-0", "redis-1", 4, 0, 2_500), last=acted()),
    )
    assert found["meanTimeToRepair"] == [
        {
            "diagnosis": "owner-died",
            "count": 2,
            "meanSeconds": 1.2,
            "longestSeconds": 1.7,
            "lastSeconds": 1.7,
            "lastRepaired": "2023-11-14T22:13:21Z",
        }
    ]
    assert found["lastFailovers"] == [
        {"from": "redis-0", "to": "redis-1", "epoch": 4, "ended": "2023-11-14T22:13:22Z", "seconds": 2.5}
    ]
    assert found["lastAction"]["name"] == "demo-7"
    assert (found["lastAction"]["action"], found["lastAction"]["outcome"]) == ("Kill", "Done")


def test_a_new_healer_removes_what_the_one_before_has_told(tmp_path: Path) -> None:
    path = tmp_path / healing_report.FILE
    path.write_text('{"term": 1, "activeDiagnoses": []}')
    ReportFile(path, str)
    assert not path.exists()


def test_a_report_that_cannot_be_written_is_written_once_it_can_be(tmp_path: Path) -> None:
    """Nor does it end the healer."""
    folder = tmp_path / "folder"
    folder.write_text("a file in its place")
    file = ReportFile(folder / healing_report.FILE, str)
    file.present(Present(1, 0))
    folder.unlink()
    file.present(Present(1, 0))
    assert healing_report.parse((folder / healing_report.FILE).read_text()) is not None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"term": "1"}', '{"term": 1, "lastAction": []}', '{"term": 1, "lastFailovers": 2}']
)
def test_what_is_no_report_is_none(text: str) -> None:
    assert healing_report.parse(text) is None


def told(term: int, *took_s: float, epoch: int = 0) -> healing_report.Report:
    found: healing_report.Report = {"term": term, "activeDiagnoses": [{"kind": "owner-died"}]}
    if took_s:
        repair: healing_report.Report | None = None
        for each in took_s:
            repair = healing_report.repair("owner-died", each, "2026-01-01T00:00:00Z", repair)
        found["meanTimeToRepair"] = [repair]
    if epoch:
        found["lastFailovers"] = [{"epoch": epoch}]
    return found


def test_numbers_go_on_over_terms_and_leaders() -> None:
    """A healer starts again, then another operator leads, which knows the status only."""
    first = Told()
    assert "activeDiagnoses" not in first.fields("uid", {}, None)
    first.fields("uid", {}, told(1, 1.0))
    status = first.fields("uid", {}, told(1, 1.0, 3.0, epoch=2))
    assert status["meanTimeToRepair"][0]["count"] == 2
    status = first.fields("uid", status, told(2, 5.0, epoch=3))
    status = first.fields("uid", status, told(2, 5.0, epoch=3))
    second = Told()
    status = second.fields("uid", status, None)
    assert "activeDiagnoses" not in status, "while no healer runs nobody knows what is wrong"
    status = second.fields("uid", status, told(3, 7.0, epoch=4))
    [repair] = status["meanTimeToRepair"]
    assert (repair["count"], repair["meanSeconds"], repair["longestSeconds"], repair["lastSeconds"]) == (
        4,
        4.0,
        7.0,
        7.0,
    )
    assert [each["epoch"] for each in status["lastFailovers"]] == [4, 3, 2]
    assert status["activeDiagnoses"] == [{"kind": "owner-died"}]


def test_a_platform_that_was_made_anew_begins_from_nothing() -> None:
    found = Told()
    status = found.fields("one", {}, told(1, 1.0))
    assert status["meanTimeToRepair"]
    assert not found.fields("two", {}, None)


def test_only_the_last_failovers_are_kept() -> None:
    base: healing_report.Report = {"lastFailovers": [{"epoch": epoch} for epoch in range(9, 4, -1)]}
    found = healing_report.merged(base, {"term": 2, "lastFailovers": [{"epoch": 10}]})
    assert [each["epoch"] for each in found["lastFailovers"]] == list(range(10, 10 - FAILOVERS_MAX, -1))


def test_a_report_is_json_that_the_status_can_hold() -> None:
    schema = healing_report.schema()
    found = json.loads(json.dumps(told(1, 0.5, epoch=2)))
    for name, value in found.items():
        assert name == "term" or schema[name]["type"] == ("array" if isinstance(value, list) else "object")
