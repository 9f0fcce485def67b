"""The alerts of the chart: the code has every name in them, and each fires when it should and not otherwise."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from betting.health import exposition
from betting.v1 import health_pb2
from betting_operator.healing.diagnoses import TABLE, Kind, Severity

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "charts" / "betting-platform" / "rules" / "alerts.yaml"
PAGE = ROOT / "docs" / "operator" / "metrics.md"
NAMESPACE = "live"
DAY_S = 86_400

Rule = dict[str, Any]


def text_of(runbooks: str = "") -> str:
    """The rules as the template makes them."""
    text = RULES.read_text("utf-8").replace("NAMESPACE", NAMESPACE).replace("RUNBOOKS/", runbooks)
    return text.replace("DRILL_OVERDUE_SECONDS", str(8 * DAY_S))


ALERTS: dict[str, Rule] = {
    rule["alert"]: rule for group in yaml.safe_load(text_of())["groups"] for rule in group["rules"]
}
# A selector: the name of a metric and its matchers.
SELECTOR = re.compile(r"\b(betting_[a-z0-9_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_count", "_sum", "_bucket")}
SUFFIXES["latencies"] = SUFFIXES["histogram"]


def defined() -> Iterator[tuple[str, frozenset[str]]]:
    """Each metric that the code defines by a constant name, and its labels."""
    for folder in ("services", "operator"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                    name, labels = node.args[0], node.args[2] if len(node.args) > 2 else ast.Tuple([], ast.Load())
                    if node.func.attr in SUFFIXES and isinstance(name, ast.Constant) and isinstance(labels, ast.Tuple):
                        for suffix in SUFFIXES[node.func.attr]:
                            yield f"{name.value}{suffix}", frozenset(ast.literal_eval(labels))
    # Those of the platform as they are, of a platform that has nothing yet.
    for family in exposition.families(health_pb2.GetPlatformStatusResponse()):
        yield family.name, frozenset(label for sample in family.samples for label in sample.labels)


def test_every_metric_in_an_alert_is_defined_with_its_labels_and_documented() -> None:
    """The other labels are those that Prometheus adds to what it reads from a pod."""
    known, page, used = dict(defined()), PAGE.read_text("utf-8"), set()
    for alert, rule in ALERTS.items():
        for name, matchers in SELECTOR.findall(rule["expr"]):
            used.add(name)
            assert name in known, f"{alert}: nobody has {name}"
            assert f"`{re.sub('_(count|sum|bucket)$', '', name)}`" in page, f"{name} is not documented"
            labels = {label for label, _, _ in MATCHER.findall(matchers)}
            assert labels - {"namespace"} <= known[name], f"{alert}: {name} has only {known[name]}"
            assert f'namespace="{NAMESPACE}"' in matchers, f"{alert} would be about other namespaces too"
    assert len(used) > 10, "the expressions were not understood"


def _values(label: str, alert: str) -> set[str]:
    return {
        value
        for _, matchers in SELECTOR.findall(ALERTS[alert]["expr"])
        for name, operator, values in MATCHER.findall(matchers)
        if name == label and operator != "!~"
        for value in values.split("|")
    }


def test_every_diagnosis_that_calls_a_person_or_needs_repair_has_an_alert() -> None:
    """shard-stopped is known by the states of shards, which are there without a healer too."""
    of = {alert: _values("diagnosis", alert) for alert in ALERTS}
    assert {value for values in of.values() for value in values} == {
        kind.value for kind in Kind if kind not in {Kind.SHARD_STOPPED, Kind.OVERLOADED}
    }
    calls = {kind.value for kind in Kind if TABLE[kind].severity is Severity.PAGE} - {Kind.SHARD_STOPPED.value}
    critical = [alert for alert, rule in ALERTS.items() if rule["labels"]["severity"] == "critical"]
    assert {value for alert in critical for value in of[alert]} == calls


def test_values_of_other_labels_are_those_that_the_code_gives() -> None:
    samples = {
        (label, value)
        for family in exposition.families(health_pb2.GetPlatformStatusResponse())
        for sample in family.samples
        for label, value in sample.labels.items()
    }
    for alert in ALERTS:
        for label in ("mode", "state"):
            assert {(label, value) for value in _values(label, alert)} <= samples, alert


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_bad_it_is_and_what_to_do(alert: str) -> None:
    """Its runbook is a page, or a heading of one, that exists; one for each diagnosis where its name is the page's."""
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert len(rule["annotations"]["description"].split()) > 10
    url = rule["annotations"]["runbook_url"]
    kinds = _values("diagnosis", alert) or {kind.value for kind in Kind}
    for each in {url.replace("{{ $labels.diagnosis }}", kind) for kind in kinds}:
        path, _, anchor = each.partition("#")
        page = (ROOT / path).read_text("utf-8")
        titles = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
        headings = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert not anchor or anchor in headings, each


def test_the_page_has_every_alert() -> None:
    """With its severity, and how long it waits."""
    rows = re.findall(r"^\| `(Betting\w+)` \| (\w+) \| ([^|]*) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert {(name, severity, wait.strip()) for name, severity, wait in rows} == {
        (name, rule["labels"]["severity"], rule.get("for", "at once")) for name, rule in ALERTS.items()
    }


# For each alert: series (one value a minute) with which it fires at a minute, and with which it does not.
# a+bxn: from a, n times b more; axn: a, and n times again; _xn: n times nothing.
_D, _R = "betting_healer_diagnoses", "betting_healer_repair_seconds_count"
_LISTED = 'betting_operator_listed_timestamp_seconds{pod="a",resource="pods"}'
_STATUS = 'betting_platform_status_at_seconds{pod="m"}'
_DRILL = 'betting_operator_drill_last_success_timestamp_seconds{kind="FailOverRedis"}'
_NAMED = 'betting_operator_drill_named_timestamp_seconds{kind="FailOverRedis"}'
Series = dict[str, str]
CASES: dict[str, tuple[int, list[Series], list[Series]]] = {
    "BettingNoLeader": (
        3,
        [{}, {'betting_operator_leading{pod="a"}': "0x5", 'betting_operator_leading{pod="b"}': "0x5"}],
        [{'betting_operator_leading{pod="a"}': "0x5", 'betting_operator_leading{pod="b"}': "1x5"}],
    ),
    "BettingWatchStale": (6, [{_LISTED: "0x10"}], [{_LISTED: "0+60x10"}]),
    "BettingDrillOverdue": (
        9 * 24 * 60,
        [{_DRILL: "0x12960"}, {_NAMED: "0x12960"}, {_DRILL: "0x12960", _NAMED: "0x12960"}],
        [{_DRILL: "0+60x12960", _NAMED: "0x12960"}, {_NAMED: "172800x12960"}, {}],
    ),
    "BettingNoHealer": (
        5,
        [{'betting_platform_healing_mode{mode="absent"}': "1x10"}],
        [
            {
                'betting_platform_healing_mode{mode="absent"}': "0x10",
                'betting_platform_healing_mode{mode="paused"}': "1x10",
            }
        ],
    ),
    "BettingHealingPaused": (
        70,
        [{'betting_healer_mode{mode="paused"}': "1x80"}, {'betting_healer_mode{mode="dry-run",pod="a"}': "1x80"}],
        [{'betting_healer_mode{mode="paused"}': "1x40 0x1 1x40"}, {'betting_healer_mode{mode="paused"}': "0x80"}],
    ),
    "BettingHealingBlocked": (
        5,
        [{f'{_D}{{diagnosis="redis-blocked"}}': "1x10"}, {f'{_D}{{diagnosis="healing-exhausted"}}': "2x10"}],
        [{f'{_D}{{diagnosis="redis-blocked"}}': "0x10", f'{_D}{{diagnosis="process-hung"}}': "1x10"}],
    ),
    "BettingPersonNeeded": (
        5,
        [{f'{_D}{{diagnosis="ledger-broken"}}': "1x10"}],
        [{f'{_D}{{diagnosis="ledger-broken"}}': "0x10"}, {f'{_D}{{diagnosis="redis-blocked"}}': "1x10"}],
    ),
    "BettingRepairSlow": (
        20,
        [{f'{_D}{{diagnosis="node-lost"}}': "1x30"}],
        [{f'{_D}{{diagnosis="node-lost"}}': "1x10 0x20"}, {f'{_D}{{diagnosis="overloaded"}}': "1x30"}],
    ),
    "BettingHealingRepeated": (
        50,
        [{f'{_R}{{diagnosis="process-died",pod="a"}}': "0x10 1x10 3x10 6x30"}],
        [{f'{_R}{{diagnosis="process-died"}}': "0x10 1x10 2x40"}, {f'{_R}{{diagnosis="shards-misplaced"}}': "0+1x60"}],
    ),
    "BettingHealingRecordIncomplete": (
        30,
        [
            {f"betting_healer_{each}_total": "0x10 3x30"}
            for each in ("actions_left_out", "records_left_out", "record_lost_ticks")
        ],
        [{"betting_healer_actions_left_out_total": "3x40"}],
    ),
    "BettingShardStopped": (
        5,
        [{'betting_platform_shards{state="frozen"}': "1x10"}, {'betting_platform_shards{state="quarantined"}': "1x10"}],
        [{'betting_platform_shards{state="frozen"}': "0x10", 'betting_platform_shards{state="owned"}': "64x10"}],
    ),
    "BettingShardsFree": (
        5,
        [{'betting_platform_shards{state="free"}': "4x10"}],
        [{'betting_platform_shards{state="free"}': "4x1 0x10"}],
    ),
    "BettingDatabaseAway": (
        5,
        [{f'{_D}{{diagnosis="database-away"}}': "1x10"}],
        [{f'{_D}{{diagnosis="database-away"}}': "0x10"}],
    ),
    "BettingRedisReplicaAway": (
        10,
        [{f'{_D}{{diagnosis="redis-replica-away"}}': "1x10"}],
        [{f'{_D}{{diagnosis="redis-replica-away"}}': "1x4 0x10"}],
    ),
    "BettingReadModelsBehind": (
        15,
        [{"betting_platform_projector_lag_entries": "20000x20"}],
        [{"betting_platform_projector_lag_entries": "20000x5 100x15"}],
    ),
    "BettingStreamsBehind": (
        15,
        [{"betting_platform_outbox_lag_entries": "20000x20"}],
        [{"betting_platform_outbox_lag_entries": "20000x5 100x15"}],
    ),
    "BettingStatusStale": (10, [{}, {_STATUS: "0x20"}], [{_STATUS: "0+60x20"}]),
}
OTHER_NAMESPACE = "demo"


def _of(series: str, namespace: str) -> str:
    """The series in a namespace."""
    name, _, labels = series.rstrip("}").partition("{")
    return f'{name}{{namespace="{namespace}",{labels}}}'.replace(",}", "}")


def test_every_alert_has_cases() -> None:
    assert set(CASES) == set(ALERTS)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: the package prometheus)")
def test_each_alert_fires_when_it_should_and_not_otherwise(tmp_path: Path) -> None:
    """As Prometheus' own tool evaluates them; what is wrong in another namespace is no alert of this one."""
    (tmp_path / "alerts.yaml").write_text(text_of(), "utf-8")
    subprocess.run(["promtool", "check", "rules", str(tmp_path / "alerts.yaml")], check=True, stdout=subprocess.PIPE)
    tests = []
    for alert, (minute, firing, quiet) in CASES.items():
        cases = [(True, NAMESPACE, each) for each in firing] + [(False, NAMESPACE, each) for each in quiet]
        if alert not in {"BettingNoLeader", "BettingStatusStale"}:  # without any series of its own these do fire
            cases += [(False, OTHER_NAMESPACE, each) for each in firing]
        for number, (fires, namespace, series) in enumerate(cases):
            tests.append(
                {
                    "name": f"{alert} {number}",
                    "interval": "1m",
                    "input_series": [
                        {"series": _of(name, namespace), "values": values} for name, values in series.items()
                    ],
                    "promql_expr_test": [
                        {
                            "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})',
                            "eval_time": f"{minute}m",
                            "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                        }
                    ],
                }
            )
    found = {"rule_files": ["alerts.yaml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(found), "utf-8")
    command = ["promtool", "test", "rules", "tests.yaml"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
