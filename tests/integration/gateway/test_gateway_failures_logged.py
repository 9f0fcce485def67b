"""A request that fails leaves a line under the id that its answer carries, whoever made that id."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from betting.runtime import logs

GET_EVENT = "EventService/GetEvent"


@pytest.fixture
def json_logs() -> Iterator[None]:
    """Logs as a service process writes them; afterwards as before."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    logs.configure(workload="tested", instance="tested-1", boot_id="b")
    structlog.configure(cache_logger_on_first_use=False)  # loggers outlive this test
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def lines_about(output: str, correlation: str) -> list[dict[str, Any]]:
    """What was logged under an id."""
    lines = [json.loads(each) for each in output.splitlines() if each.startswith("{")]
    return [each for each in lines if each.get("correlation_id") == correlation]


@pytest.mark.usefixtures("json_logs")
@pytest.mark.parametrize(
    ("method", "body", "role", "status", "reason", "places"),
    [
        ("HealthMonitorService/GetPlatformStatus", b"{}", "operator", 503, "SERVICE_NOT_CONFIGURED", {"gateway"}),
        (GET_EVENT, b'{"eventId": 7}', "", 404, "EVENT_NOT_FOUND", {"gateway", "service"}),
        (GET_EVENT, b'{"eventId": 1}', "", 500, "INTERNAL", {"gateway", "service"}),
        (GET_EVENT, b'{"eventId": 1.5}', "", 400, "JSON", {"gateway"}),
        ("BetService/GetBet", b'{"betId": "x"}', "bettor", 400, "BET_ID", {"gateway"}),
    ],
)
async def test_a_failure_is_logged_under_the_id_of_its_answer(
    start_gateway: Any,
    capfd: pytest.CaptureFixture[str],
    method: str,
    body: bytes,
    role: str,
    status: int,
    reason: str,
    places: set[str],
) -> None:
    """By the gateway and by the service that failed; no caller named an id, and each has its own."""
    async with start_gateway() as gateway:
        token = gateway.world.token(role=role) if role else ""
        capfd.readouterr()
        answers = [await gateway.post(method, body, token=token) for _ in range(2)]
        output = capfd.readouterr().out
    ids = [headers["X-Correlation-Id"] for _, headers, _ in answers]
    assert len(set(ids)) == 2
    for correlation, (code, _, _) in zip(ids, answers, strict=True):
        assert code == status
        lines = lines_about(output, correlation)
        found = {"gateway" if line["event"] == "call failed" else "service" for line in lines if "reason" in line}
        assert found == places
        assert {line["reason"] for line in lines if "reason" in line} == {reason}
        assert len([line for line in lines if line["event"] == "call failed"]) == 1
        assert all(line["message"] for line in lines if "reason" in line)


@pytest.mark.usefixtures("json_logs")
async def test_success_leaves_no_line(gateway: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Lines cost more than requests: what went well is not logged by the gateway, unless its caller named the id."""
    capfd.readouterr()
    _, headers, _ = await gateway.post("EventService/ListSports", b"{}")
    _, named, _ = await gateway.post("EventService/ListSports", b"{}", X_Correlation_Id="mine-7")
    output = capfd.readouterr().out
    assert not [each for each in lines_about(output, headers["X-Correlation-Id"]) if each["event"] != "request"]
    assert [each["code"] for each in lines_about(output, "mine-7") if each["event"] == "call"] == ["OK"]
    assert named["X-Correlation-Id"] == "mine-7"
